"""Answers of a search in the live gallery."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.live.rows import Strings

WORDS = ("id", "label", "task", "embedded_by", "space", "origin", "source", "path")
"""Columns of a row that an answer shows."""


class Hits(NamedTuple):
    """Answers to Q queries, K each, nearest first; where fewer rows match, ids are empty and scores -inf.

    Attributes:
        ids: (Q, K).
        labels: (Q, K).
        tasks: (Q, K).
        embedded_by: (Q, K) digest of the model that made the vector.
        spaces: (Q, K) digest of the model whose space it is in.
        origins: (Q, K) pipeline or live.
        sources: (Q, K) where the pipeline has the item from; empty where a person wrote it, or nobody knows.
        paths: (Q, K) its name there, or the one that the person gave; empty where it has none.
        scores: (Q, K) float32: the cosine, or what its group's map makes of it.
        cosines: (Q, K) float32 of the row and the query by the model that found it.
        found_by: (Q, K) digest of that model.
    """

    ids: Strings
    labels: Strings
    tasks: Strings
    embedded_by: Strings
    spaces: Strings
    origins: Strings
    sources: Strings
    paths: Strings
    scores: npt.NDArray[np.float32]
    cosines: npt.NDArray[np.float32]
    found_by: Strings

    def of(self, query: int, *, k: int) -> "Hits":
        """The first `k` answers to one query: (1, k)."""
        return Hits._make(column[query : query + 1, :k] for column in self)


def hits_of(
    words: Mapping[str, Strings], scores: npt.NDArray[np.float32], cosines: npt.NDArray[np.float32], found_by: Strings
) -> Hits:
    """Return answers, all columns (Q, K), from the columns of words by their names in the table."""
    return Hits(
        ids=words["id"],
        labels=words["label"],
        tasks=words["task"],
        embedded_by=words["embedded_by"],
        spaces=words["space"],
        origins=words["origin"],
        sources=words["source"],
        paths=words["path"],
        scores=scores,
        cosines=cosines,
        found_by=found_by,
    )
