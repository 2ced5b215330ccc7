"""What runs on a Ray cluster of real processes gives the bytes of one process, whatever dies on the way.

All of it is in one module, so that one cluster serves every test.
"""

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ray_nodes import RayNodes
from stand_in_cells import cells, figures, stand_in_cells
from test_backfill import Drawn, by_id, item_ids, model, plan_shards, run, wait_until  # noqa: F401

from csd_core.comparison.running.cluster import events_of
from csd_core.comparison.running.scheduler import finished
from csd_core.data.pool import SENT, ItemPool
from csd_core.engine.processes import LocalEngine
from csd_core.engine.ray_engine import RayEngine
from csd_core.retrieval.embedder import Embedder
from csd_core.system.errors import CsdError, DataError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROWS = 50
"""Of a shard: eight shards."""


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnPool(ItemPool):
    drawn: np.ndarray
    shards: tuple = ()

    def images(self, positions):
        return self.drawn[positions]


@pytest.fixture(scope="module")
def cluster():
    nodes = RayNodes(2)
    yield nodes
    nodes.stop()


def on(cluster, **options):
    return {"engine": RayEngine(address=cluster.address, workers=2), "shard_rows": ROWS} | options


@pytest.fixture(scope="module")
def expected(model, tmp_path_factory):  # noqa: F811
    return by_id(run(model, tmp_path_factory.mktemp("expected"), shard_rows=ROWS))


def test_two_nodes_give_each_row_the_bytes_of_one_process(model, expected, cluster, tmp_path, capfd):  # noqa: F811
    log = tmp_path / "log"
    done = run(model, tmp_path / "work", source=Drawn(log=log), **on(cluster))
    assert by_id(done) == expected
    assert sorted(log.read_text().split()) == sorted(item_ids())  # each image is read once
    said = capfd.readouterr()
    assert all(line.startswith("backfill: ") for line in said.out.splitlines())  # Ray itself says nothing
    assert said.err == ""


def test_a_missing_image_is_listed_and_changes_no_other_row(model, expected, cluster, tmp_path):  # noqa: F811
    missing, log = tuple(sorted(item_ids()[[0, 5, 399]].tolist())), tmp_path / "log"
    done = run(model, tmp_path, source=Drawn(missing=missing, elsewhere=True, log=log), **on(cluster))
    assert len(list(tmp_path.glob("by-*"))) == 1  # the driver's node read for both
    assert by_id(done) == {identity: row for identity, row in expected.items() if identity not in missing}
    assert [failure.id for failure in done.failed] == list(missing)
    assert by_id(run(model, tmp_path, **on(cluster))) == expected


def test_one_rate_holds_for_all_nodes(model, cluster, tmp_path):  # noqa: F811
    began = time.monotonic()
    run(model, tmp_path / "work", source=Drawn(log=tmp_path / "log"), **on(cluster, max_rows_per_second=40))
    assert time.monotonic() - began > (400 - ROWS) / 40
    assert len(list(tmp_path.glob("by-*"))) == 2  # both worked


def test_a_pool_of_images_gets_the_bytes_of_this_process(model, cluster, monkeypatch):  # noqa: F811
    monkeypatch.setattr("csd_core.data.pool.CHUNK", SENT)
    drawn = np.random.default_rng(0).integers(0, 256, (5 * SENT + 7, 16, 16, 3), np.uint8)
    embedder, positions = Embedder.load(model, device="cpu", threads=2), np.arange(len(drawn))[::-1]
    here, there = DrawnPool(drawn=drawn), DrawnPool(drawn=drawn, engine=RayEngine(address=cluster.address, workers=2))
    told = []
    found = there.embed(positions, embedder, report=told.append)
    assert found.tobytes() == here.embed(positions, embedder).tobytes()
    assert sum(told) == len(drawn)


def test_an_error_of_the_source_reaches_the_caller_as_it_is(model, cluster, tmp_path):  # noqa: F811
    with pytest.raises(DataError, match="^the store of images is shut$"):
        run(model, tmp_path, source=Drawn(fails_at=str(item_ids()[250]), elsewhere=True), **on(cluster))


