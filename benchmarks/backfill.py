"""Images per second of a backfill against a bare onnxruntime loop on the same images, in one run.

Both use one thread and batches of the same size. They take turns, so that a busy machine slows both; the median of
the turns' ratios counts. The bare loop only cuts batches out of an array and keeps the vectors; the backfill finds
images by id in a shard folder, writes and verifies its shards, and joins them to one file. With `--workers`, a third
runner shows what processes add.

    python benchmarks/backfill.py MODEL.onnx SHARD_FOLDER [--rows 10000] [--rounds 5] [--workers 2] [--ray]
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort

from csd_core.data.shards import load_shard
from csd_core.engine.processes import LocalEngine
from csd_core.engine.ray_engine import RayEngine
from csd_core.engine.work import Engine
from csd_core.upgrade.backfill.embedding import THREADS
from csd_core.upgrade.backfill.engine import backfill
from csd_core.upgrade.backfill.images import ShardFolders
from csd_core.upgrade.backfill.shards import BATCH


def bare_loop(model: Path, images: np.ndarray) -> Callable[[], np.ndarray]:
    """Embeds batch after batch, nothing else; the model is loaded anew each time, as a backfill does."""

    def run() -> np.ndarray:
        options = ort.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        parts = [
            session.run(["embeddings"], {"images": images[start : start + BATCH]})[0]
            for start in range(0, len(images), BATCH)
        ]
        return np.concatenate(parts)

    return run


def a_backfill(model: Path, folder: Path, ids: np.ndarray, *, engine: Engine) -> Callable[[], np.ndarray]:
    """A whole backfill in a fresh work folder."""

    def run() -> np.ndarray:
        with tempfile.TemporaryDirectory() as work:
            done = backfill(ids, model=model, source=ShardFolders((folder,)), folder=Path(work), engine=engine)
            return np.array(done.complete())

    return run


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("shard", type=Path)
    parser.add_argument("--rows", type=int, default=10_000, help="at most so many of the shard's items")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--ray", action="store_true", help="with 1 and with --workers workers of Ray on this machine, too"
    )
    asked = parser.parse_args()
    shard = load_shard(asked.shard)
    chosen = np.argsort(shard.ids)[: asked.rows]  # as a backfill orders them
    ids, images = shard.ids[chosen], np.ascontiguousarray(shard.images[chosen])
    runners = {
        "bare": bare_loop(asked.model, images),
        "backfill": a_backfill(asked.model, asked.shard, ids, engine=LocalEngine()),
    }
    if asked.workers > 1:
        engine: Engine = LocalEngine(workers=asked.workers)
        runners[f"{asked.workers} processes"] = a_backfill(asked.model, asked.shard, ids, engine=engine)
    if asked.ray:
        import ray  # noqa: PLC0415 - only if it is asked for

        # it starts once: a cluster is there before a backfill is. Workers start within each turn, as they do in use
        ray.init(num_cpus=asked.workers, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
        for workers in sorted({1, asked.workers}):
            engine = RayEngine(address=None, workers=workers)
            runners[f"{workers} Ray workers"] = a_backfill(asked.model, asked.shard, ids, engine=engine)
    expected = runners["bare"]()  # warms the page cache, too
    seconds: dict[str, list[float]] = {name: [] for name in runners}
    for turn in range(asked.rounds):
        for name in list(runners)[:: 1 if turn % 2 else -1]:
            started = time.perf_counter()
            found = runners[name]()
            seconds[name].append(time.perf_counter() - started)
            assert np.abs(found - expected).max() < 1e-5
    print(f"{len(ids):,} images {images.shape[1:]}, batch {BATCH}, {THREADS} thread a session")
    for name, taken in seconds.items():
        ratio = statistics.median(own / bare for own, bare in zip(taken, seconds["bare"], strict=True))
        print(f"{name}: {len(ids) / min(taken):,.0f} images/s, {ratio:.3f} x the time of the bare loop")


if __name__ == "__main__":
    main()
