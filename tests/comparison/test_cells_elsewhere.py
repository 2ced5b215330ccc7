"""Cells on a machine that does not see the comparison's folder; tests/upgrade/test_ray_cluster.py has one that does."""

import pytest
from stand_in_cells import CODE, cells, stand_in_cells

from csd_core.comparison.running import child, scheduler
from csd_core.comparison.running.cluster import cluster_events, events_of
from csd_core.comparison.running.run_folder import Bench
from csd_core.comparison.running.scheduler import finished
from csd_core.engine.processes import LocalEngine


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Work whose `dvc` is a script that never pauses; what it changes in this process is put back."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(child, "environment", child.environment)
    monkeypatch.setattr(scheduler, "ask_test_queries", scheduler.ask_test_queries)
    work = stand_in_cells(tmp_path / "compared")
    (work.programs / "released").touch()
    return work


class Elsewhere(LocalEngine):
    """Gives work to a machine that does not see its inputs."""

    def each(self, job):
        job = type(job)(work=job.work.reading(None), items=job.items)
        yield from super().each(job)


def test_only_figures_come_back_and_what_is_known_is_not_run_again(work, tmp_path):
    params = cells()
    ended = list(events_of(Elsewhere(), work, list(params), params))
    assert [(event.cell.contender, event.cell.seed) for event in ended] == [
        ("finetune", 1), ("finetune", 2), ("csd", 1), ("csd", 2),
    ]  # fmt: skip
    assert all(event.busy and event.failure is None for event in ended)
    assert finished(work.folder, params) == {event.cell: event.measures for event in ended}
    (cache,) = (tmp_path / "home" / ".cache" / "csd").iterdir()
    assert (Bench.of(ended[0].cell, cache).root / "params.yaml").exists()
    assert not (Bench.of(ended[0].cell, work.folder).root / "params.yaml").exists()

    (work.programs / "dvc").write_text("#!/bin/sh\necho broken\nexit 1\n")
    again = list(events_of(Elsewhere(), work, list(params), params))
    assert [event.measures for event in again] == [event.measures for event in ended]
    assert not any(event.busy for event in again)
    Bench.of(ended[0].cell, work.folder).measures.unlink()
    failed, *others = events_of(Elsewhere(), work, list(params), params)
    assert failed.failure.startswith("on ")
    assert "broken" in failed.failure
    assert [event.failure for event in others] == [None] * 3
    here = {
        each.cell: each.failure
        for each in cluster_events(LocalEngine(), [*params], params, folder=work.folder, code=CODE)
    }
    assert all("dvc repro failed" in failure for failure in here.values())
    assert work.mark() != "this one"  # every run has a mark of its own
    assert finished(work.folder, params) == {}
