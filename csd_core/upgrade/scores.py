"""Which scores make one fair ranking of rows of several models: fitted and chosen on `select`.

Q queries, P provenances. What decides in a mixed ranking is the level of each group's cosines, not their order: queries
of a new model are nearer to any vector of that model than to a right one of another. So each provenance gets a strictly
increasing map from its cosines to scores. Four kinds are fitted; the choice is made by fitting on one half of the
queries and measuring on the other, and the simplest kind that does as well as the best to within the noise is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from csd_core.records.ranking import GroupScoring, Identity, Logistic, Offset, Quantile, ScoreMap, artanh
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import TIE, Bools, Floats, Part, Recall
from csd_core.retrieval.parts import Search
from csd_core.upgrade.evaluation_data import EvaluationData, ServedRows
from csd_core.upgrade.plans import UpgradePlan

Doubles = npt.NDArray[np.float64]

NEAREST = 20
"""Rows of each group, nearest to a query, from which a logistic map learns."""

CANDIDATES = 400
"""Offsets that are tried for a group in one turn."""

TURNS = 3
"""Over all groups, for the best offset of one depends on the others'."""

KNOTS = 64
"""Of a quantile map."""

DECIMALS = 6
"""Of the cosines that maps are fitted to: beyond them they depend on how a matrix product was cut up."""

OUTERMOST = 1.01
"""Beyond any cosine of vectors that a gallery accepts as unit length."""

