"""Open what a check left behind and make the page on which a person decides.

Test images are neither embedded nor pictured: they stay unseen until the report. N items, D dimensions.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csd_core.data.pool import ItemPool, Strings
from csd_core.data.shards import load_shard
from csd_core.params.model import Params
from csd_core.params.upgrade import Policy
from csd_core.records.check import CheckReport, strategy_name
from csd_core.records.stages import Champion, SeenShards
from csd_core.records.verdict import Promoted, Rejected, VerdictFile
from csd_core.report.advice.next_steps import Place
from csd_core.report.advice.task import advice_on
from csd_core.report.charts.confusions import SHOWN, confusions
from csd_core.report.charts.reviews import flips
from csd_core.report.charts.svg import Chart
from csd_core.report.charts.thumbnails import Thumbnails, shrunk
from csd_core.report.examples import Example, Neighbour, mistakes_of
from csd_core.report.review import ReviewPage, review_of
from csd_core.report.review_case import Case, Option, alternative_of
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import Ints, Part, recall_over
from csd_core.retrieval.parts import NOTHING, nearest
from csd_core.system.errors import ArtifactError
from csd_core.upgrade.compatibility import parts_after, today
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.gate import judge
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.sampling import choose, evenly
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named
from csd_core.workspace import Workspace

PICTURED = 6
"""Lost queries that are shown."""
NEIGHBOURS = 4
"""What each finds."""
QUERIES = 2_000
"""Gate queries among which lost ones are looked for, evenly drawn."""
ROWS = 20_000
"""Items that they search, evenly drawn: so many take a CPU a minute or two to embed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _DrawnPool(ItemPool):
    """A pool that gives no more than ROWS items at a time."""

    def rows(self, *splits: str) -> Ints:
        """Return positions of items of some splits, evenly drawn."""
        found = super().rows(*splits)
        return found[evenly(len(found), ROWS)]


def review_page(workspace: Workspace, params: Params, task: str, *, place: Place = "review") -> ReviewPage:
    """Return what a person sees of a task's candidate, before or after the stage `promote`.

    Args:
        workspace: Where the task's check lies.
        params: Of the same checkout.
        task: Whose candidate it is.
        place: Where the person decides.

    Raises:
        ArtifactError: if an artefact is missing, or the check is of another candidate.
    """
    previous = params.task(task).previous
    report = CheckReport.load(workspace.check(task))
    candidate = _embedder(workspace.candidate_embedder(task), params)
    if candidate.digest != report.candidate:
        raise ArtifactError(
            f"{workspace.check(task)}: is of candidate {report.candidate[:12]}, the model beside it is "
            f"{candidate.digest[:12]}; run `csd run` to check it again"
        )
    champion = Champion.load(workspace.champion_embedder(previous) / "champion.json")
    seen = SeenShards.load(workspace.seen(task))
    pool = _DrawnPool(shards=[load_shard(workspace.shard(name)) for name in seen.tasks])
    gallery = Gallery.load(workspace.gallery(previous))
    searchable = np.isin(pool.splits, params.gallery.splits)
    verdict = _verdict(workspace, params, task, report)
    case = Case(
        report=report,
        verdict=verdict,
        arrived=seen.shards[-1],
        tasks=_asked(pool, ItemPool.rows(pool, *params.gallery.splits)),
        old_rows=len(gallery),
        new_rows=int((searchable & ~np.isin(pool.ids, gallery.ids)).sum()),
        options=tuple(_options(report, params.gate)),
        advice=advice_on(workspace, params, report, verdict, place=place),
    )
    chart = None
    if champion.digest and case.nearest:
        situation = Situation.of(
            gallery, candidate, CandidateAdapters.load(workspace.candidate_adapters(task)), params.upgrade
        )
        strategy = strategy_named(
            case.nearest.strategy,
            share=case.nearest.share,
            order=report.partial.order if report.partial else None,
            rest=report.partial.rest if report.partial else None,
        )
        models = Lineage.load(workspace.lineage(previous)).models
        shown = [split for split in params.gallery.splits if split != "test"]
        evaluation = evaluation_data_of(
            pool,
            gallery,
            shown,
            candidate=candidate,
            active={digest: _embedder(models[digest], params) for digest in gallery.query_models},
        )
        evaluation = evaluation.asking(evaluation.asked[evenly(len(evaluation.asked), QUERIES)])
        after = parts_after(evaluation, strategy.plan(situation).scored(case.nearest.scoring))
        chart = _flips(case, pool, pool.rows(*shown), evaluation, after=after)
    return review_of(case, flips=chart, confusions=_confusions(report, pool))


def _embedder(path: Path, params: Params) -> Embedder:
    return Embedder.load(path, device=params.runtime.device, threads=params.runtime.threads)


def _verdict(workspace: Workspace, params: Params, task: str, report: CheckReport) -> Promoted | Rejected:
    """Return what `promote` wrote about this candidate; before it ran, what the gate would say."""
    if workspace.verdict(task).is_file():
        written = VerdictFile.load(workspace.verdict(task)).verdict
        if (written.candidate, written.champion) == (report.candidate, report.champion):
            return written
    return judge(report, params.gate, "auto")


