"""What clients notice when a replica of the service or the object store goes away for a while.

Two replicas of `csd serve` behind HAProxy with the settings of deploy/haproxy.cfg, releases and rows in an object store
(moto's S3). Clients of csd_core.client search and write all the time; then one thing after the other fails. At the end
every acknowledged write is looked for in the store. PostgreSQL and workers fail in tests/flows/test_machines.py.

python benchmarks/failover.py [--seconds 30] [--faults replica store-refuses store-hangs]
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import httpx

ROOT = Path(__file__).parents[1]
for folder in ("production", "serving", "."):  # the tests' projects and servers
    sys.path.insert(0, str(ROOT / "tests" / folder))

from object_store import BUCKET, store_of_this_process  # noqa: E402 - found on the path set above
from ports import free_port  # noqa: E402 - as above
from projects import Project  # noqa: E402 - as above
from services import Service, png, published, serving  # noqa: E402 - as above

from csd_core.client import Client  # noqa: E402 - as above
from csd_core.serving.keys import FILE, issue  # noqa: E402 - as above
from csd_core.system.errors import CsdError  # noqa: E402 - as above

SEARCHERS, WRITERS = 2, 2
PAUSE = 0.4  # seconds between two requests of a client
CALM = 8.0  # seconds without a failure after which all is well again
LONGEST = 120.0  # seconds after which a fault has no end
RESTART = 5.0  # seconds after which a killed replica is started again, as a container would be
BOOT = 600.0  # seconds that a server may take to start


class Attempt(NamedTuple):
    """One request as it was sent."""

    at: float
    seconds: float
    status: int  # of HTTP; 0 if there was no answer


class Recorder(httpx.BaseTransport):
    """The network, and what it answered."""

    def __init__(self) -> None:
        self._network = httpx.HTTPTransport()
        self.attempts: list[Attempt] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and note how it ended."""
        began, status = time.monotonic(), 0
        try:
            answer = self._network.handle_request(request)
            answer.read()
            status = answer.status_code
        finally:
            self.attempts.append(Attempt(time.monotonic(), time.monotonic() - began, status))
        return answer


class Asker(threading.Thread):
    """Asks again and again until it is stopped, and remembers its calls, which end after the client's own retries."""

    def __init__(self, kind: str, ask: Callable[[int], object], attempts: list[Attempt]) -> None:
        super().__init__(daemon=True)
        self.kind, self.attempts, self._ask = kind, attempts, ask
        self.stopped = threading.Event()
        self.calls: list[tuple[float, bool]] = []  # when it ended, whether it succeeded
        self.done: list[object] = []  # what was acknowledged

    def run(self) -> None:
        """Ask, and remember what became of it."""
        for turn in count(1):
            if self.stopped.wait(PAUSE):
                return
            try:
                self.done.append(self._ask(turn))
                self.calls.append((time.monotonic(), True))
            except (CsdError, httpx.HTTPError):
                self.calls.append((time.monotonic(), False))


def clients(url: str, key: str) -> list[Asker]:
    """Return clients that search, and clients that write; what a write acknowledges is the item's id."""
    askers = []
    for name in range(SEARCHERS + WRITERS):
        recorder = Recorder()
        client = Client(url, key=key, transport=recorder)

        def search(turn: int, client: Client = client) -> object:
            return client.search(png(turn % 2, seed=turn), k=5)

        def write(turn: int, client: Client = client, name: int = name) -> object:
            return client.put(f"w{name}-{turn}", png(turn % 2, seed=turn), label="live").id

        kind, ask = ("search", search) if name < SEARCHERS else ("write", write)
        askers.append(Asker(kind, ask, recorder.attempts))
    return askers


