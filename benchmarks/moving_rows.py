"""Recall of a running service while a backfill moves a tenth of the old rows after the other, beside the forecast.

python benchmarks/moving_rows.py [FOLDER] [--ways merge adapt] [--tasks t2 t3] [--epochs 6]

A project of digits is trained in FOLDER, or taken from there. For each way and task, `csd serve` answers from the
release before, the upgrade is published under the way, and the rows move in the order that the check had chosen: each
step embeds a tenth of them and activates it, as a backfill does whose other images cannot be read yet. After each step
every gate query searches over HTTP, as an item (itself left out). Beside its Recall@1 stand what check.json foretold
(under `merge` alone) and what the gate's code finds in the same state, query by query. Meanwhile another client asks.
"""

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import httpx
import numpy as np
import numpy.typing as npt
from service import serving

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.engine.pace import Pace
from csd_core.params.file import merge
from csd_core.records.check import CheckReport
from csd_core.records.stages import SeenShards
from csd_core.releases.backfill.finish import finish
from csd_core.releases.backfill.rows import alone, embed, plan
from csd_core.releases.candidate import Production
from csd_core.releases.publish import publish
from csd_core.releases.rollback import rollback
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.system.processes import environment
from csd_core.system.yaml_file import dump, read_document
from csd_core.upgrade.backfill.shards import plan_shards
from csd_core.upgrade.check import SHARES
from csd_core.upgrade.compatibility import scores_on
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.search.outcomes import search
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import Adapt, Merge
from csd_core.workspace import Workspace

Strings, Bools = npt.NDArray[np.str_], npt.NDArray[np.bool_]

TASKS = ("t1", "t2", "t3")
STRATEGIES = {"merge": Merge(), "adapt": Adapt()}


class Forecast(NamedTuple):
    """What the gate says of each of the S shares."""

    ids: Strings  # (G,) old rows, in the order in which they move
    queries: Strings  # (Q,) the gate's queries that can hit
    labels: Strings  # (Q,) their classes
    hits: Bools  # (S, Q) what each finds by the gate's code
    foretold: list[float]  # (S,) Recall@1 in check.json; nan for another way than `merge`


def forecast(workspace: Workspace, task: str, way: str) -> Forecast:
    """Measure every step as the stage `check` does."""
    params, report = workspace.params(), CheckReport.load(workspace.check(task))
    previous, splits = params.task(task).previous, params.gallery.splits
    gallery, lineage = Gallery.load(workspace.gallery(previous)), Lineage.load(workspace.lineage(previous))
    candidate = Embedder.load(workspace.candidate_embedder(task), device="cpu")
    pool = ItemPool(shards=[load_shard(workspace.shard(name)) for name in SeenShards.load(workspace.seen(task)).tasks])
    active = {digest: Embedder.load(lineage.models[digest], device="cpu") for digest in gallery.query_models}
    gate = evaluation_data_of(pool, gallery, splits, candidate=candidate, active=active)
    adapters = CandidateAdapters.load(workspace.candidate_adapters(task))
    situation = Situation.of(gallery, candidate, adapters, params.upgrade)
    order = situation.order(report.partial.order if report.partial else "random")
    (start,) = scores_on(gate.asked_by("select"), situation)([STRATEGIES[way].plan(situation)])
    place = np.argsort(order)  # (G,) of each row in the order
    plans = [replace(start, embed=start.embed | (place < round(share * len(order)))) for share in SHARES]
    found = search(gate, map(gate.way_after, plans))
    counted = gate.asked[found[0].possible]
    return Forecast(
        ids=gallery.ids[order],
        queries=pool.ids[pool.rows(*splits)][counted],
        labels=gate.labels[counted],
        hits=np.stack([each.hits[each.possible, 0] for each in found]),
        foretold=[point.merged if way == "merge" else np.nan for point in report.during_backfill],
    )


def move(production: Production, ids: Strings) -> None:
    """Re-embed some rows and activate them; the others stay as they are."""
    with alone(production):
        planned = plan(production)
        assert planned is not None, "every row has moved already"
        others = np.concatenate([shard.ids for shard in planned.shards])
        some = replace(planned, shards=plan_shards(np.intersect1d(ids, others)))
        for shard in some.shards:
            embed(some, shard, Pace())
        finish(production, some, why="the next tenth")


