"""Which scores make one fair ranking of rows of several models: fitted and chosen on `select`.

Q queries, P provenances. What decides in a mixed ranking is the level of each group's cosines, not their order: queries
of a new model are nearer to any vector of that model than to a right one of another. So each provenance gets a strictly
increasing map from its cosines to scores. Four kinds are fitted; the choice is made by fitting on one half of the
queries and measuring on the other, and the simplest kind that does as well as the best to within the noise is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from csd_core.records.ranking import GroupScoring, Identity, Logistic, Offset, Quantile, ScoreMap, artanh
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.metrics import Recall
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.search.pieces import Nearest, find_nearest

Doubles = npt.NDArray[np.float64]

CANDIDATES = 400
"""Offsets that are tried for a group in one turn."""

TURNS = 3
"""Over all groups, for the best offset of one depends on the others'."""

KNOTS = 64
"""Of a quantile map."""

OUTERMOST = 1.01
"""Beyond any cosine of vectors that a gallery accepts as unit length."""

AS_GOOD = 0.5
"""Standard errors by which a simpler kind may stay behind the best."""


def with_scores(
    plans: Sequence[UpgradePlan], select: EvaluationData, today: Recall | None, gallery: Gallery
) -> list[UpgradePlan]:
    """Return plans with a score for each provenance, fitted and chosen on `select`; newest query models come first.

    Where a provenance cannot be measured, for no item that asks or is measured is of it, cosines are scores.

    Args:
        plans: What becomes of the old rows.
        select: The items, of which those of `select` ask.
        today: Outcome of these queries without the upgrade; None where there are none.
        gallery: The old rows.
    """
    models = [_models_of(plan, gallery) for plan in plans]
    maps: list[Sequence[ScoreMap]] = [[Identity() for _ in mine] for mine in models]
    ways = {}
    for number, (plan, mine) in enumerate(zip(plans, models, strict=True)):
        pieces = select.way_after(plan).pieces
        if len(mine) > 1 and today is not None and {piece.provenance for piece in pieces} == set(mine):
            ways[number] = [
                replace(piece, query_model=model, score=Identity())
                for provenance, model in mine.items()
                for piece in pieces
                if piece.provenance == provenance
            ]
    if ways and today is not None:
        for number, nearest in zip(ways, find_nearest(select, list(ways.values()), today), strict=True):
            own = Provenance(plans[number].model, "")
            maps[number] = choose(nearest, native=[provenance == own for provenance in models[number]])
    return [_scored(plan, mine, scores, select) for plan, mine, scores in zip(plans, models, maps, strict=True)]


def _models_of(plan: UpgradePlan, gallery: Gallery) -> dict[Provenance, str]:
    """Return, of each provenance after an upgrade, the model whose queries search it."""
    age = [plan.model, *gallery.query_models].index
    found = {
        provenance: plan.query_models.get(provenance, plan.model)
        for provenance in [*plan.provenances(gallery), Provenance(plan.model, "")]
    }
    return dict(sorted(found.items(), key=lambda item: age(item[1])))


def _scored(
    plan: UpgradePlan, models: dict[Provenance, str], maps: Sequence[ScoreMap], select: EvaluationData
) -> UpgradePlan:
    if set(models.values()) == {plan.model} and all(isinstance(each, Identity) for each in maps):
        return plan
    return plan.scored(
        tuple(
            GroupScoring(
                embedded_by=provenance.embedded_by,
                adapters=provenance.adapters,
                query_model=model,
                dimension=select.embedded(model).shape[1],
                score=score,
            )
            for (provenance, model), score in zip(models.items(), maps, strict=True)
        )
    )


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
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - takes a second to import

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