@contextmanager
def running(command: list[str], *, log: Path, **options: Any) -> Iterator[None]:
    """Run a program until the end of the block."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def proxy(folder: Path, replicas: list[int]) -> Iterator[str]:
    """Run HAProxy as deploy/ does, with replicas at ports of this machine instead of names that Docker resolves."""
    port = free_port()
    text = (ROOT / "deploy" / "haproxy.cfg").read_text(encoding="utf-8")
    servers = "\n".join(f"    server serve{number} 127.0.0.1:{at}" for number, at in enumerate(replicas, 1))
    for pattern, instead in (
        (r"resolvers docker\n(?: .*\n)+", ""),
        (r" resolvers docker resolve-prefer ipv4 init-addr libc,none", ""),
        (r"    server-template .*", servers),
        (r"bind :8000", f"bind 127.0.0.1:{port}"),
    ):
        text, found = re.subn(pattern, instead, text)
        assert found == 1, f"deploy/haproxy.cfg has no {pattern}"
    (folder / "haproxy.cfg").write_text(text, encoding="utf-8")
    with running(["haproxy", "-f", str(folder / "haproxy.cfg")], log=folder / "haproxy.log"):
        yield f"http://127.0.0.1:{port}"


def wait_for(url: str) -> None:
    """Wait until an address answers with 200."""
    end = time.monotonic() + BOOT
    while time.monotonic() < end:
        with suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False, timeout=10).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url}: no 200 within {BOOT:g} s")


def wait_for_calm(askers: list[Asker], start: float) -> None:
    """Wait until no attempt failed for CALM seconds."""
    while True:
        failed = [each.at for asker in askers for each in list(asker.attempts) if is_failure(each)]
        last = max([start, *failed])
        fresh = all(asker.attempts and asker.attempts[-1].at > last for asker in askers)
        now = time.monotonic()
        if (fresh and now - last > CALM) or now - start > LONGEST:
            return
        time.sleep(0.2)


def is_failure(attempt: Attempt) -> bool:
    """Return whether a request got no answer, or one that says that something is wrong."""
    return attempt.status == 0 or attempt.status >= 400


def row(fault: str, askers: list[Asker], began: float, ended: float) -> None:
    """Print what each kind of client noticed of a fault."""
    for kind in dict.fromkeys(asker.kind for asker in askers):
        some = [asker for asker in askers if asker.kind == kind]
        attempts = [each for asker in some for each in asker.attempts if each.at >= began]
        calls = [ok for asker in some for at, ok in asker.calls if at >= began]
        failed = [each for each in attempts if is_failure(each)]
        statuses = [each.status for each in failed]
        last = max([each.at for each in failed], default=None)
        noticed = "none" if last is None else f"{last - ended:+.1f} s"
        slowest = max((each.seconds for each in attempts), default=0.0)
        print(
            f"| {fault} | {kind} | {len(failed)} of {len(attempts)} {sorted(set(statuses)) or ''} | "
            f"{calls.count(False)} of {len(calls)} | {noticed} | {slowest:.1f} s |",
            flush=True,
        )


@contextmanager
def everything(scratch: Path) -> Iterator[tuple[Project, list[Asker], dict[str, Callable[[float], None]]]]:
    """Start all of it; yield the project, the clients, and what makes something fail."""
    with ExitStack() as stack:
        store = stack.enter_context(store_of_this_process())
        settings = {"uri": f"s3://{BUCKET}/gallery", "releases": f"s3://{BUCKET}/releases"}
        project = published(scratch / "publisher", "none", settings=settings)
        replicas: list[tuple[Project, int]] = []
        services: list[Service] = []

        def start(number: int) -> Service:
            replica, port = replicas[number]
            return stack.enter_context(serving(replica, "--auth", "on", port=port))

        key = issue(project.root / FILE, "failover", "write")
        for name in ("a", "b"):
            (scratch / name).mkdir()
            for file in ("params.yaml", FILE):
                shutil.copy(project.root / file, scratch / name / file)
            replicas.append((Project(scratch / name, tasks=project.tasks), free_port()))
            services.append(start(len(services)))
        url = stack.enter_context(proxy(scratch, [port for _, port in replicas]))
        wait_for(f"{url}/readyz")

        def kill_replica(_: float) -> None:
            os.killpg(services[0].process.pid, signal.SIGKILL)
            services[0].process.wait()
            time.sleep(RESTART)
            services[0] = start(0)

        def away(seconds: float, go: Callable[[], object], come: Callable[[], object]) -> None:
            go()
            time.sleep(seconds)
            come()

        faults = {
            "none": time.sleep,
            "replica": kill_replica,
            "store-refuses": partial(away, go=store.refuse, come=store.come_back),
            "store-hangs": partial(away, go=store.hang, come=store.come_back),
        }
        yield project, clients(url, key), faults


def main() -> None:
    """Print the table; end with 1 if an acknowledged write is lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--faults", nargs="+", default=["replica", "store-refuses", "store-hangs"])
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="csd-failover-") as name,
        everything(Path(name)) as all_of_it,
    ):
        project, askers, faults = all_of_it
        for asker in askers:
            asker.start()
        print("| fault | request | failed attempts | failed calls | last failure after the end | slowest |")
        for fault in ("none", *options.faults):
            began = time.monotonic()
            faults[fault](options.seconds)
            ended = time.monotonic()
            wait_for_calm(askers, ended)
            row(fault, askers, began, ended)
        for asker in askers:
            asker.stopped.set()
            asker.join(LONGEST)
        written = {str(item) for asker in askers if asker.kind == "write" for item in asker.done}
        lost = sorted(written - project.rows().keys())
        print(f"acknowledged writes: {len(written)}, lost: {len(lost)} {lost[:5]}")
        findings = project.findings()
        print(f"verify: {list(findings) or 'all is well'}")
    sys.exit(bool(lost or findings))


if __name__ == "__main__":
    main()
