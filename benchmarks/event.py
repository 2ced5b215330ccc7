"""Seconds from the event that new data is there to the first stage of its retraining; memory of server and worker.

Clones the last commit, trains and publishes a first task of profile tiny, and starts what `make ui` starts.

python benchmarks/event.py
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.events import Event, Resource
from prefect.events.clients import PrefectEventsClient
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
GIT = ("git", "-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost")


def csd(folder: Path, *arguments: str) -> None:
    """Run a command of the clone."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    command = [sys.executable, "-m", "csd_core.cli", *arguments]
    subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def prepare(folder: Path) -> None:
    """A published project, and a batch that waits."""
    subprocess.run([*GIT, "clone", "-q", "--no-local", str(ROOT), str(folder)], check=True)
    csd(folder, "profile", "use", "tiny", "--force")
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    for task in ("t2", "t3"):
        del params["tasks"][task], params["decisions"][task]
    params["report"]["after"] = "t1"
    params["inbox"]["min_images"] = 40
    yaml.dump(params, folder / "params.yaml")
    csd(folder, "run")
    subprocess.run([*GIT, "add", "--all"], cwd=folder, check=True)
    subprocess.run([*GIT, "commit", "-q", "-m", "first"], cwd=folder, check=True)
    csd(folder, "publish", "--why", "first")
    rng = np.random.default_rng(1)
    for label in ("cat", "dog"):
        target = folder / "data" / "inbox" / "batch" / label
        target.mkdir(parents=True)
        ground = rng.integers(0, 255, (8, 8))
        for number in range(25):
            pixels = np.clip(ground + rng.integers(-40, 40, (8, 8)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(target / f"{number}.png")
    (folder / "data" / "inbox" / "batch" / "_READY").touch()


def started(folder: Path, port: int) -> subprocess.Popen[str]:
    """What `make ui` starts, when it is up."""
    command = [sys.executable, "-m", "csd_core.cli", "ui", "--port", str(port)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout or ():
        if "Ctrl-C" in line:
            return process
    raise SystemExit("make ui did not come up")


def measure(port: int) -> None:
    """Emit the event and print what it led to, step by step."""
    api = f"http://127.0.0.1:{port}/api"

    async def emit() -> None:
        async with PrefectEventsClient(api) as client:
            resource = Resource.model_validate({"prefect.resource.id": "csd.inbox.batch"})
            await client.emit(Event(event="csd.data.task-added", resource=resource))

    with SyncPrefectClient(api) as client:
        before = {run.id for run in client.read_flow_runs(limit=200)}
        asked = time.time()
        asyncio.run(emit())
        while not (new := [run for run in client.read_flow_runs(limit=200) if run.id not in before]):
            time.sleep(0.1)
        (run,) = new
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        while not (stages := [each for each in client.read_task_runs(flow_run_filter=wanted) if each.start_time]):
            time.sleep(0.2)
        run = client.read_flow_run(run.id)
        first = min(each.start_time.timestamp() for each in stages if each.start_time)
        while not run.state or not run.state.is_final():
            time.sleep(1)
            run = client.read_flow_run(run.id)
    steps = {
        "run created": run.created.timestamp() if run.created else 0.0,
        "flow started": run.start_time.timestamp() if run.start_time else 0.0,
        "first stage": first,
        f"ended ({run.state.name if run.state else '?'})": run.end_time.timestamp() if run.end_time else 0.0,
    }
    print("after the event: " + ", ".join(f"{name} {when - asked:.1f} s" for name, when in steps.items()))


def main() -> None:
    """Print the steps and the memory."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "project"
        prepare(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        process = started(folder, port)
        try:
            time.sleep(10)
            for child in psutil.Process(process.pid).children(recursive=True):
                what = next((word for word in ("server", "worker") if word in child.cmdline()), None)
                if what:
                    print(f"{what}: {child.memory_info().rss / 2**20:.0f} MiB resident, idle")
            measure(port)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


if __name__ == "__main__":
    main()