def _asked(pool: ItemPool, served: Ints) -> tuple[str, ...]:
    """Return tasks with gate queries that can hit: those whose class has a second group that is served."""
    label, groups = np.unique(pool.labels[served], return_inverse=True)[1], pool.groups[served]
    counts = np.bincount(label[np.unique(groups, return_index=True)[1]])
    answerable = set(pool.tasks[served[(pool.splits[served] == "gate") & (counts[label] > 1)]].tolist())
    return tuple(shard.record.task for shard in pool.shards if shard.record.task in answerable)


def _options(report: CheckReport, policy: Policy) -> Iterator[Option]:
    """Yield every strategy, as `promote` would serve it on an operator's word."""
    for strategy in dict.fromkeys(each.strategy for each in report.alternatives):
        last = [each for each in report.alternatives if each.strategy == strategy][-1]
        if last.why_not:
            yield Option(strategy=strategy, alternative=None, why_not=last.why_not)
        elif strategy not in ("none", *policy.allowed):
            yield Option(strategy=strategy, alternative=None, why_not="gate.allowed in params.yaml leaves it out")
        else:
            chosen = judge(report, policy, strategy)
            share = chosen.share if isinstance(chosen, Promoted) else None
            yield Option(strategy=strategy, alternative=alternative_of(report, strategy, share), why_not="")


# --- lost queries -----------------------------------------------------------------------------------------------------


def _flips(
    case: Case, pool: ItemPool, pictured: Ints, evaluation: EvaluationData, *, after: Sequence[Part]
) -> Chart | None:
    """Return the worst lost queries, spread over the classes; None where nothing is lost.

    Args:
        case: What a person decides.
        pool: The images.
        pictured: (N,) where the measured items are in it.
        evaluation: The measured items.
        after: What would be served.
    """
    before = today(evaluation)
    if before is None or case.nearest is None:
        return None
    groups = evaluation.groups_of(np.arange(len(evaluation.labels)))
    worst = worst_lost(before, after, labels=evaluation.labels, groups=groups, asked=evaluation.asked, count=PICTURED)
    if not len(worst):
        return None
    lost = list(_examples(worst, evaluation, before, after))
    items = sorted(
        {each.item for each in lost} | {found.item for each in lost for found in (*each.before, *each.after)}
    )
    tiles = shrunk(pool, pictured[np.array(items, np.intp)])
    return flips(
        case.report.task,
        under=case.nearest.name,
        lost=lost,
        of=case.nearest.against_status_quo["overall"].lost,
        thumbnails=Thumbnails(items=tuple(items), tiles=tiles),
    )


def worst_lost(
    before: Sequence[Part], after: Sequence[Part], *, labels: Strings, groups: Ints, asked: Ints, count: int
) -> Ints:
    """Return (n,) queries that hit before and miss after: those that fall deepest, spread over the classes.

    Args:
        before: The status quo.
        after: What would be served.
        labels: (N,) classes of the items, which are the rows.
        groups: (N,) numbers of their groups.
        asked: (Q,) which items the queries are.
        count: How many to find, at most.

    Returns:
        Positions among the Q queries.
    """
    first, second = (
        recall_over(served, query_labels=labels[asked], gallery_labels=labels, k=(1,), own=groups[asked], groups=groups)
        for served in (before, after)
    )
    lost = np.flatnonzero(first.hits[:, 0] & ~second.hits[:, 0])
    worst = lost[np.argsort(-second.rank[lost], kind="stable")]
    everything = np.ones(len(worst), np.bool_)
    return worst[choose(np.full(len(worst), "lost"), labels[asked[worst]], possible=everything, count=count)]


def _confusions(report: CheckReport, pool: ItemPool) -> Chart | None:
    """Return the most frequent confusions with pictures; None where no query misses, or the check is one of before."""
    look = report.closer_look
    if look is None or not look.confusions:
        return None
    mistakes = mistakes_of(look, pool, offset=0)[:SHOWN]
    items = sorted({item for each in mistakes for pair in each.pairs for item in pair})
    return confusions(
        report.task,
        under=strategy_name(look.strategy, look.share),
        mistakes=mistakes,
        thumbnails=Thumbnails(items=tuple(items), tiles=shrunk(pool, np.array(items, np.intp))),
    )


def _examples(
    chosen: Ints, evaluation: EvaluationData, before: Sequence[Part], after: Sequence[Part]
) -> Iterator[Example]:
    labels, items = evaluation.labels, evaluation.asked[chosen]
    own, groups = evaluation.groups_of(items), evaluation.groups
    found = [nearest(served, chosen, own=own, groups=groups, count=NEIGHBOURS) for served in (before, after)]
    for place, item in enumerate(items):
        first, second = (
            tuple(
                Neighbour(item=int(row), label=str(labels[row]), hit=bool(labels[row] == labels[item]))
                for row in rows[place]
                if row != NOTHING
            )
            for rows in found
        )
        yield Example(item=int(item), label=str(labels[item]), outcome="lost", before=first, after=second)
