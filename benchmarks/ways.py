"""Two further ways to search with the queries of two models, beside those on offer, on upgrades trained before.

    python benchmarks/ways.py PROJECT...

Projects whose folders lie side by side are one stream; a line of the table is a way's mean over a stream's upgrades.

- sum: a row is its vector by the old model beside its vector by the new one, an old row's new half mapped by its
  adapter; score = weight * cosine of the old halves + (1 - weight) * cosine of the new ones.
- slerp (arXiv 2609.39836): queries and new rows lie between what the old model says and what the new one says, turned
  into the old space by the rotation that fits best on the images that the candidate trained on. Old rows stay.

Both settings are chosen on `select` as score maps are: the safest that does as well as the best to within the noise,
where the old model alone is safest, so both can fall back on the status quo. *Merge or none* can too; *best on offer*
also has `adapt` and `keep` to choose from, *best of all* the two new ways besides. Upgrades of galleries with rows of
several kinds are left out.
"""

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from unittest.mock import patch

import numpy as np

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.records.stages import ModelRecord, SeenShards
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import Floats, Part, Recall, recall_over
from csd_core.upgrade.compatibility import parts_after, scores_on, today
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.mapping.maps import PairSums
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.sampling import evenly
from csd_core.upgrade.scores import AS_GOOD, KINDS, fit_identity
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import Adapt, Backfill, Keep, Merge
from csd_core.workspace import Workspace

STEPS = np.linspace(0, 1, 11)

Way = Callable[[EvaluationData], Sequence[Part]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Upgrade:
    """A candidate beside the gallery before it.

    Attributes:
        gate: The items, of which those of `gate` ask.
        situation: The gallery and the candidate.
        rotation: From the candidate's space into the champion's.
    """

    gate: EvaluationData
    situation: Situation
    rotation: Callable[[Floats], Floats]

    @classmethod
    def load(cls, workspace: Workspace, task: str, threads: int) -> Self | None:
        """Read what the stages left; None where there is no old gallery, or one of several kinds."""
        params = workspace.params()
        previous = params.task(task).previous
        gallery = Gallery.load(workspace.gallery(previous))
        if len(gallery.groups()) != 1 or not gallery.query_model:
            return None
        candidate = Embedder.load(workspace.candidate_embedder(task), device="cpu", threads=threads)
        lineage = Lineage.load(workspace.lineage(previous))
        champion = Embedder.load(lineage.models[gallery.query_model], device="cpu", threads=threads)
        seen = SeenShards.load(workspace.seen(task)).tasks
        pool = ItemPool(shards=[load_shard(workspace.shard(name)) for name in seen])
        model = ModelRecord.load(workspace.candidate_model(task) / "model.json")
        learned = np.flatnonzero(np.isin(pool.tasks, model.trained_on) & (pool.splits == "train"))
        learned = np.concatenate([learned, pool.positions(np.array(model.remembered, np.str_))])
        learned = learned[evenly(len(learned), params.upgrade.adapter.max_images)]
        adapters = CandidateAdapters.load(workspace.candidate_adapters(task))
        return cls(
            gate=evaluation_data_of(
                pool,
                gallery,
                params.gallery.splits,
                candidate=candidate,
                active={gallery.query_model: champion},
            ),
            situation=Situation.of(gallery, candidate, adapters, params.upgrade),
            rotation=PairSums.of(pool.embed(learned, candidate), pool.embed(learned, champion)).procrustes(),
        )

    def ways(self) -> dict[str, Way]:
        """Every way to serve the candidate, its settings chosen on `select`."""
        select = self.gate.asked_by("select")
        strategies = {"backfill": Backfill(), "keep": Keep(), "adapt": Adapt(), "merge, chosen": Merge()}
        scored = scores_on(select, self.situation)
        plans = [strategy.plan(self.situation) for strategy in strategies.values()]
        plans = dict(zip(strategies, scored(plans), strict=True))
        for kind, fit in KINDS.items():
            alone = {kind: lambda nearest, native, fit=fit: fit(nearest, native) or fit_identity(nearest, native)}
            with patch.dict(KINDS, alone, clear=True):
                (plans[f"merge, {kind}"],) = scores_on(select, self.situation)([Merge().plan(self.situation)])
        ways: dict[str, Way] = {"status quo": status_quo}
        ways |= {name: lambda items, plan=plan: parts_after(items, plan) for name, plan in plans.items()}
        ways["sum"] = safest(select, [lambda items, w=w: self.both_spaces(items, w) for w in STEPS[::-1]])
        ways["slerp"] = safest(select, [lambda items, alpha=alpha: self.between(items, alpha) for alpha in STEPS])
        offered = [ways[name] for name in ("merge, chosen", "adapt", "keep")]
        ways["merge or none"] = safest(select, [status_quo, offered[0]])
        ways["best on offer"] = safest(select, [status_quo, *offered])
        ways["best of all"] = safest(select, [status_quo, ways["slerp"], ways["sum"], *offered])
        return ways

    def both_spaces(self, items: EvaluationData, weight: float) -> list[Part]:
        """Every row and query has a vector in each space."""
        (adapter,) = self.situation.adapters.chosen.values()
        old, new = champion_of(items).copy(), items.candidate.copy()
        old[items.old], new[items.old] = items.stored.vectors, adapter(items.stored.vectors)
        shares = np.sqrt(np.array([weight, 1 - weight], np.float32))

        def joined(first: Floats, second: Floats) -> Floats:
            return np.concatenate([shares[0] * first, shares[1] * second], axis=1)

        asked = items.asked
        return [Part(queries=joined(champion_of(items)[asked], items.candidate[asked]), rows=joined(old, new))]

    def between(self, items: EvaluationData, alpha: float) -> list[Part]:
        """Queries and new rows lie between both models' vectors, old rows where they were."""
        blended = slerp(champion_of(items), self.rotation(items.candidate), alpha)
        rows = blended.copy()
        rows[items.old] = items.stored.vectors
        return [Part(queries=blended[items.asked], rows=rows)]


def champion_of(items: EvaluationData) -> Floats:
    """(N, D) by the champion, which embeds what asks and what is new."""
    assert items.champion is not None
    return items.champion


def status_quo(items: EvaluationData) -> Sequence[Part]:
    """What is searched without an upgrade."""
    parts = today(items)
    assert parts is not None
    return parts


def slerp(first: Floats, second: Floats, alpha: float) -> Floats:
    """(N, D) unit vectors on the arc from each first (alpha 0) to each second (Shoemake, SIGGRAPH 1985)."""
    angle = np.arccos(np.clip(np.einsum("nd,nd->n", first, second), -1, 1))[:, None]
    near = np.sin(angle) < 1e-4
    length = np.where(near, 1, np.sin(angle))
    shares = [np.where(near, each, np.sin(each * angle) / length) for each in (1 - alpha, alpha)]
    mixed = shares[0] * first + shares[1] * second
    return mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), np.float32(1e-12))