def test_an_image_that_kills_every_worker_ends_the_run_with_one_line(model, cluster, tmp_path):  # noqa: F811
    last = str(max(item_ids()))
    with pytest.raises(CsdError, match=r"3 workers were lost while they worked on shard 7 .* run again") as told:
        run(model, tmp_path, source=Drawn(kills_at=last), **on(cluster))
    assert "\n" not in str(told.value)
    assert (tmp_path / "shard-00000" / "shard.json").exists()


def node_of(cluster, pid):
    """Return the node that a process belongs to."""
    (node,) = [each for each in cluster.nodes if pid in [process.pid for process in cluster._below(each)]]
    return node


def test_a_killed_node_costs_a_comparison_no_cell(cluster, tmp_path, capfd):
    work, params = stand_in_cells(tmp_path / "compared"), cells()
    events = events_of(RayEngine(address=cluster.address, workers=2), work, list(params), params)
    ended = [next(events)]
    paused = work.programs / "paused"
    wait_until(paused.exists)
    node = node_of(cluster, int(paused.read_text()))
    cluster.kill(node)
    (work.programs / "released").touch()
    ended += events
    assert {event.cell: event.failure for event in ended} == dict.fromkeys(params)
    assert capfd.readouterr().out.count("what it had in hand is done again") == 1
    local = {event.cell: event for event in events_of(LocalEngine(), work, list(params), params)}
    assert all(figures(event.measures) == figures(local[event.cell].measures) for event in ended)
    assert finished(work.folder, params).keys() == params.keys()
    cluster.nodes[cluster.nodes.index(node)] = cluster.join()


SCRIPT = """
import sys
import time
from pathlib import Path
from test_backfill import Drawn, run
from csd_core.engine.ray_engine import RayEngine

here = Path(sys.argv[1])
engine = RayEngine(address=sys.argv[3], workers=2)
source = Drawn(pauses_at=sys.argv[4], marker=here)
done = run(Path(sys.argv[2]), here / "work", source=source, engine=engine, shard_rows=int(sys.argv[5]))
"""


def started(cluster, model, folder, *, pauses_at):  # noqa: F811
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, "-c", SCRIPT, folder, model, cluster.address, pauses_at, str(ROWS)]
    return subprocess.Popen(
        command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def third_is_at_work(folder):
    return (folder / "paused").exists() and (folder / "work" / "shard-00000" / "shard.json").exists()


def test_a_killed_run_goes_on_to_the_same_bytes(model, expected, cluster, tmp_path):  # noqa: F811
    third = plan_shards(item_ids(), rows=ROWS)[2]
    running = started(cluster, model, tmp_path, pauses_at=str(third.ids[-1]))
    wait_until(lambda: third_is_at_work(tmp_path))
    running.kill()
    running.communicate()
    (tmp_path / "released").touch()
    assert not (tmp_path / "work" / "vectors.npy").exists()
    log = tmp_path / "log"
    assert by_id(run(model, tmp_path / "work", source=Drawn(log=log), **on(cluster))) == expected
    assert not set(log.read_text().split()) & set(plan_shards(item_ids(), rows=ROWS)[0].ids)


def test_a_node_that_is_killed_costs_what_it_had_in_hand_and_no_byte(model, expected, cluster, tmp_path):  # noqa: F811
    """The last test: it leaves the cluster with a node less."""
    third = plan_shards(item_ids(), rows=ROWS)[2]
    running = started(cluster, model, tmp_path, pauses_at=str(third.ids[-1]))
    wait_until(lambda: third_is_at_work(tmp_path))
    at_work = int((tmp_path / "paused").read_text())
    cluster.kill(node_of(cluster, at_work))
    (tmp_path / "released").touch()
    said, _ = running.communicate(timeout=300)
    assert running.returncode == 0, said
    assert said.count("what it had in hand is done again") == 1, said
    assert "Traceback" not in said  # Ray itself prints what the lost node had in its log
    assert by_id(run(model, tmp_path / "work", shard_rows=ROWS)) == expected
