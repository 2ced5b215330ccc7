"""The service against the bare embedder, and what a hot upgrade costs its clients, in one run on one machine.

python benchmarks/service.py PROJECT [--clients 32] [--seconds 10] [--workers 1]
python benchmarks/service.py PROJECT --decoding [--seconds 10]   # images decoded in the service or beside it

PROJECT is a folder in which something was published (`make run && csd publish`). Clients share its processors.
"""

import argparse
import asyncio
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
from PIL import Image

from csd_core.data.decode import decode
from csd_core.live.images import encode_png
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import Release
from csd_core.releases.rollback import rollback
from csd_core.retrieval.embedder import Embedder
from csd_core.workspace import Workspace

BATCH = 32
DISTINCT = 4096
"""Query images, more than the service remembers."""


BESIDE = "import csd_core.data.decode as d; d.PNG = d.JPEG = b'none'; from csd_core.cli import main; main()"
"""The service, decoding all images in the processes that are limited."""


@contextmanager
def serving(root: Path, workers: int, *, beside: bool = False) -> Iterator[tuple[str, int, float]]:
    """Address, process and seconds from start to ready."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    program = ["-c", BESIDE] if beside else ["-m", "csd_core.cli"]
    command = [sys.executable, *program, "serve", "--port", str(port), "--workers", str(workers)]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            try:
                if httpx.get(f"{url}/readyz").status_code == 200:
                    break
            except httpx.TransportError:
                time.sleep(0.02)
        yield url, process.pid, time.perf_counter() - started
    finally:
        process.terminate()
        process.wait()


async def _client(
    host: str, port: int, requests: list[bytes], until: float, times: list[float], bad: list[int]
) -> None:
    """One connection, one request after another; as bare as can be, for it shares the processors."""
    reader, writer = await asyncio.open_connection(host, port)
    turn = 0
    while time.perf_counter() < until:
        writer.write(requests[turn % len(requests)])
        turn += 1
        started = time.perf_counter()
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - started)
        if not head.startswith(b"HTTP/1.1 200"):
            bad.append(int(head.split()[1]))
    writer.close()


def load(
    url: str, path: str, files: list[bytes], *, clients: int, seconds: float, kind: str = "image/png"
) -> tuple[list[float], list[int]]:
    """Seconds of each answer, and the statuses of those that failed."""
    host, port = url.removeprefix("http://").split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: {kind}\r\nContent-Length: "
    requests = [f"{head}{len(file)}\r\n\r\n".encode() + file for file in files]
    times: list[float] = []
    bad: list[int] = []

    async def run() -> None:
        until = time.perf_counter() + seconds
        share = len(requests) // clients
        await asyncio.gather(
            *(
                _client(host, int(port), requests[number * share : (number + 1) * share], until, times, bad)
                for number in range(clients)
            )
        )

    asyncio.run(run())
    return times, bad


def bare(model: Path, files: list[bytes], *, seconds: float) -> tuple[float, float]:
    """Images a second: of the model alone in batches, and with each file decoded first."""
    embedder = Embedder.load(model, device="cpu")
    form = embedder.metadata.form
    images = np.stack([decode(file, form) for file in files[:BATCH]])
    embedder(images)

    def rate(step: object) -> float:
        done, started = 0, time.perf_counter()
        while time.perf_counter() - started < seconds:
            step()  # type: ignore[operator]
            done += BATCH
        return done / (time.perf_counter() - started)

    return (
        rate(lambda: embedder(images)),
        rate(lambda: embedder(np.stack([decode(file, form) for file in files[:BATCH]]))),
    )


def quantiles(times: list[float]) -> str:
    """Of milliseconds."""
    p50, p99 = np.quantile(np.array(times) * 1000, [0.5, 0.99])
    return f"p50 {p50:.1f} ms, p99 {p99:.1f} ms"


def query_images(release: Release) -> list[bytes]:
    """Return random images of the size that a release's model takes, as PNG files."""
    form = Embedder.load(release.embedder, device="cpu").metadata
    pixels = np.random.default_rng(0).integers(0, 256, (DISTINCT, form.size, form.size, form.channels), np.uint8)
    return [encode_png(image) for image in pixels]


