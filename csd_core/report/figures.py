"""Every figure of the report, measured on the test items alone.

T tasks, G distinct promoted generations, N test items of all tasks. A generation embeds the N items once; a champion
that was carried over is no new generation. Shares between 0 and 1; NaN where there is nothing to measure.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.metrics import Floats, Recall, map_at_r, recall_at

Matrix = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]

K = (1, 5, 10)

CLASSIFY_BLOCK = 4096
"""Embeddings classified at a time."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """A promoted model with its view of the test items.

    Attributes:
        vectors: (N, D) unit embeddings; may be memory-mapped.
        columns: (K, D) rows of its classifier.
        classes: The K class names of those rows.
    """

    vectors: Floats
    columns: Floats
    classes: tuple[str, ...]

    def correct(self, rows: Ints, labels: Strings, *, among: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Return (len(rows),) whether the highest logit among some classes is the item's own.

        z = |f| cos(theta), so |f| changes no argmax. An item whose class the model does not know is an error.
        """
        chosen = [column for column, name in enumerate(self.classes) if name in set(among)]
        if not chosen:
            return np.zeros(len(rows), np.bool_)
        names = np.array([self.classes[column] for column in chosen])
        weights = self.columns[chosen] / np.linalg.norm(self.columns[chosen], axis=1, keepdims=True)
        right = np.empty(len(rows), np.bool_)
        for start in range(0, len(rows), CLASSIFY_BLOCK):
            some = rows[start : start + CLASSIFY_BLOCK]
            best = (self.vectors[some] @ weights.T).argmax(axis=1)
            right[start : start + CLASSIFY_BLOCK] = names[best] == labels[some]
        return right


@dataclass(frozen=True, slots=True, kw_only=True)
class AllSeen:
    """Search over the test items of every class seen by a stage.

    Attributes:
        queries: Queries that count.
        excluded: Queries whose class has no item outside of their group.
        at: K -> Recall@K.
        accuracy: Of the argmax over all seen classes.
    """

    queries: int
    excluded: int
    at: dict[int, float]
    accuracy: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Figures:
    """What the test items say. a[t, i] concerns task i's items after stage t, i <= t.

    Attributes:
        items: (T,) test items of each task.
        excluded: (T,) those whose class has no item outside of their group in the task.
        own_recall: (T, T) Recall@1 on the task's own gallery.
        own_accuracy: (T, T) argmax within the task's classes.
        seen_recall: (T, T) Recall@1 of the task's queries over all items seen.
        seen_accuracy: (T, T) argmax over all seen classes.
        all_seen: After each stage; None where nothing is served or measured.
        map_at_r: Mean average precision at R over all seen items after the last stage.
        cross: (G, G) C[t, k], queries by generation t on rows by generation k, k <= t, over all N items.
    """

    items: Ints
    excluded: Ints
    own_recall: Matrix
    own_accuracy: Matrix
    seen_recall: Matrix
    seen_accuracy: Matrix
    all_seen: tuple[AllSeen | None, ...]
    map_at_r: float | None
    cross: Matrix