def hits(client: httpx.Client, told: Forecast, production: Production) -> tuple[Bools, int]:
    """Which of the gate's queries hit under the active release, (Q,), and how many models embed them."""
    release = int((production.releases.pointer() or "0").partition("-")[0])
    while client.get("/readyz").json()["release"] != release:
        time.sleep(0.05)
    asked = [{"item": query, "k": 1} for query in told.queries.tolist()]
    with ThreadPoolExecutor(8) as clients:
        found = clients.map(lambda each: client.post("/v1/search", json=each).raise_for_status().json(), asked)
    answers = list(found)
    assert {answer["release"] for answer in answers} == {release}
    return told.labels == [answer["hits"][0]["label"] for answer in answers], len(answers[0]["query_models"])


def ask_on(url: str, queries: list[str], over: threading.Event) -> list[int]:
    """Ask until it is over; the statuses of the answers."""
    statuses: list[int] = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not over.wait(0.2):
            asked = {"item": queries[len(statuses) % len(queries)], "k": 1}
            statuses.append(client.post("/v1/search", json=asked).status_code)
    return statuses


def watched(workspace: Workspace, way: str, task: str) -> Iterator[str]:
    """Publish an upgrade beside a running service and move its rows; a line of a table for each step."""
    production, told = Production.of(workspace), forecast(workspace, task, way)
    if production.releases.active():
        rollback(production, 1, why="the next upgrade")
    for earlier in TASKS[: TASKS.index(task)]:
        publish(production, task=earlier, why="before the upgrade")
    ends = [round(share * len(told.ids)) for share in SHARES]
    yield f"{way}, {task}: {len(told.ids)} old rows, {len(told.queries)} gate queries\n"
    yield "| moved | service | gate's code | check.json | queries that differ | lost | gained | query models |"
    yield "|---" * 8 + "|"
    old, over = np.intersect1d(told.queries, told.ids).tolist(), threading.Event()
    with (
        serving(workspace.root, 1) as (url, _, _),
        httpx.Client(base_url=url, timeout=60) as client,
        ThreadPoolExecutor(1) as beside,
        ExitStack() as ending,
    ):
        ending.callback(over.set)
        statuses = beside.submit(ask_on, url, old, over)
        publish(production, task=task, why="the upgrade")
        served: list[Bools] = []
        for step, end in enumerate(ends):
            if step:
                move(production, told.ids[ends[step - 1] : end])
            found, models = hits(client, told, production)
            served.append(found)
            recalls = [found.mean(), told.hits[step].mean(), told.foretold[step]]
            lost, gained = (served[0] & ~found).sum(), (found & ~served[0]).sum()
            figures = [*(f"{100 * each:.1f}" for each in recalls), (found != told.hits[step]).sum()]
            yield " ".join(
                ["|", *(f"{each} |" for each in [f"{100 * SHARES[step]:g} %", *figures, lost, gained, models])]
            )
    yield f"\nmeanwhile: {len(statuses.result())} answers, {sum(each != 200 for each in statuses.result())} failed\n"


def trained(root: Path, *, way: str, epochs: int) -> Workspace:
    """Run the pipeline with every upgrade under one way; what another way shares with it is not run again."""
    if not (root / "params.yaml").exists():
        subprocess.run(["csd", "init", root], check=True, env=environment(), stdout=sys.stderr)
    document = read_document(root / "params.yaml")
    recipes = {recipe: {"epochs": epochs} for recipe in ("first", "later")}
    decisions = dict.fromkeys(TASKS, way) | {"t1": "none"}
    merge(document, {"training": recipes, "decisions": decisions, "live": {"keep_releases": 1000}})
    (root / "params.yaml").write_text(dump(document), encoding="utf-8")
    subprocess.run(["csd", "run"], check=True, cwd=root, env=environment(), stdout=sys.stderr)
    return Workspace(root)


def main() -> None:
    """Print a table for each way and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of the project; by default a temporary one")
    parser.add_argument("--ways", nargs="+", choices=STRATEGIES, default=list(STRATEGIES))
    parser.add_argument("--tasks", nargs="+", choices=TASKS[1:], default=list(TASKS[1:]))
    parser.add_argument("--epochs", type=int, default=6)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for way in asked.ways:
            workspace = trained((asked.folder or Path(scratch, "project")).absolute(), way=way, epochs=asked.epochs)
            for task in asked.tasks:
                with redirect_stdout(sys.stderr):  # what publish and backfill say
                    lines = list(watched(workspace, way, task))
                print("\n".join(lines), flush=True)


if __name__ == "__main__":
    main()
