"""Search by two query models' merged answers against one model, over as many rows, in one run.

python benchmarks/query_models.py [--rows 100000 1000000] [--depth 20] [--rounds 6] [--seconds 1]

The projects are the tests', with untrained networks of csd (resnet-cifar, 64 dimensions, images of 32 pixels) instead
of linear models, so that embedding a query costs what it does in production. Rows are random unit vectors; of two
models each made half of them. Both releases are open at the same time and take turns, for the machine's other work
comes and goes: a ratio is the median over the rounds. Beside the seconds that pass stand those that processors spend on
an answer, which other work changes less. Each query image is new, so none is remembered.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from service import load, serving

from csd_core.learning.export.embedder import _to_onnx
from csd_core.learning.export.graph import strip
from csd_core.learning.networks.network import new_network
from csd_core.live.images import encode_png
from csd_core.live.index.files import SearchIndex
from csd_core.live.rows import LiveItems
from csd_core.live.search import Snapshot
from csd_core.params.file import load_params
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import INDEX, Release
from csd_core.releases.publish import publish
from csd_core.releases.reindex import reindex
from csd_core.retrieval.embedder import Embedder, EmbedderMetadata
from csd_core.workspace import Workspace

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "production"))
import projects

K, SIZE, DIMENSION = 10, 32, 64
CHUNK = 100_000
ONE, TWO = "one model", "two models"
SEARCH, EMBED = f"/v1/search?k={K}", "/v1/embed"


class Served(NamedTuple):
    """A project, and the release it serves."""

    project: Any
    release: Release
    vectors: np.ndarray
    """(N, 64) of its rows."""


def write_network(path: Path, projection: np.ndarray, metadata: EmbedderMetadata, *, depth: int) -> None:
    """Write an untrained network; the seed comes from the linear model that it stands for."""
    network = load_params(projects.DIGITS).training.network.model_copy(update={"depth": depth, "width": 16})
    seed = int(abs(projection[0, 0]) * 1e6)
    drawn = new_network(network, channels=1, pixels=8, classes=2, generator=torch.Generator().manual_seed(seed)).eval()
    graph = _to_onnx(drawn, metadata.form, opset=18)
    strip(graph, props=metadata.to_props())
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(graph.SerializeToString(deterministic=True))


def built(root: Path, rows: int, *, name: str) -> Served:
    """Publish a project whose rows one model searches, or two."""
    limits = {"exact_rows": 10 * rows}
    project = projects.Project(root, tasks=("t1", "t2"), images=24, settings=limits)
    project.promote("t1", "none", dimension=DIMENSION)
    release = publish(project.production, task="t1")
    if name == TWO:
        project.promote("t2", "merge", dimension=DIMENSION, drift=3.0)
        release = publish(project.production)
    assert release is not None
    models = [release.record.model, *release.older_models]
    vectors = np.random.default_rng(0).standard_normal((rows, DIMENSION), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    live = project.production.live
    for start in range(0, rows, CHUNK):
        numbers = np.arange(start, min(rows, start + CHUNK))
        live.upsert(
            release.table,
            LiveItems(
                ids=np.array([f"row-{number:07}" for number in numbers]),
                labels=np.array([f"class {number % 200}" for number in numbers]),
                vectors=vectors[numbers],
                embedded_by=np.array(models)[numbers % len(models)],
            ),
        )
    live.compact(release.table)
    return Served(project, release, vectors)


def with_exact_rows(root: Path, limit: int) -> None:
    """Set `live.exact_rows`, and publish the release again, with an index or without."""
    file = root / "params.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    changed = [f"  exact_rows: {limit}" if line.strip().startswith("exact_rows:") else line for line in lines]
    file.write_text("\n".join(changed) + "\n", encoding="utf-8")
    reindex(Production.of(Workspace(root)), why="benchmark")


class Measured(NamedTuple):
    """One round of calls."""

    seconds: list[float]
    """Of each call."""
    processor: float
    """Seconds of processors for one call."""


def tell(what: str, rounds: dict[str, list[Measured]], *, of: str, to: str) -> None:
    """Print least, p50, p99 and processor time of each way, and the ratios of one way to another.

    Args:
        what: Was measured.
        rounds: Way -> its rounds.
        of: The way whose ratios are printed.
        to: The way they are ratios to.
    """
    for name, mine in rounds.items():
        every = np.array([each for some in mine for each in some.seconds]) * 1000
        p50, p99 = np.quantile(every, [0.5, 0.99])
        spent = 1000 * statistics.median(some.processor for some in mine)
        print(f"  {what}, {name}: least {every.min():.2f}, p50 {p50:.2f}, p99 {p99:.2f}, processors {spent:.2f} ms")
    pairs = list(zip(rounds[of], rounds[to], strict=True))
    p50 = statistics.median(np.median(mine.seconds) / np.median(other.seconds) for mine, other in pairs)
    least = min(min(mine.seconds) for mine, _ in pairs) / min(min(other.seconds) for _, other in pairs)
    spent = statistics.median(mine.processor / other.processor for mine, other in pairs)
    print(f"    {of} / {to}: p50 {p50:.2f}, least {least:.2f}, processors {spent:.2f}", flush=True)


def repeated(call: Callable[[int], object], *, seconds: float) -> Measured:
    """Call with 0, 1, ... until so many seconds have passed."""
    times: list[float] = []
    until, spent = time.perf_counter() + seconds, time.process_time()
    while time.perf_counter() < until:
        started = time.perf_counter()
        call(len(times))
        times.append(time.perf_counter() - started)
    return Measured(times, (time.process_time() - spent) / len(times))


def asked(url: str, pid: int, path: str, files: list[bytes], *, clients: int, seconds: float) -> Measured:
    """Ask a service for so many seconds; none of its answers may be an error."""
    process = psutil.Process(pid)
    before = process.cpu_times()
    times, failed = load(url, path, files, clients=clients, seconds=seconds)
    after = process.cpu_times()
    assert not failed, failed
    return Measured(times, (after.user + after.system - before.user - before.system) / len(times))


def compare_in_process(served: dict[str, Served], *, exact: bool, options: argparse.Namespace) -> None:
    """Print the times of a search by vectors, without HTTP and embedding."""
    snapshots = {}
    for name, (project, _, _) in served.items():
        with_exact_rows(project.root, 10**9 if exact else 0)
        release = project.active()
        index = SearchIndex.of(release.folder / INDEX)
        started, spent = time.perf_counter(), time.process_time()
        snapshots[name] = Snapshot.load(project.production.live, release.table, release.rules, index=index)
        took, spent = time.perf_counter() - started, time.process_time() - spent
        print(f"  {name}: rows loaded in {took:.2f} s, processors {spent:.2f} s", end="")
        if (rows := snapshots[name].rows) is not None:
            vectors = sum(part.vectors.nbytes for part in rows.parts)
            positions = sum(part.positions.nbytes for part in rows.parts if part.positions is not None)
            print(
                f", {vectors / snapshots[name].count:.0f} + {positions / snapshots[name].count:.0f} bytes a row", end=""
            )
        print()
    rounds: dict[str, list[Measured]] = {name: [] for name in served}
    for turn in range(options.rounds):
        for name, snapshot in snapshots.items():
            vectors = served[name].vectors

            ask = partial(_search, snapshot, vectors[turn :: options.rounds])
            rounds[name].append(repeated(ask, seconds=options.seconds))
    tell("search in this process", rounds, of=TWO, to=ONE)


def _search(snapshot: Snapshot, vectors: np.ndarray, number: int) -> object:
    """Search by one row's vector, as if every query model had given it."""
    at = number % len(vectors)
    return snapshot.search(dict.fromkeys(snapshot.rules.dimensions, vectors[at : at + 1]), k=K)


