"""Real services for tests: `csd serve` in a process of its own, over a project whose pipeline has run."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
from patience import PATIENCE

sys.path.append(str(Path(__file__).parents[1] / "production"))

from ports import free_port
from projects import Project, pixels_of

from csd_core.live.images import encode_png
from csd_core.releases.publish import publish

PNG = {"Content-Type": "image/png"}


def png(kind, seed=1):
    """The file of one image of a class: kind 2n and 2n + 1 are the classes of task n + 1."""
    return encode_png(pixels_of(kind, 1, seed=seed)[0])


def published(root, *strategies, settings=None):
    """A project with a release for each strategy; `none` comes first."""
    project = Project(root, settings=settings or {})
    for task, strategy in zip(project.tasks, strategies, strict=False):
        project.promote(task, strategy)
        publish(project.production, task=task, why=f"{task} is ready", by="olga")
    return project


def address(url, identity):
    """Of an item; a dot is encoded too, or `..` would mean the folder above."""
    return f"{url}/v1/items/{quote(identity, safe='').replace('.', '%2E')}"


def put(url, identity, image, **params):
    return httpx.put(address(url, identity), content=image, params=params, headers=PNG, timeout=60)


def search(url, image, **params):
    return httpx.post(f"{url}/v1/search", content=image, params=params, headers=PNG, timeout=60)


class Service:
    """A running `csd serve`."""

    def __init__(self, process, url, project):
        self.process, self.url, self.project = process, url, project
        self.port = int(url.rpartition(":")[2])
        self._log = project.root / "serve.log"

    def log(self):
        """Its lines so far, as dicts; lines that are not JSON as {"text": line}."""
        lines = self._log.read_text("utf-8").splitlines()
        return [json.loads(line) if line.startswith("{") else {"text": line} for line in lines]

    def ready(self):
        return httpx.get(f"{self.url}/readyz", timeout=PATIENCE)

    def wait_until(self, holds, what):
        """The first /readyz answer of which `holds` is true."""
        end = time.monotonic() + PATIENCE
        answer = None
        while time.monotonic() < end:
            try:
                answer = self.ready()
                if holds(answer):
                    return answer.json()
            except httpx.TransportError:
                pass
            if self.process.poll() is not None:
                raise AssertionError(f"csd serve ended with {self.process.returncode}: {self._log.read_text('utf-8')}")
            time.sleep(0.05)
        raise AssertionError(
            f"{what} did not happen; last answer {answer and answer.text}; log {self._log.read_text('utf-8')}"
        )

    def serves(self, number):
        """Wait until it answers from a release."""
        return self.wait_until(
            lambda answer: answer.status_code == 200 and answer.json()["release"] == number, f"release {number}"
        )

    def lists(self, label, count):
        """Wait until it counts so many items of a label: rows that were written are loaded a moment later."""
        counted, labels = {"label": label, "items": count}, f"{self.url}/v1/labels"
        self.wait_until(lambda _: counted in httpx.get(labels, timeout=PATIENCE).json()["labels"], f"{counted}")

    def stop(self):
        """SIGTERM, and the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


@contextmanager
def serving(project, *arguments, ready=True, port=None):
    """`csd serve` of a project, on a free port unless one is given."""
    port = port or free_port()
    with (project.root / "serve.log").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "csd_core.cli", "serve", "--port", str(port), *arguments],
            cwd=project.root,
            stderr=stderr,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        service = Service(process, f"http://127.0.0.1:{port}", project)
        try:
            service.wait_until(lambda answer: answer.status_code == 200 or not ready, "a first answer")
            yield service
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