def published(project: Path) -> Release:
    """Return the release that a project serves."""
    release = Production.of(Workspace(project)).releases.active()
    assert release is not None, "publish something first"
    return release


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--decoding", action="store_true")
    options = parser.parse_args()
    if options.decoding:
        compare_decoding(options.project, seconds=options.seconds)
        return
    release = published(options.project)
    files = query_images(release)
    print(f"{os.cpu_count()} processors, {options.clients} clients, {options.workers} workers")
    with serving(options.project, options.workers) as (url, pid, seconds):
        print(f"cold start to ready: {seconds:.1f} s")
        asked = httpx.post(f"{url}/v1/embed", content=files[0], headers={"Content-Type": "image/png"}).json()
        served = next(each for each in release.record.query_models if each.digest == asked["model"])
        model, decoded = bare(release.folder / served.file, files, seconds=options.seconds / 2)
        print(f"the model alone, {served.variant}: {model:,.0f} images/s")
        load(url, "/v1/embed", files, clients=options.clients, seconds=1)
        for path in ("/v1/embed", "/v1/search?k=10"):
            times, bad = load(url, path, files, clients=options.clients, seconds=options.seconds)
            rate = len(times) / options.seconds
            print(
                f"{path}: {rate / model:.2f}x the model alone, {rate / decoded:.2f}x decoding and model in one thread; "
                f"{quantiles(times)}; failed {len(bad)}"
            )
            alone, _ = load(url, path, files, clients=1, seconds=options.seconds / 4)
            print(f"    one client: {quantiles(alone)}")
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        print(f"memory: {', '.join(f'{each.memory_info().rss >> 20} MiB' for each in processes)}")
        upgrade_under_load(Production.of(Workspace(options.project)), url, files, options)


def compare_decoding(root: Path, *, seconds: float) -> None:
    """Print the times of searches by image: decoded in the service's process, and in processes of their own."""
    rng = np.random.default_rng(0)
    photo = Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).resize((1000, 1000), Image.Resampling.BICUBIC)
    small = [encode_png(image) for image in rng.integers(0, 256, (DISTINCT, 32, 32, 3), np.uint8)]
    large = [_jpeg(photo) + number.to_bytes(4, "big") for number in range(DISTINCT)]  # distinct, or it is remembered
    for turn in range(2):
        for beside in (False, True):
            with serving(root, 1, beside=beside) as (url, _, _):
                for name, files, kind in (("PNG 32 px", small, "image/png"), ("JPEG 1 MP", large, "image/jpeg")):
                    for clients in (1, 8):
                        load(url, "/v1/search?k=10", files[::-1], clients=clients, seconds=1, kind=kind)
                        times, bad = load(url, "/v1/search?k=10", files, clients=clients, seconds=seconds, kind=kind)
                        where = "beside" if beside else "in the service"
                        print(f"{turn} {where}: {name}, {clients} clients: {quantiles(times)}; {len(bad)} failed")


def _jpeg(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def upgrade_under_load(production: Production, url: str, files: list[bytes], options: argparse.Namespace) -> None:
    """Searches while releases change, against searches while nothing does."""
    quiet, _ = load(url, "/v1/search?k=10", files, clients=4, seconds=options.seconds)
    releases = production.releases.all()
    if len(releases) < 2:
        print("hot upgrade: needs two releases; publish another")
        return

    def upgrades() -> None:
        rollback(production, why="benchmark")
        rollback(production, why="benchmark")

    thread = threading.Thread(target=upgrades)
    thread.start()
    times, bad = load(url, "/v1/search?k=10", files, clients=4, seconds=options.seconds)
    thread.join()
    print(f"4 clients, quiet: {quantiles(quiet)}; during two upgrades: {quantiles(times)}; failed {len(bad)}")


if __name__ == "__main__":
    main()
