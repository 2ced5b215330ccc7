"""A gallery that lives in a folder of its own, with all that its next upgrade needs.

    gallery.json rows.parquet vectors.npy   the rows (csd_core.retrieval.gallery)
    items.json                              ItemsRecord: what ids mean, what was served at best
    lineage/                                the models and adapters that made the rows
    failed.parquet                          rows that an upgrade left out, with reasons; only if there are any

A gallery that the pipeline made has none of the other files: its ids are of images in its model's form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from csd_core.data.tables import write_table
from csd_core.records.stages import ImageForm, Record
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import RECORD as LINEAGE_RECORD
from csd_core.retrieval.lineage import Lineage
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError, CompatibilityError

ITEMS, LINEAGE, FAILED = "items.json", "lineage", "failed.parquet"


class ItemsRecord(Record):
    """items.json."""

    form: ImageForm
    """An item's id is the hash of its pixels in this form."""
    best_own_gallery: dict[str, float]
    """Task -> best Recall@1 on its own gallery that was ever served (the ratchet's reference)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnGallery:
    """A gallery with all that its next upgrade needs.

    Attributes:
        gallery: The rows.
        items: What their ids mean, and what was served at best.
        lineage: The models and adapters that made them, as far as they are known.
    """

    gallery: Gallery
    items: ItemsRecord
    lineage: Lineage

    @classmethod
    def load(cls, folder: Path, *, model: Embedder, file: Path) -> Self:
        """Read a gallery that `save` or the pipeline wrote.

        Args:
            folder: The gallery.
            model: The model whose queries search it.
            file: Its ONNX file.

        Raises:
            ArtifactError: if a file is missing or damaged, or the gallery is empty.
            CompatibilityError: if another model searches it.
        """
        if not folder.is_dir():
            raise ArtifactError(f"{folder}: there is no such gallery; `csd upgrade index` makes one")
        gallery = Gallery.load(folder)
        if not len(gallery):
            raise ArtifactError(f"{folder}: the gallery is empty, so there is nothing to upgrade")
        if gallery.query_model != model.digest:
            raise CompatibilityError(
                f"{folder}: is searched by model {str(gallery.query_model)[:12]}, the old model given is "
                f"{model.digest[:12]}; give that one, with the preprocessing options it was indexed with"
            )
        known = (
            ItemsRecord.load(folder / ITEMS)
            if (folder / ITEMS).is_file()
            else ItemsRecord(form=model.metadata.form, best_own_gallery={})
        )
        lineages = [each for each in (folder / LINEAGE, folder.parent / LINEAGE) if (each / LINEAGE_RECORD).is_file()]
        before = Lineage.load(lineages[0]) if lineages else Lineage(models={}, adapters={})
        return cls(gallery=gallery, items=known, lineage=before.extended(models=[file]))

    def save(self, folder: Path, *, failed: Mapping[str, str]) -> None:
        """Write everything, whole or not at all.

        Args:
            folder: To write; there is none yet.
            failed: Id -> reason, of rows that were left out.
        """
        with atomic_folder(folder) as partial:
            self.gallery.save(partial)
            self.items.save(partial / ITEMS)
            needed = self.lineage.needed_by(self.gallery.groups(), query_models=self.gallery.query_models)
            needed.save(partial / LINEAGE)
            if failed:
                write_table(partial / FAILED, {"id": list(failed), "reason": list(failed.values())})


def refuse_existing(path: Path) -> None:
    """Nothing is overwritten: a folder that is there may be anything.

    Raises:
        ArtifactError: if it is there.
    """
    if path.exists():
        raise ArtifactError(f"{path}: exists already; remove it or name another")
