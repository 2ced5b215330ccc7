"""What a metric is given, as arrays that it can count on; anything else is refused in one line.

N vectors of D dimensions. Embeddings are meant to be of unit length; whoever stores them checks that.
"""

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
import numpy.typing as npt

from csd_core.system.errors import CompatibilityError

MATRIX = 2
"""Axes of N vectors."""

EXACT = 1 << 53
"""Whole numbers beyond this are rounded where they meet fractions."""

TEXT, NUMBER = "text", "numbers"
"""Kinds of labels."""


def vectors_of(values: npt.ArrayLike, what: str) -> npt.NDArray[np.float32]:
    """Return (N, D) float32.

    Args:
        values: The vectors.
        what: Whose they are, for messages.

    Raises:
        CompatibilityError: if they are no matrix of numbers, or one has no finite length.
    """
    try:
        with np.errstate(over="ignore"):
            vectors = np.asarray(_real(np.asarray(values)), np.float32)
    except (TypeError, ValueError):
        raise CompatibilityError(f"{what}: the vectors are no matrix of real numbers; give N x D of them") from None
    if vectors.ndim != MATRIX:
        shape = " x ".join(map(str, vectors.shape))
        raise CompatibilityError(f"{what}: an array of {shape or 'no'} entries is no matrix; give N x D of them")
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(np.einsum("nd,nd->n", vectors, vectors))  # holds N numbers, not N x D
    if not finite.all():
        wrong = np.flatnonzero(~finite)
        raise CompatibilityError(
            f"{what}: {len(wrong)} of {len(vectors)} vectors are not finite (NaN, infinite, too long), such as "
            f"number {wrong[0]}; embed them again with an exported model"
        )
    return vectors


def _real(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind not in "fiubO":
        raise TypeError
    return array


def labels_of(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    """Return (N,) texts or numbers.

    Args:
        values: The labels.
        what: Whose they are, for messages.

    Raises:
        CompatibilityError: if they are not one list of texts or one of numbers.
    """
    if isinstance(values, np.ndarray) and values.dtype != object:
        labels = values
    else:
        given = list(values) if isinstance(values, Iterable) and not isinstance(values, str) else [[]]
        kinds = {_kind(each) for each in given}
        if len(kinds) > 1 or None in kinds:
            raise CompatibilityError(
                f"{what} labels: {_first_of(given)} is no list of texts or of numbers; give one kind"
            )
        labels = np.array(given)
        if labels.dtype == object or (labels.dtype.kind == "U" and any(str(each).endswith("\0") for each in given)):
            raise CompatibilityError(f"{what} labels: {_first_of(given)} are too large, or end in NUL; give others")
    if labels.ndim != 1 or (len(labels) and _kind(labels[0].item()) is None):
        raise CompatibilityError(
            f"{what} labels: {_first_of(labels)} is no list of texts or of numbers; give one for each"
        )
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise CompatibilityError(f"{what} labels: one is not finite; name the class of each")
    return labels


def _kind(label: object) -> str | None:
    return TEXT if isinstance(label, str) else NUMBER if isinstance(label, (Real, np.bool_)) else None


def _first_of(values: Iterable[Any]) -> str:
    """Return the first few of some labels."""
    words = repr(np.asarray(values, object).tolist())
    return words if len(words) <= 60 else words[:57] + "..."  # noqa: PLR2004 - of a line


def refuse_other_kinds(queries: npt.NDArray[Any], rows: npt.NDArray[Any]) -> None:
    """Refuse texts that would be compared with numbers.

    Raises:
        CompatibilityError: if one are texts and the other numbers, or numbers of two types are too large.
    """
    if len(queries) and len(rows):
        first, second = _kind(queries[0].item()), _kind(rows[0].item())
        if first != second:
            raise CompatibilityError(f"query labels are {first}, gallery labels {second}: give one kind")
        types = {queries.dtype.kind, rows.dtype.kind}
        if np.result_type(queries, rows).kind == "f" and types & set("iu"):
            largest = max(float(np.abs(labels.astype(np.float64)).max()) for labels in (queries, rows))
            if largest > EXACT:
                raise CompatibilityError(
                    f"query labels are {queries.dtype}, gallery labels {rows.dtype}: as large as {largest:.0f} the two "
                    "cannot be compared exactly; give both as int64, or as text"
                )


def own_groups(
    own: npt.ArrayLike | None, groups: npt.ArrayLike | None, *, queries: int, rows: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Return (N,) number of each query's own group, -1 where it has none, and (G,) number of each row's group.

    Without `groups` each row is the only one of its group, whose number is the row's position.

    Raises:
        CompatibilityError: if there is not one whole number for each query and row, or a position lies outside the
            gallery.
    """
    of_rows = np.arange(rows) if groups is None else np.asarray(groups)
    if of_rows.shape != (rows,) or not _whole(of_rows):
        raise CompatibilityError(f"groups: give {rows} whole numbers, one for each row of the gallery")
    if own is None:
        return np.full(queries, -1, np.intp), of_rows.astype(np.intp, copy=False)
    of_queries = np.asarray(own)
    if of_queries.shape != (queries,) or not _whole(of_queries):
        raise CompatibilityError(f"own: give {queries} whole numbers, one for each query; -1 for no row")
    least, most = of_queries.min(initial=-1), of_queries.max(initial=-1)
    if least < -1 or (groups is None and most >= rows):
        raise CompatibilityError(f"own: positions {least} to {most} of {rows} rows; -1 is for no row")
    return of_queries.astype(np.intp, copy=False), of_rows.astype(np.intp, copy=False)


def _whole(numbers: npt.NDArray[Any]) -> bool:
    return numbers.dtype.kind in "iu" or not numbers.size
