"""Known queries: a few images of a release's own items, and what a search for them must answer.

    known/images.npy   (Q, H, W, C) uint8
    known/known.json   KnownQueries: row by row the expected neighbours

The answers are reckoned when the release is made, by brute force over the rows. Whoever loads the release embeds the
images with its model, searches them through the store and compares.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from csd_core.audit.checksums import hash_of
from csd_core.data.npy import map_images, write_rows
from csd_core.live.hits import Hits
from csd_core.live.rows import Strings, Vectors, texts_of, vectors_of
from csd_core.live.rules import SearchRules
from csd_core.records.stages import Record
from csd_core.retrieval.gallery import positions_of
from csd_core.retrieval.parts import parts_of
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError

FOLDER, IMAGES, RECORD = "known", "images.npy", "known.json"
QUERIES, NEIGHBOURS = 16, 5
TOLERANCE = 1e-3
"""How far a cosine may lie from the expected one: other processors round otherwise."""

COLUMNS = ("id", "embedded_by", "adapters", "vector")
"""Of rows that are searched."""
Floats = npt.NDArray[np.float64]


class KnownQuery(Record):
    """One query."""

    item: str
    """Whose image it is."""
    ids: tuple[str, ...]
    """The nearest items, nearest first."""
    scores: tuple[float, ...]
    """Their similarities, or what the maps of their groups make of them."""
    margins: tuple[float, ...] = ()
    """How far each score may lie from the expected one; none where the scores are cosines."""


class KnownQueries(Record):
    """known.json."""

    queries: tuple[KnownQuery, ...]


def chosen(ids: pa.ChunkedArray) -> Strings:
    """The items to ask for: evenly spaced among the sorted ids."""
    at = np.unique(np.linspace(0, len(ids) - 1, min(QUERIES, len(ids))).astype(np.intp))
    return np.array(ids.take(pc.sort_indices(ids).take(pa.array(at))).to_pylist(), np.str_)


def expect(
    batches: Iterable[pa.RecordBatch], items: Strings, queries: Mapping[str, Vectors], rules: SearchRules
) -> KnownQueries:
    """The answers, by brute force; those of the rows so far are kept.

    Args:
        batches: All rows, with COLUMNS.
        items: (Q,) whose images the queries are.
        queries: Query model -> (Q, D) as it embeds them.
        rules: How the rows are searched.
    """
    nearest = [_Nearest.none() for _ in items]
    for rows in batches:
        ids, vectors = texts_of(rows, "id"), vectors_of(rows)
        kinds = positions_of(texts_of(rows, "embedded_by"), texts_of(rows, "adapters"))
        parts = parts_of(vectors, kinds, rules.scoring, query_model=rules.query_model, queries=queries.__getitem__)
        for number in range(len(items)):
            scores, margins = np.empty(len(ids)), np.empty(len(ids))
            for part in parts:
                cosines = np.asarray(part.rows) @ np.asarray(part.queries)[number]
                scores[part.positions] = part.score(cosines)
                above = part.score(np.maximum(cosines, np.minimum(cosines + TOLERANCE, 1))) - scores[part.positions]
                margins[part.positions] = np.maximum(above, scores[part.positions] - part.score(cosines - TOLERANCE))
            nearest[number] = nearest[number].among(ids, scores, margins)
    return KnownQueries(
        queries=tuple(
            KnownQuery(
                item=item,
                ids=tuple(found.ids.tolist()),
                scores=tuple(found.scores.tolist()),
                margins=tuple(found.margins.tolist()) if rules.scoring else (),
            )
            for item, found in zip(items.tolist(), nearest, strict=True)
        )
    )


class _Nearest(NamedTuple):
    """The rows nearest to a query so far: n of them, at most NEIGHBOURS, nearest first and then by id."""

    ids: Strings
    scores: Floats
    margins: Floats

    @classmethod
    def none(cls) -> Self:
        return cls(np.empty(0, np.str_), np.empty(0), np.empty(0))

    def among(self, ids: Strings, scores: Floats, margins: Floats) -> Self:
        """Those among them and m more rows."""
        count = min(NEIGHBOURS, len(scores))
        near = np.flatnonzero(scores >= np.partition(scores, len(scores) - count)[len(scores) - count])  # ties too
        every = [np.concatenate(pair) for pair in zip(self, (ids[near], scores[near], margins[near]), strict=True)]
        order = np.lexsort((every[0], -every[1]))[:NEIGHBOURS]
        return type(self)(*(each[order] for each in every))


def save(folder: Path, images: npt.NDArray[np.uint8], record: KnownQueries) -> None:
    """Write both files."""
    folder.mkdir(exist_ok=True)
    with write_rows(folder / IMAGES, images.shape[1:]) as writer:
        writer.append(images)
    record.save(folder / RECORD)


def load(folder: Path) -> tuple[npt.NDArray[np.uint8], KnownQueries]:
    """Read both files.

    Raises:
        ArtifactError: if one is missing or damaged, or they do not belong together.
    """
    record = KnownQueries.load(folder / RECORD)
    images = map_images(folder / IMAGES)
    if len(images) != len(record.queries):
        raise ArtifactError(f"{folder}: {len(images)} images, {len(record.queries)} queries; publish again")
    return images, record


def differences(record: KnownQueries, search: Callable[[int], Hits]) -> Iterator[str]:
    """One line for each query that is answered otherwise.

    Neighbours whose similarities differ by less than rounding may change places.

    Args:
        record: What is expected.
        search: Answers all queries with so many neighbours.
    """
    hits = search(NEIGHBOURS)
    for query, ids, scores in zip(record.queries, hits.ids.tolist(), hits.scores.tolist(), strict=True):
        count = len(query.ids)  # erasures leave fewer
        where = f"known query {query.item[:12]}"
        margins = query.margins or (TOLERANCE,) * count
        # neighbours of two groups may change places, so that the margin of either counts
        beside = [max(margins[max(0, rank - 1) : rank + 2]) for rank in range(count)]
        if any(abs(mine - theirs) > margin for mine, theirs, margin in zip(scores, query.scores, beside, strict=False)):
            yield f"{where}: its neighbours have other similarities than when the release was made"
        elif len(ids) < count or any(
            identity not in ids and score > scores[count - 1] + margin
            for identity, score, margin in zip(query.ids, query.scores, beside, strict=True)
        ):
            yield f"{where}: its nearest items are others than when the release was made"


def without(folder: Path, items: Collection[str]) -> bool:
    """Remove erased items, as queries and as neighbours; returns whether there were any.

    Args:
        folder: Of the known queries.
        items: sha256 of their ids.
    """
    record = KnownQueries.load(folder / RECORD)
    images = map_images(folder / IMAGES)
    stay = [number for number, query in enumerate(record.queries) if hash_of(query.item) not in items]
    left = KnownQueries(queries=tuple(_without_neighbours(record.queries[number], items) for number in stay))
    if left == record:
        return False
    if len(images) == len(record.queries):  # else a run that was killed here has done it
        kept = np.array(images[stay])
        with atomic_file(folder / IMAGES) as partial, write_rows(partial, kept.shape[1:]) as writer:
            writer.append(kept)
    left.save(folder / RECORD)
    return True


def _without_neighbours(query: KnownQuery, items: Collection[str]) -> KnownQuery:
    stay = [rank for rank, identity in enumerate(query.ids) if hash_of(identity) not in items]
    return query.model_copy(
        update={
            "ids": tuple(query.ids[rank] for rank in stay),
            "scores": tuple(query.scores[rank] for rank in stay),
            "margins": tuple(query.margins[rank] for rank in stay if query.margins),
        }
    )
