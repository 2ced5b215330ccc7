"""What a check found class by class: counts of gate queries, the most frequent confusions, and examples.

No query and no row of `test` is named here. The lists are short, however many classes there are.
"""

from typing import Literal

from csd_core.params.upgrade import Strategy
from csd_core.records.stages import Digest, Record

HANDFUL = 5
"""With fewer queries a class says little: one of them is more than 20 points of its Recall@1."""

Outcome = Literal["lost", "gained", "kept", "missed"]
"""What became of a query at top 1: lost and gained changed; kept hits and missed misses both times."""


class ClassRecall(Record):
    """A class under one way to serve."""

    name: str
    images: int
    """Of the class, in the gallery that would be served."""
    queries: int
    """That count."""
    before: int | None
    """Of them, those that hit at top 1 under the status quo; None for a first model."""
    after: int
    """Those that hit as it would be served."""

    @property
    def recall(self) -> float:
        """Recall@1 as it would be served."""
        return self.after / self.queries

    @property
    def fallen(self) -> int:
        """Hits fewer than under the status quo; negative where there are more."""
        return (self.before or 0) - self.after


class ByClass(Record):
    """The classes under one way to serve."""

    never_found: int
    """Classes that have queries, of which none hits."""
    worst: tuple[ClassRecall, ...]
    """Those with the lowest Recall@1 and those that fall deepest, worst first."""


class ClassQueries(Record):
    """A class with its gate queries."""

    name: str
    images: int
    """Of the class, in the gallery that would be served."""
    queries: int
    """That count."""


class QueriesByClass(Record):
    """How many gate queries ask for each class."""

    classes: int
    few: int
    """Classes with fewer than HANDFUL queries."""
    fewest: tuple[ClassQueries, ...]
    """Those with the fewest queries, fewest first; of equals those with fewer images."""


class Confusion(Record):
    """Queries of a class that find another one first."""

    asked: str
    found: str
    times: int
    examples: tuple[tuple[Digest, Digest], ...]
    """Ids of some of the queries, each with that of the row it finds."""


class SearchExample(Record):
    """A query with what it finds, nearest first; all by id."""

    query: Digest
    outcome: Outcome
    before: tuple[Digest, ...]
    """Under the status quo; empty for a first model."""
    after: tuple[Digest, ...]


class CloserLook(Record):
    """Queries one by one, under the way to serve that finds most: the least bad one where all fail."""

    strategy: Strategy
    share: float | None
    missed: int
    """Queries that count and miss."""
    looked_at: int
    """Of them, those whose wrong row was looked up, evenly chosen."""
    confusions: tuple[Confusion, ...]
    """The most frequent ones among those that were looked at."""
    examples: tuple[SearchExample, ...]
