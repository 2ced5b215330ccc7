"""Kill a publisher of shared releases at every request that it sends to the object store; look what is left.

A machine publishes and rolls back by turns, in an object store (moto's S3), through a proxy that kills it at its n-th
request: before the store saw that, or after, with the answer lost. Then a replica of `csd serve` on another machine
must answer from the release that is active, the other machine must make the next release, and `csd verify` must find
nothing.

python benchmarks/kills_shared.py [--every 1] [--lease 2] [--seconds 3600]
"""

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).parents[1]
for folder in ("production", "serving", "."):  # the tests' projects and servers
    sys.path.insert(0, str(ROOT / "tests" / folder))

from faulty_store import proxy_before  # noqa: E402 - found on the path set above
from object_store import BUCKET, store_of_this_process  # noqa: E402 - as above
from projects import Project  # noqa: E402 - as above
from services import png, search, serving  # noqa: E402 - as above

from csd_core.objects import lease  # noqa: E402 - as above
from csd_core.releases.publish import publish  # noqa: E402 - as above
from csd_core.releases.rollback import rollback  # noqa: E402 - as above

TASKS = ("t1", "t2")
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["projects", "csd_core.releases.publish", "csd_core.releases.rollback"])


def change(project: Project) -> None:
    """Publish the second task, or return to the first."""
    releases = project.production.releases
    if project.active().record.task == "t1":
        publish(project.production, task="t2")
    else:
        earlier = [each for each in releases.all() if each.record.task == "t1" and not releases.is_retired(each)]
        rollback(project.production, earlier[-1].number, why="the next")


def change_through(root: str, store: str, seconds: float) -> None:
    """Change the releases by way of a proxy; the process's own start."""
    os.environ["AWS_ENDPOINT_URL"] = store
    lease.LEASE_SECONDS = seconds
    change(Project(Path(root), tasks=TASKS))


class Killer:
    """Kills the process that asks, at its n-th request.

    Args:
        number: n.
        lost: The store does what it was asked, and the answer is lost; otherwise it never sees the request.
    """

    def __init__(self, number: int, *, lost: bool) -> None:
        self._number, self._lost, self._asked = number, lost, 0
        self.process: multiprocessing.process.BaseProcess | None = None
        self.killed: str | None = None
        """The request at which it was killed."""

    def __call__(self, method: str, path: str) -> str | int | None:
        """Return what becomes of a request, as `faulty_store.Proxy` asks."""
        self._asked += 1
        if self._asked != self._number or self.process is None:
            return 503 if self.killed else None  # what was under way beside it never arrives
        self.killed = f"{method} {kind_of(path)}"
        os.kill(self.process.pid or 0, signal.SIGKILL)
        return "lost" if self._lost else 503


def kind_of(path: str) -> str:
    """Return what an object is: a lease, the pointer, a line of the log, a file of a release, or of the gallery."""
    for part in ("gallery", "leases", "current", "audit", "project"):
        if f"/{part}" in path:
            return part
    return "release" if "/releases/" in path else "listing"


def attack(scratch: Path, *, every: int, until: float) -> int:
    """Kill at one request after the other until a change ends alive; return how many findings there were."""
    with ExitStack() as stack:
        store = stack.enter_context(store_of_this_process())
        proxy = stack.enter_context(proxy_before(store.environment["AWS_ENDPOINT_URL"]))
        settings = {"uri": f"s3://{BUCKET}/gallery", "releases": f"s3://{BUCKET}/releases", "keep_releases": 3}
        project = Project(scratch / "other", tasks=TASKS, images=6, settings=settings)
        project.promote("t1", "none").promote("t2", "adapt")
        publish(project.production, task="t1")
        publisher = project.copied_to(scratch / "publisher")
        (scratch / "replica").mkdir()
        (scratch / "replica" / "params.yaml").write_bytes((project.root / "params.yaml").read_bytes())
        replica = stack.enter_context(serving(Project(scratch / "replica", tasks=TASKS)))
        kills: Counter[str] = Counter()
        active: Counter[str] = Counter()
        findings: list[object] = []
        number = 1
        while time.monotonic() < until:
            ended = 0
            for lost in (False, True):
                proxy.trouble = killer = Killer(number, lost=lost)
                process = FORKS.Process(
                    target=change_through, args=(str(publisher.root), proxy.url, lease.LEASE_SECONDS)
                )
                process.start()
                killer.process = process
                process.join()
                ended += killer.killed is None
                name = project.active().record.task
                replica.serves(project.active().number)
                answer = search(replica.url, png(0), k=3).json()
                assert answer["release"] == project.active().number, answer
                if killer.killed:
                    kills[killer.killed] += 1
                    active[name] += 1
                change(project)
                found = project.findings()
                findings += found
                print(
                    f"request {number}, {'after' if lost else 'before'}: {killer.killed}; {name}, {found}", flush=True
                )
            if ended:
                break
            number += every
        print(f"kills: {sum(kills.values())}, {dict(kills.most_common())}; active after them: {dict(active)}")
        print(f"verify: {findings or 'all is well'}")
        return len(findings)


def main() -> None:
    """Print the kills and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--lease", type=float, default=2)
    parser.add_argument("--seconds", type=float, default=3600)
    options = parser.parse_args()
    lease.LEASE_SECONDS = options.lease
    with tempfile.TemporaryDirectory(prefix="csd-kills-") as name:
        sys.exit(bool(attack(Path(name), every=options.every, until=time.monotonic() + options.seconds)))


if __name__ == "__main__":
    main()
