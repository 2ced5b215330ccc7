"""A FAISS index in a file: a flat one, which has its vectors as they were; others are trained on them, and refused."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from csd_core.stores.file import FileStore
from csd_core.stores.protocol import BATCH_ROWS, Floats, Rows, Strings
from csd_core.system.errors import ArtifactError


class FaissFile(FileStore):
    """Vectors of IndexFlat, with the ids of IndexIDMap if it has them and their places otherwise."""

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._opened()[1].ntotal)

    def rows(self) -> Iterator[Rows]:
        """Yield all rows."""
        _owner, flat, ids = self._opened()
        for start in range(0, flat.ntotal, BATCH_ROWS):
            count = min(BATCH_ROWS, flat.ntotal - start)
            yield Rows(ids[start : start + count].astype(np.str_), flat.reconstruct_n(start, count))

    def assemble(self, target: Path, ids: Strings, vectors: Floats) -> None:
        """Write a flat index of the rows that have a vector; they keep their ids."""
        owner, before, numbers = self._opened()
        names = numbers.astype(np.str_)
        at = np.searchsorted(ids, names).clip(max=len(ids) - 1)
        found = ids[at] == names
        after: Any = faiss.IndexFlat(vectors.shape[1], before.metric_type)
        if isinstance(owner, faiss.IndexIDMap) or not found.all():
            after = faiss.IndexIDMap2(after)
            after.add_with_ids(vectors[at[found]], numbers[found])
        else:
            after.add(vectors[at])
        faiss.write_index(after, str(target))

    def _read(self) -> Any:
        try:
            return faiss.read_index(str(self.path))
        except RuntimeError as error:
            raise ArtifactError(f"{self.name}: is no FAISS index ({str(error).split(' at ')[0]})") from None

    def _opened(self) -> tuple[Any, Any, np.ndarray]:
        """Return the index, the flat one that it owns or is, and (n,) ids."""
        index = self._read()
        mapped = isinstance(index, faiss.IndexIDMap)
        flat = faiss.downcast_index(index.index) if mapped else index
        if not isinstance(flat, faiss.IndexFlat):
            raise ArtifactError(
                f"{self.name}: is a {type(flat).__name__}; upgrade a flat index (IndexFlat, also in IndexIDMap), then "
                "train and fill yours from it"
            )
        ids = faiss.vector_to_array(index.id_map).copy() if mapped else np.arange(flat.ntotal)
        return index, flat, ids