AS_GOOD = 0.5
"""Standard errors by which a simpler kind may stay behind the best."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearest:
    """What the queries find in each part.

    Attributes:
        right: (P, Q) largest cosine of a right row, less what counts as a tie; -inf where there is none.
        wrong: (P, Q) largest cosine of a wrong row.
        cosines: P of (Q, n) largest cosines of all rows, n at most NEAREST.
        of_class: P of (Q, n) whether that row is right.
        counts: (Q,) queries that have a right row at all.
        hit_today: (Q,) queries that hit without an upgrade.
        half: (Q,) queries of the first half, the same in any order of items.
    """

    right: Doubles
    wrong: Doubles
    cosines: tuple[Floats, ...]
    of_class: tuple[Bools, ...]
    counts: Bools
    hit_today: Bools
    half: Bools

    def of(self, chosen: Bools) -> "Nearest":
        """Return the same for some of the queries."""
        return Nearest(
            right=self.right[:, chosen],
            wrong=self.wrong[:, chosen],
            cosines=tuple(each[chosen] for each in self.cosines),
            of_class=tuple(each[chosen] for each in self.of_class),
            counts=self.counts[chosen],
            hit_today=self.hit_today[chosen],
            half=self.half[chosen],
        )

    def merits(self, maps: Sequence[ScoreMap]) -> Doubles:
        """(Q,) 1 for a hit, -1 for a query that hits today and would miss, else 0."""
        right, wrong = (
            np.max([score(part) for score, part in zip(maps, parts, strict=True)], axis=0)
            for parts in (self.right, self.wrong)
        )
        hits = right > wrong
        return np.where(self.counts, hits * 1.0 - (self.hit_today & ~hits), 0.0)


def with_scores(plan: UpgradePlan, select: EvaluationData, today: Recall | None, gallery: Gallery) -> UpgradePlan:
    """Return the plan with a score for each provenance, fitted and chosen on `select`; newest query models come first.

    Where a provenance cannot be measured, for no item that asks or is measured is of it, cosines are scores.

    Args:
        plan: What becomes of the old rows.
        select: The items, of which those of `select` ask.
        today: Outcome of these queries without the upgrade; None where there are none.
        gallery: The old rows.
    """
    own = Provenance(plan.model, "")
    age = [plan.model, *gallery.query_models].index
    provenances = sorted(
        dict.fromkeys([*plan.provenances(gallery), own]),
        key=lambda provenance: age(plan.query_models.get(provenance, plan.model)),
    )
    if provenances == [own]:
        return plan
    models = [plan.query_models.get(provenance, plan.model) for provenance in provenances]
    maps: list[ScoreMap] = [Identity() for _ in provenances]
    rows = select.rows_after(plan)
    if today is not None and set(rows.kinds) == set(provenances):
        rows = replace(rows, kinds={provenance: rows.kinds[provenance] for provenance in provenances})
        native = [provenance == own for provenance in provenances]
        maps = choose(find_nearest(select, rows, models, today), native=native)
    if set(models) == {plan.model} and all(isinstance(each, Identity) for each in maps):
        return plan
    scoring = tuple(
        GroupScoring(
            embedded_by=provenance.embedded_by,
            adapters=provenance.adapters,
            query_model=model,
            dimension=select.embedded(model).shape[1],
            score=score,
        )
        for provenance, model, score in zip(provenances, models, maps, strict=True)
    )
    return plan.scored(scoring)


def find_nearest(select: EvaluationData, rows: ServedRows, models: Sequence[str], today: Recall) -> Nearest:
    """Search each provenance's rows by the queries of its model."""
    parts = []
    for positions, model in zip(rows.kinds.values(), models, strict=True):
        queries = select.embedded(model)
        parts.append(
            Part(
                queries=queries[select.asked],
                rows=rows.vectors[positions, : queries.shape[1]],
                positions=positions,
            )
        )
    search = Search.prepare(parts, select.labels[select.asked], select.labels, select.asked)
    count = len(select.asked)
    right, wrong = (np.full((len(parts), count), -np.inf) for _ in range(2))
    sizes = [min(NEAREST, len(part.rows)) for part in search.parts]
    cosines = tuple(np.full((count, size), -np.inf, np.float32) for size in sizes)
    of_class = tuple(np.zeros((count, size), np.bool_) for size in sizes)
    for asked, similar in search.blocks():
        for some, slices in search.classes(asked):
            mine = asked[some]
            for part, held in enumerate(slices):
                values, size = similar[part][some], sizes[part]
                top = np.argpartition(-values, size - 1, axis=1)[:, :size]
                cosines[part][mine] = np.take_along_axis(values, top, axis=1)
                of_class[part][mine] = (top >= held.start) & (top < held.stop)
                if held.stop > held.start:
                    right[part, mine] = values[:, held].max(axis=1) - TIE
                    values[:, held] = -np.inf
                wrong[part, mine] = values.max(axis=1, initial=-np.inf)
    return Nearest(
        right=np.round(right, DECIMALS),
        wrong=np.round(wrong, DECIMALS),
        cosines=tuple(np.round(each, DECIMALS) for each in cosines),
        of_class=of_class,
        counts=np.isfinite(right).any(axis=0) & today.possible,
        hit_today=today.hits[:, 0],
        half=_half(select.candidate[select.asked]),
    )


def _half(queries: Floats) -> Bools:
    """(Q,) every second query by content."""
    half = np.zeros(len(queries), np.bool_)
    half[np.lexsort(queries.T)[::2]] = True
    return half


def choose(nearest: Nearest, *, native: Sequence[bool]) -> list[ScoreMap]:
    """Return a map for each part: of the kinds that do as well as the best on held-out halves, the simplest.

    Args:
        nearest: What the queries find.
        native: Of each part, whether its rows are the candidate's own: these keep their cosine where offsets are added.
    """
    if not nearest.counts.any():
        return [Identity() for _ in native]
    half = nearest.half
    merits: dict[str, Doubles] = {}
    for kind, fit in KINDS.items():
        held_out = np.zeros(len(half))
        for mine in (half, ~half):
            maps = fit(nearest.of(mine), native)
            if maps is None:
                break
            held_out[~mine] = nearest.of(~mine).merits(maps)
        else:
            merits[kind] = held_out[nearest.counts]
    best = max(merits.values(), key=lambda each: each.sum())
    for kind, each in merits.items():
        behind = best - each
        noise = behind.std() / np.sqrt(max(1, len(behind)))
        maps = KINDS[kind](nearest, native)
        if behind.mean() <= AS_GOOD * noise and maps is not None:
            return maps
    return [Identity() for _ in native]


