"""faiss's index of one group of rows: cells of like vectors, each vector in a few bits, and the nearest by those bits.

n rows, D dimensions, Q queries, m candidates of a query. It only proposes rows; whoever asks compares their own
vectors. One thread searches, for a service answers in several processes.
"""

from math import ceil
from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
import numpy.typing as npt

from csd_core.live.rows import Vectors
from csd_core.system.errors import ArtifactError, message_of

FEW = 20_000
"""Up to so many rows are compared one by one: an index is no faster, and misses some."""
BLOCK = 1 << 18
"""Vectors added at a time."""
_PER_CELL = 64
"""Vectors from which a cell's centre is learned."""
_MOST_CELLS = 1 << 14
_SEED = 1234
_MARGIN, _TIMES = 160, 4
"""So many candidates more than K, and so many times K, are compared by their own vectors."""
_DENSE = 1_000_000
"""Beyond so many rows candidates and probes grow as cells do: with the root of the rows."""

faiss: Any = faiss_module
"""Its annotations lack much of it."""
Ints = npt.NDArray[np.int64]


def build(vectors: Vectors, path: Path, *, threads: int = 1) -> None:
    """Write the index of some vectors; equal vectors and libraries give equal bytes.

    Args:
        vectors: (n, D) of unit length, n at least 16; may be a mapped file.
        path: Where.
        threads: That build it.
    """
    count, dimension = vectors.shape
    cells = min(_MOST_CELLS, 2 ** round(np.log2(np.sqrt(2 * count))), count)
    codes = dimension // 2 if dimension % 2 == 0 else dimension
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        index = faiss.index_factory(dimension, f"IVF{cells},PQ{codes}x4fs", faiss.METRIC_INNER_PRODUCT)
        for clustering in (index.cp, index.pq.cp):
            clustering.seed = _SEED
            clustering.min_points_per_centroid = 1  # faiss warns of fewer on the terminal
        drawn = np.random.default_rng(_SEED).choice(count, min(count, _PER_CELL * cells), replace=False)
        index.train(np.ascontiguousarray(vectors[np.sort(drawn)]))
        for start in range(0, count, BLOCK):
            index.add(np.ascontiguousarray(vectors[start : start + BLOCK]))
        path.write_bytes(faiss.serialize_index(index))  # faiss's own writer tells no full disk
    finally:
        faiss.omp_set_num_threads(before)


class Nearest:
    """An index on disk, mapped.

    Args:
        path: Of the file.

    Raises:
        ArtifactError: if it is missing or damaged.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC | faiss.IO_FLAG_READ_ONLY)
        except RuntimeError as error:
            raise ArtifactError(
                f"{path}: the index cannot be read ({message_of(error)}); `csd verify` says more"
            ) from None
        self.count = int(self._index.ntotal)

    def candidates(
        self, queries: Vectors, *, k: int, probes: int, among: npt.NDArray[np.uint8] | None, count: int
    ) -> Ints:
        """Rows that are likely among the nearest: (Q, m) numbers, -1 where the cells searched have no more.

        Args:
            queries: (Q, D) of unit length.
            k: At most `count`.
            probes: Cells searched where every row may be found; more where fewer may, and of more than 10⁶ rows.
            among: (ceil(n / 8),) a bit for each row that may be found; None for all.
            count: How many may.
        """
        denser = max(1.0, (self.count / _DENSE) ** 0.5)
        wanted = min(count, max(_TIMES * k, k + round(_MARGIN * denser)))
        parameters = faiss.SearchParametersIVF(
            nprobe=min(int(self._index.nlist), ceil(probes * denser * self.count / count)),
            sel=None if among is None else faiss.IDSelectorBitmap(among),
        )
        faiss.omp_set_num_threads(1)
        found: Ints = self._index.search(np.ascontiguousarray(queries), wanted, params=parameters)[1]
        return found