def compare_services(served: dict[str, Served], *, options: argparse.Namespace) -> None:
    """Print the times of the whole service: one client, then four."""
    rng = np.random.default_rng(1)
    with ExitStack() as running:
        services = {}
        for name, (project, _, _) in served.items():
            url, pid, ready = running.enter_context(serving(project.root, 1))
            services[name] = (url, pid)
            process, spent = psutil.Process(pid), psutil.Process(pid).cpu_times()
            print(
                f"  {name}: start to ready {ready:.1f} s, processors {spent.user + spent.system:.1f} s, "
                f"{process.memory_info().rss >> 20} MiB"
            )
        for clients, path in ((1, SEARCH), (1, EMBED), (4, SEARCH)):
            rounds: dict[str, list[Measured]] = {name: [] for name in services}
            for turn in range(options.rounds + 1):
                for name, (url, pid) in services.items():
                    files = [encode_png(each) for each in rng.integers(0, 256, (2048, SIZE, SIZE, 1), np.uint8)]
                    measured = asked(url, pid, path, files, clients=clients, seconds=options.seconds)
                    if turn:  # the first round warms up
                        rounds[name].append(measured)
            tell(f"{path.split('?')[0]}, {clients} clients", rounds, of=TWO, to=ONE)


def compare_embedding(served: Served, *, options: argparse.Namespace) -> None:
    """Print what two models cost for a batch of queries, one after the other and side by side."""
    release = served.release
    models = [
        Embedder.load(release.folder / release.queries_of(model)["fp32"].file, device="cpu")
        for model in (release.record.model, *release.older_models)
    ]
    with ThreadPoolExecutor(1) as beside:
        for batch in (1, 8, 32):
            images = np.random.default_rng(2).integers(0, 256, (batch, SIZE, SIZE, 1), np.uint8)

            ways = {
                "one model": partial(_in_turn, models[:1], images),
                "in turn": partial(_in_turn, models, images),
                "side by side": partial(_side_by_side, models, images, beside),
            }
            rounds: dict[str, list[Measured]] = {name: [] for name in ways}
            for _ in range(options.rounds):
                for name, way in ways.items():
                    rounds[name].append(repeated(way, seconds=options.seconds / 2))
            tell(f"{batch} images", rounds, of="side by side", to="in turn")


def _in_turn(models: list[Embedder], images: np.ndarray, _: int) -> object:
    return [model(images) for model in models]


def _side_by_side(models: list[Embedder], images: np.ndarray, beside: ThreadPoolExecutor, _: int) -> object:
    other = beside.submit(models[1], images)
    return models[0](images), other.result()


def main() -> None:
    """Compare each size, exact and by the index."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    projects.SIZE = SIZE
    projects.write_linear = lambda path, projection, metadata: write_network(
        path, projection, metadata, depth=options.depth
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as scratch:
            served = {name: built(Path(scratch) / name.replace(" ", "-"), rows, name=name) for name in (ONE, TWO)}
            if rows == options.rows[0]:
                print("embedding a batch of queries by two models")
                compare_embedding(served[TWO], options=options)
            for exact in (True, False):
                print(f"{rows:,} rows x {DIMENSION}, {'exact' if exact else 'by the index'}", flush=True)
                compare_in_process(served, exact=exact, options=options)
                compare_services(served, options=options)


if __name__ == "__main__":
    main()
