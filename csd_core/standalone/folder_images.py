"""Images of planned items, read from their folder when a backfill asks for them."""

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.data.decode import decode
from csd_core.data.tables import Strings, read_table
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError
from csd_core.upgrade.backfill.images import Fetched


@dataclass(frozen=True)
class FolderImages:
    """Images by id; one that is gone, damaged or another picture now is listed, not raised.

    Attributes:
        root: The folder.
        items: Table of ids, paths and hashes of pixels.
        ids_in: The form of those pixels.
        form: The form the model takes.
    """

    root: Path
    items: Path
    ids_in: ImageForm
    form: ImageForm

    def __reduce__(self) -> tuple[type["FolderImages"], tuple[object, ...]]:
        place = (self.root.absolute(), self.items.absolute())
        return FolderImages, (*place, self.ids_in, self.form)  # never the open table

    @cached_property
    def _known(self) -> dict[str, tuple[str, str]]:
        """Id -> path, and the hash of the pixels."""
        table = read_table(self.items, ("id", "path", "pixels"))
        return dict(
            zip(table["id"].tolist(), zip(table["path"].tolist(), table["pixels"].tolist(), strict=True), strict=True)
        )

    def images(self, ids: Strings, /) -> Fetched:
        """Decode the images of (n,) ids."""
        images = np.empty((len(ids), self.form.size, self.form.size, self.form.channels), np.uint8)
        read = np.zeros(len(ids), np.bool_)
        reasons: dict[str, str] = {}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # harmless, or refused by decode
            for row, identity in enumerate(ids.tolist()):
                try:
                    images[row] = self._one(identity)
                    read[row] = True
                except DataError as error:
                    reasons[identity] = str(error)
        return Fetched(images=images[read], read=read, reasons=reasons)

    def mark(self) -> str:
        """Return a digest of the table of items, with the folder of their images if that is there.

        Raises:
            OSError: if either is not.
        """
        self.root.stat()
        return f"{self.root.absolute()} {hashlib.sha256(self.items.read_bytes()).hexdigest()}"

    def _one(self, identity: str) -> npt.NDArray[np.uint8]:
        path, pixels = self._known.get(identity, (None, ""))
        if path is None:
            raise DataError("had no image in the folder when it was planned")
        known = self._decoded(path, self.ids_in)
        if hashlib.sha256(known.data).hexdigest() != pixels:
            raise DataError(f"{path} is another picture now")
        return known if self.form == self.ids_in else self._decoded(path, self.form)

    def _decoded(self, path: str, form: ImageForm) -> npt.NDArray[np.uint8]:
        try:
            return decode(self.root / path, form)
        except DataError as error:
            raise DataError(f"{path} {error}") from None
