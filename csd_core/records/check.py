"""What the check of a candidate found: check.json."""

from collections.abc import Iterable
from typing import Literal

from csd_core.params.upgrade import Order, Rest, Strategy
from csd_core.records.by_class import ByClass, CloserLook, QueriesByClass
from csd_core.records.ranking import GroupScoring
from csd_core.records.stages import Digest, Record


class Paired(Record):
    """The same queries under two systems, at top 1; differences are second minus first."""

    queries: int
    lost: int
    """Hit under the first, miss under the second: negative flips where the first is the status quo."""
    gained: int

    @property
    def difference(self) -> float:
        """Change of Recall@1."""
        return (self.gained - self.lost) / self.queries if self.queries else 0.0


class Recalls(Record):
    """Recall of one group of queries."""

    queries: int
    excluded: int
    """Queries without a second item of their class: no hit is possible, so they do not count."""
    at: dict[int, float]
    """K -> Recall@K; 0 where no query counts."""
    map_at_r: float

    @property
    def recall_at_1(self) -> float | None:
        """Recall@1; None where no query counts."""
        return self.at[1] if self.queries else None


class Measurement(Record):
    """One way to serve, measured on the gate's queries over all rows that it would serve."""

    overall: Recalls
    old: Recalls | None
    """Queries of items that were in the gallery before; None for the first model."""
    new: Recalls | None
    per_task: dict[str, float]
    """Task -> Recall@1 of its queries over the whole gallery."""
    own_gallery: dict[str, float]
    """Task -> Recall@1 of its queries over its own rows."""
    split_alone: float | None = None
    """Recall@1 over the rows of the queries' split alone, so that no training image flatters it; the methods are
    compared by it. None where no query counts."""
    map_queries: int | None = None
    """Of how many queries, evenly chosen, mAP@R is the mean; None for all of them."""


def strategy_name(strategy: Strategy, share: float | None) -> str:
    """Return a strategy as people read it, with the share of a partial backfill."""
    if strategy == "none":
        return "first model"
    return strategy if share is None else f"{strategy} {100 * share:g} %"


class Cost(Record):
    """What a way to serve costs, the heaviest first: changing rows, once; then each query and each stored row."""

    rows_embedded: int
    """Old rows of the whole gallery that are re-embedded from their images."""
    query_models: int
    """Models that embed a query."""
    rows_mapped: int
    """Old rows that an adapter maps."""
    searches: int | None
    """Searches that a query needs, one for each query model and score map; None in a report of before."""
    row_bytes: int | None
    """Bytes of a stored vector; None in a report of before."""

    @property
    def words(self) -> str:
        """The same in a phrase."""
        found = [f"{self.rows_embedded:,} rows re-embedded", f"{self.rows_mapped:,} mapped"]
        for number, what, more in (
            (self.query_models, "query model", "s"),
            (self.searches, "search", "es"),
            (self.row_bytes, "byte", "s"),
        ):
            if number is not None:
                found.append(f"{number:,} {what}{more if number != 1 else ''}")
        return ", ".join(found) + ("" if self.row_bytes is None else " a row")

    @property
    def order(self) -> tuple[int, ...]:
        """What ways to serve are sorted by, cheapest first."""
        return self.rows_embedded, self.query_models, self.rows_mapped, self.searches or 0, self.row_bytes or 0


