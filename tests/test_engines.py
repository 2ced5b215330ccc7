"""Engines that cannot be used say so in one line; Ray is loaded only by who asks for it."""

import subprocess
import sys
from pathlib import Path

import pytest
from ports import free_port
from pydantic import ValidationError

from csd_core.commands.production.engine_options import EngineOptions
from csd_core.engine import ray_engine
from csd_core.engine.engines import engine_named, engine_of
from csd_core.engine.processes import LocalEngine
from csd_core.engine.ray_connection import connected
from csd_core.engine.ray_engine import RayEngine
from csd_core.engine.ray_workers import Desk, versions
from csd_core.engine.work import Job, in_order
from csd_core.params.model import Runtime
from csd_core.system.errors import CsdError, ParamsError
from csd_core.workspace import Workspace

ROOT = Path(__file__).parents[1]

RUNTIME = {"device": "cpu", "threads": 1, "max_in_memory_mb": 1}


def test_the_local_engine_and_the_commands_load_no_ray():
    script = (
        "import sys, csd_core.cli, csd_core.commands.production.backfill, flows.backfill; "
        "from csd_core.engine.engines import engine_named as named; "
        "named('local', address=None, workers=2); named('ray', address=None, workers=2); "
        "print('ray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == "False"


def test_without_ray_the_engine_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ParamsError, match=r'Ray is not installed here; `pip install "csd\[cluster\]"`'):
        next(RayEngine(address=None).each(Job(work=None, items=[1])))


def test_an_address_where_nobody_listens_is_one_line_within_seconds():
    address = f"127.0.0.1:{free_port()}"
    with (
        pytest.raises(CsdError, match=f"^Ray cluster {address}: does not answer .*; start it with `ray start"),
        connected(address, cores=1),
    ):
        pass


@pytest.mark.parametrize("workers", [0, -1])
@pytest.mark.parametrize("name", ["local", "ray"])
def test_an_engine_without_workers_is_refused(name, workers):
    with pytest.raises(ParamsError, match=f"workers is {workers}, it must be at least 1"):
        engine_named(name, address=None, workers=workers)


def test_an_impossible_rate_is_refused_before_anything_starts():
    with pytest.raises(ParamsError, match="max_rows_per_second is 0.0, it must be above 0"):
        Job(work=None, items=[1], max_rows_per_second=0.0)


@pytest.mark.parametrize("address", ["head:6379", "10.0.0.5:6379", "[::1]:6379", "auto", None])
def test_addresses_of_clusters_are_taken(address):
    assert Runtime(**RUNTIME, engine="ray", address=address).address == address


def test_an_address_of_ray_client_is_refused_with_what_to_do_instead():
    with pytest.raises(ValidationError, match="is an address of Ray Client, .* run csd on a machine of the cluster"):
        Runtime(**RUNTIME, engine="ray", address="ray://head:10001")
    with pytest.raises(ParamsError, match="^--address ray://head:10001: is an address of Ray Client"):
        EngineOptions(engine="ray", address="ray://head:10001").chosen(workers=1)


def test_options_come_before_params_yaml_and_that_before_the_local_engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert EngineOptions().chosen(workers=3) == LocalEngine(workers=3)
    text = (ROOT / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(
        text.replace("engine: local", "engine: ray").replace("address: null", "address: h:1")
    )
    assert EngineOptions().chosen(workers=None) == RayEngine(address="h:1")
    assert EngineOptions(address="i:2").chosen(workers=None) == RayEngine(address="i:2")
    assert EngineOptions(engine="local").chosen(workers=None) == LocalEngine()
    assert engine_of(Workspace().params().runtime, processes=3) == RayEngine(address="h:1")


def test_results_that_come_early_wait_for_their_turn():
    assert list(in_order([(2, "c"), (0, "a"), (1, "b"), (3, "d")])) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("address", ["head", "http://head:6379", ""])
def test_what_is_no_address_of_a_cluster_is_refused(address):
    with pytest.raises(ValidationError, match="is no address of a cluster; write host:port"):
        Runtime(**RUNTIME, engine="ray", address=address)


def test_a_desk_books_rows_for_all_and_counts_them_by_loan():
    desk = Desk(10)
    waits = [desk.book(5) for _ in range(3)]
    assert waits == pytest.approx([0.0, 0.5, 1.0], abs=0.1)
    desk.count(1, 3)
    desk.count(1, 4)
    desk.count(2, 5)
    assert desk.counted() == {1: 7, 2: 5}
    assert desk.counted() == {}


def test_a_worker_with_another_version_is_refused_by_name():
    crew = object.__new__(ray_engine._Crew)
    theirs = versions() | {"onnxruntime": "1.0"}
    worker = ray_engine._Hired(actor=None, starting=object())
    hello = type("Hello", (), {"machine": "10.0.0.9", "versions": theirs})
    with pytest.raises(CsdError, match=r"machine 10.0.0.9 has onnxruntime 1.0, this one .*; install the same"):
        crew._welcome(worker, hello)
