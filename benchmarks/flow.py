"""What the flow `retrain` costs over plain `dvc repro` on the same pipeline: cold, restored from the cache, up to date.

Two clones of the last commit run the same profile, one by DVC alone, one by the flow against a server of its own. The
flow's times are those of the whole process, as a worker starts one, and of the flow run within it.

python benchmarks/flow.py [--profile digits]
"""

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[1]
RUN = """
import json, sys
from prefect.client.orchestration import get_client
from flows.forms import Retrain
from flows.retrain import retrain
state = retrain(Retrain.model_validate_json(sys.argv[1]), return_state=True)
with get_client(sync_client=True) as client:
    run = client.read_flow_run(state.state_details.flow_run_id)
print(json.dumps([state.name, run.total_run_time.total_seconds()]))
"""


def prepare(folder: Path, profile: str) -> None:
    """A clone with the profile committed."""
    git = ["git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost"]
    subprocess.run([*git, "clone", "-q", "--no-local", str(ROOT), str(folder)], check=True)
    subprocess.run([sys.executable, "-m", "csd_core.cli", "profile", "use", profile, "--force"], cwd=folder, check=True)
    subprocess.run([*git, "commit", "-q", "--all", "--allow-empty", "-m", profile], cwd=folder, check=True)


def environment(**more: str) -> dict[str, str]:
    """With our Python first, and the clone's own code."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": "", **more}


def plain(folder: Path) -> float:
    """Seconds of `dvc repro`."""
    started = time.perf_counter()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, env=environment(), check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def flow(folder: Path, api: str, **settings: object) -> tuple[str, float, float]:
    """Name of the state in which the flow ends, seconds of the process and of the flow run."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(settings)],
        cwd=folder,
        env=environment(PREFECT_API_URL=api, PYTHONPATH=str(folder), PREFECT_LOGGING_LEVEL="ERROR"),
        check=True,
        capture_output=True,
        text=True,
    )
    seconds = time.perf_counter() - started
    name, within = json.loads(done.stdout.splitlines()[-1])
    return name, seconds, within


@contextmanager
def server(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """A Prefect server: its address and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    more = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    command = ["prefect", "server", "start", "--port", str(port)]
    process = subprocess.Popen(command, env=environment(**more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    api = f"http://127.0.0.1:{port}/api"
    try:
        while True:
            try:
                urllib.request.urlopen(f"{api}/health", timeout=1).close()  # noqa: S310 - our own server
                break
            except OSError:
                time.sleep(0.2)
        yield api, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Print a line for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="digits")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch, server(Path(scratch) / "prefect") as (api, process):
        by_dvc, by_flow = Path(scratch) / "dvc", Path(scratch) / "flow"
        for folder in (by_dvc, by_flow):
            prepare(folder, options.profile)
        cold = plain(by_dvc)
        report("cold: every stage runs", cold, flow(by_flow, api, publish=False))
        shutil.rmtree(by_dvc / "artifacts")
        shutil.rmtree(by_dvc / "data")
        (by_dvc / "dvc.lock").unlink()
        report(
            "restored: every stage from the run cache", plain(by_dvc), flow(by_flow, api, publish=False, cut_now=True)
        )
        branches = ["git", "-C", str(by_flow), "for-each-ref", "--format=%(refname:short)", "refs/heads/retrain"]
        branch = subprocess.run(branches, check=True, capture_output=True, text=True).stdout.split()[0]
        report("up to date", plain(by_dvc), flow(by_flow, api, publish=False, start_from=branch))
        print(f"server: {process.memory_info().rss / 2**20:.0f} MiB resident")


def report(case: str, dvc: float, found: tuple[str, float, float]) -> None:
    """One case."""
    state, seconds, within = found
    ratio = f"{seconds / dvc:.2f}x, {within:.1f} s of it the flow run"
    print(f"{case}: dvc repro {dvc:.1f} s; flow {seconds:.1f} s ({ratio}), {state}")


if __name__ == "__main__":
    main()
