"""What promoting a candidate would do to search, measured on the previous gallery's stored rows.

N measured items (one split's rows alone, so that training images never flatter a figure), of which the first N_old
were in the gallery before; queries and rows are the same items, a query's own row left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.records import Alternative, CrossTest, Measurement, Paired, Recalls
from csd_core.release.evidence import Evidence
from csd_core.release.strategies import NoGallery, UpgradeStrategy
from csd_core.retrieval.metrics import (
    Bools,
    Floats,
    Recall,
    map_at_r,
    recall_at,
    recall_of_groups,
    recall_on_own_gallery,
)

K = (1, 5, 10)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    """A way to serve with the outcome of each query."""

    measurement: Measurement
    recall: Recall


def _search(queries: Floats, rows: Floats, labels: npt.NDArray[np.str_]) -> Recall:
    own = np.arange(len(rows))
    return recall_at(queries, rows, query_labels=labels, gallery_labels=labels, k=K, self_index=own)


def _recalls(recall: Recall, precision: npt.NDArray[np.float64], chosen: Bools) -> Recalls:
    some = recall.of(chosen)
    counted = precision[chosen & recall.possible]
    return Recalls(
        queries=some.queries,
        excluded=some.excluded,
        at={k: some.at(k) for k in K},
        map_at_r=float(counted.mean()) if len(counted) else 0.0,
    )


def _measure(evidence: Evidence, *, queries: Floats, rows: Floats) -> _Outcome:
    """Serve `rows` (N, D) to `queries` (N, D)."""
    labels, old = evidence.labels, evidence.old
    recall = _search(queries, rows, labels)
    own = np.arange(len(rows))
    precision = map_at_r(queries, rows, query_labels=labels, gallery_labels=labels, self_index=own)
    everything = np.ones_like(old)
    return _Outcome(
        measurement=Measurement(
            overall=_recalls(recall, precision, everything),
            old=_recalls(recall, precision, old) if old.any() else None,
            new=_recalls(recall, precision, ~old) if not old.all() else None,
            per_task=recall_of_groups(recall, evidence.tasks),
            own_gallery=recall_on_own_gallery(queries, rows, labels=labels, groups=evidence.tasks),
        ),
        recall=recall,
    )


def paired(first: Recall, second: Recall, chosen: Bools) -> Paired:
    """Compare the same queries at top 1 under two systems.

    Args:
        first: The reference.
        second: What it is compared with.
        chosen: (N,) the queries that are meant; those without a possible hit do not count.
    """
    counted = chosen & first.possible & second.possible
    before, after = first.hits[:, 0] & counted, second.hits[:, 0] & counted
    return Paired(queries=int(counted.sum()), lost=int((before & ~after).sum()), gained=int((after & ~before).sum()))


def _groups(evidence: Evidence) -> dict[str, Bools]:
    groups = {"overall": np.ones_like(evidence.old)}
    if evidence.old.any():
        groups["old"] = evidence.old
        for task in np.unique(evidence.tasks[evidence.old]):
            groups[f"task:{task}"] = evidence.old & (evidence.tasks == task)
    return groups


def compare(
    evidence: Evidence, strategies: Sequence[UpgradeStrategy], *, gallery_rows: int
) -> tuple[Measurement | None, CrossTest | None, tuple[Alternative, ...]]:
    """Measure the status quo, the cross-test and every way to serve the candidate.

    Args:
        evidence: The measured items.
        strategies: Ways to serve, cheapest first; ignored for a first model, which has only `none`.
        gallery_rows: Rows of the whole gallery, for the cost.

    Returns:
        Status quo and cross-test (None for a first model), and the alternatives in the order given.
    """
    quo_rows = evidence.status_quo_rows()
    if quo_rows is None or evidence.champion is None:
        outcome = _measure(evidence, queries=evidence.candidate, rows=evidence.candidate)
        return None, None, (_alternative(NoGallery(), outcome, {}, gallery_rows),)
    quo = _measure(evidence, queries=evidence.champion, rows=quo_rows)
    alternatives = []
    for strategy in strategies:
        reason = strategy.why_not(evidence)
        if reason:
            alternatives.append(
                Alternative(
                    strategy=strategy.name,
                    possible=False,
                    why_not=reason,
                    rows_embedded=strategy.cost(gallery_rows),
                    measured=None,
                    against_status_quo={},
                )
            )
            continue
        outcome = _measure(evidence, queries=evidence.candidate, rows=strategy.rows(evidence))
        against = {name: paired(quo.recall, outcome.recall, chosen) for name, chosen in _groups(evidence).items()}
        alternatives.append(_alternative(strategy, outcome, against, gallery_rows))
    return quo.measurement, _cross_test(evidence, evidence.champion), tuple(alternatives)


def _alternative(
    strategy: UpgradeStrategy, outcome: _Outcome, against: dict[str, Paired], gallery_rows: int
) -> Alternative:
    return Alternative(
        strategy=strategy.name,
        possible=True,
        why_not=None,
        rows_embedded=strategy.cost(gallery_rows),
        measured=outcome.measurement,
        against_status_quo=against,
    )


def _cross_test(evidence: Evidence, champion: Floats) -> CrossTest | None:
    """Both models' queries of old items on the stored rows; None where they cannot meet."""
    old = evidence.old
    if not old.any() or evidence.candidate.shape[1] != evidence.stored.shape[1]:
        return None
    by_champion = _search(champion[old], evidence.stored, evidence.labels[old])
    by_candidate = _search(evidence.candidate[old], evidence.stored, evidence.labels[old])
    everything = np.ones(int(old.sum()), np.bool_)
    return CrossTest(
        self_test=by_champion.at(1),
        cross_test=by_candidate.at(1),
        paired=paired(by_champion, by_candidate, everything),
    )
