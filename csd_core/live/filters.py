"""Which rows a search considers: equality or one-of on a row's words, and since when it was written.

A filter is values, never text of a query language, so whatever a user typed is matched literally.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import Expr, col, lit

from csd_core.live.text import refuse_undecodable
from csd_core.system.errors import ParamsError

Bools = npt.NDArray[np.bool_]
COLUMNS = ("label", "task", "embedded_by", "origin")
"""What a filter may name."""
_FIRST, _LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """All that are given must hold.

    Attributes:
        label: Class names, one of them; None for any.
        task: Tasks.
        embedded_by: Digests of the models that made the vectors.
        origin: pipeline, live.
        since: Written then or later; a time without a zone is UTC.
    """

    label: tuple[str, ...] | None = None
    task: tuple[str, ...] | None = None
    embedded_by: tuple[str, ...] | None = None
    origin: tuple[str, ...] | None = None
    since: datetime | None = None

    def __post_init__(self) -> None:
        """Refuse a filter that one word was given to: its letters would be the values.

        Raises:
            ParamsError: naming it.
        """
        for name in COLUMNS:
            values = getattr(self, name)
            if isinstance(values, str) or (values is not None and not all(isinstance(value, str) for value in values)):
                raise ParamsError(f"filter {name}: {values!r}; give a tuple of words")
            for value in values or ():
                refuse_undecodable(value, what=f"filter {name}:")

    def mask(self, rows: pa.RecordBatch) -> Bools | None:
        """(N,) rows that match; None if every row does.

        Args:
            rows: With the columns of COLUMNS, dictionary-encoded, and written_at.
        """
        masks = [_one_of(rows[name], values) for name, values in self._wanted()]
        if self.since is not None:
            late = pc.greater_equal(rows["written_at"], pa.scalar(self._since, pa.timestamp("us", "UTC")))
            masks.append(late.to_numpy(zero_copy_only=False))
        return reduce(np.logical_and, masks) if masks else None

    def predicate(self) -> Expr | None:
        """The same for LanceDB; None if every row matches."""
        terms: list[Expr] = [col(name).isin(list(values)) for name, values in self._wanted()]
        if self.since is not None:
            terms.append(col("written_at") >= lit(self._since))
        return reduce(lambda left, right: left & right, terms) if terms else None

    def _wanted(self) -> Iterable[tuple[str, tuple[str, ...]]]:
        return [(name, values) for name in COLUMNS if (values := getattr(self, name)) is not None]

    @property
    def _since(self) -> datetime:
        """In UTC; a moment before the first year or after the last is the first or the last that there is."""
        since = self.since or _FIRST
        if since.tzinfo is None:
            return since.replace(tzinfo=UTC)
        try:
            return since.astimezone(UTC)
        except OverflowError:
            return _FIRST if since.year == _FIRST.year else _LAST


def _one_of(column: pa.DictionaryArray, values: tuple[str, ...]) -> Bools:
    """(N,) whether a row's word is one of the values; each distinct word is compared once."""
    among = pc.is_in(column.dictionary, value_set=pa.array(values, pa.string()))
    matches: Bools = among.to_numpy(zero_copy_only=False)[column.indices.to_numpy()]
    return matches
