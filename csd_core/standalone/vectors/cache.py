"""Vectors by model and item: what was given or embedded once is not embedded again, nor by the next command.

    <folder>/<key of model and form>/<key of ids>.parquet    id, vector

An item is known by its key: the hash of its pixels, or its id where there are no images. Files are only added, so
commands may share a folder.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.data.tables import Strings
from csd_core.records.stages import ImageForm
from csd_core.retrieval.metrics import Floats, Ints
from csd_core.standalone.vectors.source import open_vectors
from csd_core.system.atomic import atomic_file

CHUNK = 8192
"""Items embedded and written at a time."""


@dataclass(slots=True, eq=False)
class _Known:
    """Vectors of one model.

    Attributes:
        place: Key -> row.
        vectors: (n, D).
    """

    place: dict[str, int]
    vectors: Floats

    def rows(self, keys: Strings) -> Ints:
        return np.array([self.place.get(key, -1) for key in keys.tolist()], np.intp)

    def add(self, keys: Strings, vectors: Floats) -> None:
        self.place.update(zip(keys.tolist(), range(len(self.place), len(self.place) + len(keys)), strict=True))
        self.vectors = np.concatenate([self.vectors, vectors]) if len(self.vectors) else vectors


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VectorCache:
    """Unit vectors of some models.

    Attributes:
        folder: Where they stay; None keeps them in memory, for one command.
        form: The form whose pixels the keys are hashes of; None where keys are ids.
    """

    folder: Path | None = None
    form: ImageForm | None = None
    _known: dict[str, _Known] = field(default_factory=dict)

    def give(self, model: str, keys: Strings, vectors: Floats) -> None:
        """Take (n, D) vectors that a model made elsewhere; they are not written."""
        self._of(model).add(keys, vectors)

    def knows(self, model: str, keys: Strings) -> npt.NDArray[np.bool_]:
        """Return (n,) whether an item's vector is known."""
        return self._of(model).rows(keys) >= 0

    def vectors(self, model: str, keys: Strings, embed: Callable[[Ints], Floats] | None = None) -> Floats:
        """Return (n, D) vectors of some items.

        Args:
            model: Digest.
            keys: (n,) of the items.
            embed: Makes (m, D) vectors of those at m positions among them; asked for what is not known, and for none to
                learn D. None where all are known.
        """
        known = self._of(model)
        if embed is None:
            return known.vectors[known.rows(keys)]
        lacking = np.flatnonzero(known.rows(keys) < 0)
        for start in range(0, len(lacking), CHUNK):
            some = lacking[start : start + CHUNK]
            made = embed(some)
            known.add(keys[some], made)
            self._write(model, keys[some], made)
        return known.vectors[known.rows(keys)] if len(keys) else embed(lacking)

    def _of(self, model: str) -> _Known:
        if model not in self._known:
            known = self._known[model] = _Known({}, np.empty((0, 0), np.float32))
            for file in sorted(self._folder(model).glob("*.parquet")) if self.folder else ():
                for keys, vectors in open_vectors(file).batches():
                    new = known.rows(keys) < 0
                    known.add(keys[new], vectors[new])
        return self._known[model]

    def _folder(self, model: str) -> Path:
        form = self.form.model_dump() if self.form else None
        key = hashlib.sha256(json.dumps([model, form], sort_keys=True).encode()).hexdigest()
        return (self.folder or Path()) / key[:32]

    def _write(self, model: str, keys: Strings, vectors: Floats) -> None:
        if self.folder is None:
            return
        folder = self._folder(model)
        folder.mkdir(parents=True, exist_ok=True)
        flat = pa.array(np.ascontiguousarray(vectors).ravel())
        columns = {"id": pa.array(keys.tolist()), "vector": pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])}
        name = hashlib.sha256("\n".join(keys.tolist()).encode()).hexdigest()[:32]
        with atomic_file(folder / f"{name}.parquet") as partial:
            pq.write_table(pa.table(columns), partial)