class Alternative(Record):
    """A strategy as it would be served, against the status quo."""

    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill re-embeds."""
    possible: bool
    why_not: str | None
    """Why it cannot be served at all, such as another dimension."""
    rows_embedded: int
    """Old rows of the whole gallery that would have to be re-embedded: its cost."""
    rows_mapped: int
    """Old rows that an adapter would map."""
    query_models: int = 1
    """Models that embed a query."""
    searches: int | None = None
    """Searches that a query needs, one for each query model and score map; None in a report of before."""
    row_bytes: int | None = None
    """Bytes of a stored vector; None in a report of before."""
    scoring: tuple[GroupScoring, ...] = ()
    """How rows of some provenances would be searched; the candidate searches the others, by cosine."""
    measured: Measurement | None
    against_status_quo: dict[str, Paired]
    """`overall`, `old`, and `task:NAME` for each task with old rows."""
    hits_against_backfill: Paired | None = None
    """Of the queries that hit under the status quo: `lost` are those that a full backfill keeps and this way loses,
    `gained` the reverse; `queries` counts all queries. None for a first model."""
    by_class: ByClass | None = None
    """None on `select`, where it cannot be served, and in a report of before."""

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)

    @property
    def way(self) -> tuple[Strategy, float | None]:
        """What tells it from the others of a report."""
        return self.strategy, self.share

    @property
    def cost(self) -> Cost:
        """What it would cost."""
        return Cost(
            rows_embedded=self.rows_embedded,
            query_models=self.query_models,
            searches=self.searches,
            row_bytes=self.row_bytes,
            rows_mapped=self.rows_mapped,
        )


def by_cost(alternatives: Iterable[Alternative]) -> tuple[Alternative, ...]:
    """Return the alternatives, cheapest first; those that are impossible keep their places."""
    given = tuple(alternatives)
    possible = iter(sorted((each for each in given if each.possible), key=lambda each: each.cost.order))
    return tuple(next(possible) if each.possible else each for each in given)


def most_found(alternatives: Iterable[Alternative]) -> Alternative | None:
    """Return the way to serve with the highest Recall@1 of all queries, of equals the first; None for none."""
    measured = [each for each in alternatives if each.measured]
    return max(measured, key=lambda each: each.measured.overall.at[1] if each.measured else 0.0, default=None)


class CrossTest(Record):
    """Old items only: queries by old and by new model on the rows as they are stored (BCT, Shen et al., CVPR 2020)."""

    self_test: float
    """C[k,k]: the champion's queries on the stored rows; Recall@1."""
    cross_test: float
    """C[t,k]: the candidate's queries on the same rows; Recall@1."""
    paired: Paired
    """First the self-test, second the cross-test."""
    adapted: Paired | None = None
    """First the self-test, second the candidate's queries on these rows as `adapt` would map them; None where no
    adapter can."""


class Rehearsal(Record):
    """Every way to serve measured on `select`, where one is chosen; of before, partial backfills alone."""

    status_quo: Measurement
    alternatives: tuple[Alternative, ...]


class PartialCurve(Record):
    """Recall against the share of old rows re-embedded, most useful first; measured on `select`."""

    order: Order
    shares: tuple[float, ...]
    """From 0 (nothing but what has no other path) to 1."""
    recalls: tuple[float, ...]
    """Recall@1 of all queries."""
    area: float


class PartialCurves(Record):
    """How far a partial backfill would get."""

    order: Order
    """The one with the largest area."""
    rest: Rest
    """What becomes of the other rows."""
    curves: tuple[PartialCurve, ...]


class ServingPoint(Record):
    """Recall@1 of a gallery of which a share of the old rows is re-embedded.

    Nobody searches it while a backfill runs, for the finished gallery is served at once. It is what a backfill ends
    with if the images of the other rows are missing.
    """

    share: float
    naive: float | None
    """The candidate's queries over the mixture; None where the dimensions differ."""
    merged: float
    """Each generation searched in its own space, merged by the scores that `merge` starts with (Seo et al., 2023)."""


class CheckReport(Record):
    """What promoting the candidate would do to search: one split's queries over all rows that would be served."""

    task: str
    split: Literal["gate"]
    sampled_of: int | None = None
    """Gate queries at hand, where fewer of them asked (`upgrade.max_queries`); None where all did."""
    candidate: Digest
    champion: Digest | None
    pending: tuple[str, ...]
    """Tasks whose data the candidate also trained on."""
    status_quo: Measurement | None
    cross_test: CrossTest | None
    alternatives: tuple[Alternative, ...]
    """Cheapest first."""
    rehearsal: Rehearsal | None
    """None for a first model, and where no `select` query asks."""
    partial: PartialCurves | None
    adapter_methods: dict[str, float]
    """Method of the adapters -> Recall@1 of all queries under `adapt` with it; the choice between them is not made
    here."""
    during_backfill: tuple[ServingPoint, ...]
    best_own_gallery: dict[str, float]
    """Task -> best Recall@1 on its own gallery that was ever served (the ratchet's reference)."""
    queries_by_class: QueriesByClass | None = None
    """None in a report of before."""
    closer_look: CloserLook | None = None
    """None where no query counts, and in a report of before."""
