import hashlib
import subprocess
import sys

import pytest

from csd_core.report.scores import Metrics
from csd_core.stages import report


def written(files):
    """Path -> digest of everything the stage writes."""
    paths = [files.metrics, *sorted(files.report.rglob("*"))]
    return {
        str(path.relative_to(files.root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.is_file()
    }


def test_the_stage_writes_metrics_plots_and_page_and_the_same_bytes_twice(carried, monkeypatch, capsys):
    monkeypatch.chdir(carried.files.root)
    report.main()
    first = written(carried.files)
    report.main()
    assert written(carried.files) == first
    assert {"metrics.json", "report/index.html", "report/plots/compatibility.svg"} <= set(first)
    assert Metrics.load(carried.files.metrics) == carried.metrics
    assert "The gate took t1 as the first model" in capsys.readouterr().out


def test_another_process_with_another_hash_seed_writes_the_same_bytes(alone, monkeypatch):
    monkeypatch.chdir(alone.files.root)
    report.main()
    first = written(alone.files)
    monkeypatch.setenv("PYTHONHASHSEED", "7")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    subprocess.run([sys.executable, "-m", "csd_core.stages.report"], check=True, capture_output=True)
    assert written(alone.files) == first


def test_the_stage_loads_no_torch():
    code = "import sys, csd_core.stages.report as stage; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"


@pytest.mark.slow
def test_a_page_of_twenty_tasks_stays_small(make_line, arrival, monkeypatch):
    arrivals = {
        f"t{number}": arrival(
            (2 * number % 10, (2 * number + 1) % 10),
            names=(f"class {2 * number}", f"class {2 * number + 1}"),
            images=32,
            first=32 * (number // 5),
            drift=0.05,
            decision="auto" if number == 0 else "keep" if number % 4 else "backfill",
        )
        for number in range(20)
    }
    files = make_line(partial={"shares": [0.5], "orders": ["random"]}, **arrivals)
    monkeypatch.chdir(files.root)
    report.main()
    assert files.page.stat().st_size < 2_000_000
    assert len(Metrics.load(files.metrics).compatibility.cross_tests) == 20