def measure(
    *,
    labels: Strings,
    groups: Ints,
    task_of: Ints,
    task_classes: Sequence[Sequence[str]],
    active: Sequence[int | None],
    generations: Sequence[Generation],
) -> Figures:
    """Measure every stage and every pair of generations.

    Args:
        labels: (N,) class names.
        groups: (N,) numbers of the items' groups of near-duplicates, each of one class.
        task_of: (N,) number of the task an item came with, not falling.
        task_classes: Class names of each of the T tasks.
        active: The active generation after each stage; None while there is none.
        generations: In order of promotion.
    """
    tasks = len(task_classes)
    own_rows = [np.flatnonzero(task_of == task) for task in range(tasks)]
    own = [_own_galleries(generation, labels, groups, own_rows, task_classes) for generation in generations]
    matrices = [np.full((tasks, tasks), np.nan) for _ in range(4)]
    own_recall, own_accuracy, seen_recall, seen_accuracy = matrices
    all_seen: list[AllSeen | None] = []
    for stage, number in enumerate(active):
        if number is None:
            all_seen.append(None)
            continue
        past = slice(0, stage + 1)
        own_recall[stage, past], own_accuracy[stage, past] = own[number][0][past], own[number][1][past]
        rows = np.flatnonzero(task_of <= stage)
        seen = tuple(dict.fromkeys(name for names in task_classes[: stage + 1] for name in names))
        recall = _search(
            generations[number].vectors[rows], generations[number].vectors[rows], labels[rows], groups[rows]
        )
        right = generations[number].correct(rows, labels, among=seen)
        for task in range(stage + 1):
            mine = task_of[rows] == task
            some = recall.of(mine)
            seen_recall[stage, task] = some.at(1) if some.queries else np.nan
            seen_accuracy[stage, task] = right[mine].mean() if mine.any() else np.nan
        all_seen.append(_all_seen(recall, right))
    return Figures(
        items=np.array([len(rows) for rows in own_rows], np.intp),
        excluded=np.array([_excluded(labels[rows], groups[rows]) for rows in own_rows], np.intp),
        own_recall=own_recall,
        own_accuracy=own_accuracy,
        seen_recall=seen_recall,
        seen_accuracy=seen_accuracy,
        all_seen=tuple(all_seen),
        map_at_r=_map_at_r(generations[active[-1]].vectors, labels, groups) if active[-1] is not None else None,
        cross=_cross(generations, labels, groups),
    )


def _search(queries: Floats, rows: Floats, labels: Strings, groups: Ints) -> Recall:
    """Queries and rows are the same items; the rows of an item's own group are left out."""
    return recall_at(queries, rows, query_labels=labels, gallery_labels=labels, k=K, own=groups, groups=groups)


def _own_galleries(
    generation: Generation,
    labels: Strings,
    groups: Ints,
    own_rows: Sequence[Ints],
    task_classes: Sequence[Sequence[str]],
) -> tuple[list[float], list[float]]:
    """Recall@1 on each task's own gallery and accuracy within its classes."""
    recalls, accuracies = [], []
    for rows, classes in zip(own_rows, task_classes, strict=True):
        vectors = generation.vectors[rows]
        recall = _search(vectors, vectors, labels[rows], groups[rows])
        right = generation.correct(rows, labels, among=classes)
        recalls.append(recall.at(1) if recall.queries else np.nan)
        accuracies.append(float(right.mean()) if len(rows) else np.nan)
    return recalls, accuracies


def _all_seen(recall: Recall, right: npt.NDArray[np.bool_]) -> AllSeen | None:
    if not recall.queries:
        return None
    return AllSeen(
        queries=recall.queries,
        excluded=recall.excluded,
        at={k: recall.at(k) for k in K},
        accuracy=float(right.mean()),
    )


def _excluded(labels: Strings, groups: Ints) -> int:
    """Items whose class has no other group."""
    _, code, items = np.unique(labels, return_inverse=True, return_counts=True)
    groups_of_class = np.bincount(code[np.unique(groups, return_index=True)[1]], minlength=len(items))
    return int(items[groups_of_class == 1].sum())


def _map_at_r(vectors: Floats, labels: Strings, groups: Ints) -> float | None:
    precision = map_at_r(vectors, vectors, query_labels=labels, gallery_labels=labels, own=groups, groups=groups)
    counted = precision[~np.isnan(precision)]
    return float(counted.mean()) if len(counted) else None


def _cross(generations: Sequence[Generation], labels: Strings, groups: Ints) -> Matrix:
    cross = np.full((len(generations), len(generations)), np.nan)
    for query, row in _pairs(len(generations)):
        queries, rows = generations[query].vectors, generations[row].vectors
        if queries.shape[1] == rows.shape[1]:
            recall = _search(queries, rows, labels, groups)
            cross[query, row] = recall.at(1) if recall.queries else np.nan
        else:
            cross[query, row] = 0.0  # vectors of another dimension cannot be searched, so nothing is found
    return cross


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    return ((query, row) for query in range(count) for row in range(query + 1))