def search(items: EvaluationData, way: Way) -> Recall:
    """Let the items that ask search what a way serves."""
    labels = items.labels
    return recall_over(
        way(items),
        query_labels=labels[items.asked],
        gallery_labels=labels,
        k=(1,),
        own=items.groups_of(items.asked),
        groups=items.groups_of(np.arange(len(labels))),
    )


def safest(select: EvaluationData, ways: Sequence[Way]) -> Way:
    """Of ways, the safest first, the first that does as well as the best: by hits less queries that are lost."""
    quo = search(select, status_quo)
    found = [search(select, way).hits[quo.possible, 0] for way in ways]
    hit_today = quo.hits[quo.possible, 0]
    merits = [hits * 1.0 - (hit_today & ~hits) for hits in found]
    behind = max(merits, key=np.sum) - np.array(merits)
    noise = behind.std(axis=1) / np.sqrt(behind.shape[1])
    return ways[int(np.argmax(behind.mean(axis=1) <= AS_GOOD * noise))]


def measure(upgrade: Upgrade) -> dict[str, tuple[float, float, float]]:
    """Way -> points of all gate queries found, of those of old classes, and of all that hit today and would miss."""
    items = upgrade.gate
    quo = search(items, status_quo)
    counts, old = quo.possible, items.old[items.asked]
    found = {}
    for name, way in upgrade.ways().items():
        hits = search(items, way).hits[:, 0]
        shares = hits[counts].mean(), hits[counts & old].mean(), (quo.hits[:, 0] & ~hits)[counts].mean()
        found[name] = (100 * shares[0], 100 * shares[1], 100 * shares[2])
    return found


def show(title: str, upgrades: Sequence[dict[str, tuple[float, float, float]]]) -> None:
    """Print the mean of each way, and its mean difference to merge with its standard error over upgrades."""
    print(f"{title}, {len(upgrades)} upgrades")
    print(f"{'':18}{'all':>7}{'old':>7}{'lost':>7}{'gain kept':>11}{'all less merge':>18}{'lost less merge':>18}")

    def gain(way: str) -> float:
        return sum(each[way][0] - each["status quo"][0] for each in upgrades)

    for way in upgrades[0]:
        means = [statistics.mean(each[way][column] for each in upgrades) for column in range(3)]
        kept = f"{gain(way) / gain('backfill'):.0%}" if gain("backfill") > 0 else "none"
        line = f"{way:18}" + "".join(f"{mean:7.1f}" for mean in means) + f"{kept:>11}"
        for column in (0, 2):
            beside = [each[way][column] - each["merge, chosen"][column] for each in upgrades]
            error = statistics.stdev(beside) / len(beside) ** 0.5 if len(beside) > 1 else float("nan")
            line += f"{statistics.mean(beside):+10.1f} ± {error:.1f}  "
        print(line)


def main() -> None:
    """Measure every finished upgrade of the projects and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("projects", type=Path, nargs="+")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    streams: dict[Path, list[dict[str, tuple[float, float, float]]]] = defaultdict(list)
    for root in asked.projects:
        workspace = Workspace(root)
        for task in workspace.params().tasks:
            upgrade = Upgrade.load(workspace, task, asked.threads)
            if upgrade:
                streams[root.resolve().parent].append(measure(upgrade))
    for folder, upgrades in streams.items():
        show("/".join(folder.parts[-2:]), upgrades)
    if len(streams) > 1:
        show("all", [each for upgrades in streams.values() for each in upgrades])


if __name__ == "__main__":
    main()
