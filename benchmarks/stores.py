"""Upgrade galleries in stores: rows/s of plan and apply against a plain copy, and kills of apply, with what is lost.

A copy reads all rows through the same protocol and writes them to a new store of the kind, as its library does it.
A kill counts only if the store had a part of the upgrade. At the end all rows are compared with the adapter's, and
after `undo` with those before.

python benchmarks/stores.py [--rows 100000] [--kills 20] [--kinds postgresql lancedb qdrant]
"""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / each) for each in ("", "standalone", "standalone/stores")]  # the tests' stores

from postgres import postgres, programs_with_pgvector  # noqa: E402 - found on the path set above
from shops import Made  # noqa: E402 - as above
from strangers import exported, saved, write_images  # noqa: E402 - as above

from csd_core.retrieval.adapter import Adapter  # noqa: E402 - as above
from csd_core.retrieval.embedder import Embedder  # noqa: E402 - as above
from csd_core.stores.address import open_store  # noqa: E402 - as above
from csd_core.system.yaml_file import read_yaml  # noqa: E402 - as above
from csd_core.upgrade.policy_file import DEFAULT  # noqa: E402 - as above

IMAGES = 600
LIMITS = ("max_regression", "max_task_regression", "max_total_regression", "max_excess_flips", "max_map_regression")


@contextmanager
def timed(found: dict[str, float], what: str) -> Iterator[None]:
    """Note the seconds of a block."""
    start = time.perf_counter()
    yield
    found[what] = time.perf_counter() - start


def csd(*arguments: object) -> None:
    """Run a command."""
    subprocess.run([sys.executable, "-m", "csd_core.cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


def vectors_of(address: str) -> dict[str, Any]:
    """Id -> active vector."""
    with closing(open_store(address)) as store:
        return {
            name: row for batch in store.rows() for name, row in zip(batch.ids.tolist(), batch.vectors, strict=True)
        }


def world(folder: Path, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Write models, images and a policy; return ids and vectors of rows, of which the first have images."""
    digits = load_digits()
    pixels = (digits.images * 255 / 16).round().astype(np.uint8)
    draw = np.random.default_rng(0)
    old, new = (draw.normal(size=(64, 64)) * scale for scale in (np.linspace(0.1, 3, 64), 1))
    models = [saved(exported(matrix), folder / f"{name}.onnx") for name, matrix in (("old", old), ("new", new))]
    root = write_images(folder / "photos", pixels[:IMAGES], digits.target[:IMAGES])
    for path in sorted(root.rglob("*.png")):
        path.rename(path.with_name(f"{int(path.stem) + 1}.png"))
    values = read_yaml(DEFAULT)
    values["gate"] |= {"min_gain": -1.0, "allowed": ["adapt"]} | dict.fromkeys(LIMITS, 1.0)
    (folder / "policy.yaml").write_text(str(values))
    others = draw.integers(0, 255, size=(rows - IMAGES, 8, 8), dtype=np.uint8)
    vectors = Embedder.load(models[0])(np.concatenate([pixels[:IMAGES], others])[..., None])
    return np.arange(1, rows + 1).astype(str), vectors


def killed(apply: list[str], address: str, seconds: float, draw: random.Random) -> bool | None:
    """Kill apply at some time; whether it was at work, None where it had finished."""
    process = subprocess.Popen(apply, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        code = process.wait(draw.uniform(0.3, 1.1) * seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    else:
        assert code == 0
        return None
    with closing(open_store(address)) as store:
        return store.held() is not None


def measure(kind: str, folder: Path, server: Any, rows: int, kills: int) -> dict[str, Any]:
    """Copy, plan, apply, kill and look."""
    ids, vectors = world(folder, rows)
    seconds: dict[str, float] = {}
    make: Callable[[Path], Made] = lambda where: Made(kind, where, server, ids, vectors, index=False)  # noqa: E731
    (folder / "copy").mkdir()
    shop = make(folder)
    before = vectors_of(shop.address)
    with timed(seconds, "copy"):
        vectors_of(shop.address)
        make(folder / "copy")
    plan = folder / "plan"
    with timed(seconds, "plan"):
        csd(
            "upgrade", "plan", folder / "old.onnx", folder / "new.onnx", "--images", folder / "photos", "--store",
            shop.address, "--policy", folder / "policy.yaml", "-o", plan,
        )  # fmt: skip
    apply = ["upgrade", "apply", str(plan), "--store", shop.address, "--max-failed", "0"]
    with timed(seconds, "apply"):
        csd(*apply)
    draw, inside, finished = random.Random(0), 0, 0  # noqa: S311 - moments, no secret
    for _ in range(kills):
        with closing(open_store(shop.address)) as store:
            held = store.held()
        if held and held.active:
            csd("upgrade", "undo", plan, "--store", shop.address)
            csd("upgrade", "clean", plan, "--store", shop.address)
        outcome = killed([sys.executable, "-m", "csd_core.cli", *apply], shop.address, seconds["apply"], draw)
        inside, finished = inside + (outcome is True), finished + (outcome is None)
    with closing(open_store(shop.address)) as store:
        active = (held := store.held()) is not None and held.active
    if not active:
        csd(*apply)
    (group,) = json.loads((plan / "serving.json").read_text())["groups"]
    mapped = Adapter.load(plan / group["map_by"])(np.array([before[each] for each in ids]))
    after = vectors_of(shop.address)
    wrong = sum(not np.allclose(after.get(name, np.nan), row, atol=1e-5) for name, row in zip(ids, mapped, strict=True))
    csd("upgrade", "undo", plan, "--store", shop.address)
    undone = vectors_of(shop.address)
    wrong += sum(not np.array_equal(undone.get(name), row) for name, row in before.items())
    return {
        "store": kind,
        "rows": rows,
        **{f"{what} rows/s": round(rows / value) for what, value in seconds.items()},
        "apply / copy": round(seconds["apply"] / seconds["copy"], 1),
        "kills inside": inside,
        "finished first": finished,
        "rows wrong": wrong,
    }


def main() -> None:
    """Print a line of JSON for each kind of store."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kinds", nargs="+", default=["postgresql", "lancedb", "qdrant"])
    chosen = parser.parse_args()
    with ExitStack() as stack:
        server = stack.enter_context(postgres(programs_with_pgvector)) if "postgresql" in chosen.kinds else None
        if server:
            with psycopg.connect(server.address) as connection:
                connection.execute("CREATE EXTENSION vector")
        for kind in chosen.kinds:
            with tempfile.TemporaryDirectory(prefix="csd-stores-") as name:
                print(json.dumps(measure(kind, Path(name), server, chosen.rows, chosen.kills)), flush=True)


if __name__ == "__main__":
    main()