def fit_identity(nearest: Nearest, native: Sequence[bool]) -> list[ScoreMap]:  # noqa: ARG001 - one signature for all
    """Return the cosines themselves."""
    return [Identity() for _ in native]


def fit_offsets(nearest: Nearest, native: Sequence[bool]) -> list[ScoreMap] | None:
    """Return the offsets that serve most queries; of equal ones the smallest."""
    offsets = np.zeros(len(native))
    for _ in range(TURNS):
        before = offsets.copy()
        for part in np.flatnonzero(~np.array(native)).tolist():
            offsets[part] = _best_offset(nearest, offsets, part)
        if np.array_equal(before, offsets):
            break
    return [Offset(offset=float(each)) if each else Identity() for each in offsets]


def _best_offset(nearest: Nearest, offsets: Doubles, part: int) -> float:
    """Return the best offset of one part, the others' given."""
    others = np.arange(len(offsets)) != part
    if not others.any():
        return 0.0
    right, wrong = ((values[others] + offsets[others, None]).max(axis=0) for values in (nearest.right, nearest.wrong))
    with np.errstate(invalid="ignore"):
        turns = np.concatenate([wrong - nearest.right[part], right - nearest.wrong[part]])
    turns = np.unique(turns[np.isfinite(turns)])
    if not len(turns):
        return 0.0
    between = (turns[1:] + turns[:-1]) / 2
    spread = between[np.linspace(0, len(between) - 1, min(CANDIDATES, len(between))).round().astype(np.intp)]
    tried = np.concatenate([[0.0], spread])
    tried = tried[np.argsort(np.abs(tried), kind="stable")][:, None]
    hits = np.maximum(right, nearest.right[part] + tried) > np.maximum(wrong, nearest.wrong[part] + tried)
    merit = np.where(nearest.counts, hits * 1 - (nearest.hit_today & ~hits), 0).sum(axis=1)
    return float(tried[merit.argmax(), 0])


def fit_logistic(nearest: Nearest, native: Sequence[bool]) -> list[ScoreMap] | None:
    """Return the log-odds that a row near a query is of its class; None where a part does not show how they rise."""
    maps: list[ScoreMap] = []
    for part in range(len(native)):
        found = np.isfinite(nearest.cosines[part])
        near, right = artanh(nearest.cosines[part][found].astype(np.float64)), nearest.of_class[part][found]
        if right.all() or not right.any():
            return None
        order = np.lexsort((right, near))  # so that no sum hangs on the order of items
        near, right = near[order], right[order]
        with threadpool_limits(1, user_api="blas"):
            fitted = LogisticRegression(C=1e4, max_iter=1000).fit(near[:, None], right)
        slope = float(fitted.coef_[0, 0])
        if slope <= 0:
            return None
        maps.append(Logistic(slope=slope, offset=float(fitted.intercept_[0])))
    return maps


def fit_quantiles(nearest: Nearest, native: Sequence[bool]) -> list[ScoreMap] | None:
    """Return the share of queries whose most similar wrong row is less similar; None where a part has no wrong row."""
    maps: list[ScoreMap] = []
    for part in range(len(native)):
        wrong = nearest.wrong[part]
        wrong = np.sort(wrong[np.isfinite(wrong)])
        if not len(wrong):
            return None
        known, last = (
            np.unique(wrong[np.linspace(0, len(wrong) - 1, min(KNOTS, len(wrong))).astype(np.intp)]),
            len(wrong),
        )
        shares = np.searchsorted(wrong, known, side="right") / (last + 1)
        maps.append(
            Quantile(
                known=(-OUTERMOST, *known.tolist(), OUTERMOST),
                shares=(0.0, *shares.tolist(), 1.0),
            )
        )
    return maps


KINDS: dict[str, Callable[[Nearest, Sequence[bool]], list[ScoreMap] | None]] = {
    "identity": fit_identity,
    "offset": fit_offsets,
    "logistic": fit_logistic,
    "quantile": fit_quantiles,
}
"""Simplest first."""
