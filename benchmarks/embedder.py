"""Embedder, fp32 and int8, against eager torch and a bare onnxruntime loop, in one run: ratios of images a second.

python benchmarks/embedder.py PROJECT TASK [--batches 1 16 128] [--rounds 7] [--seconds 0.5] [--threads 1]

PROJECT is a folder in which the pipeline ran with `export.quantize: int8`. The ways take turns in each round; a ratio
is the median over the rounds.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch

from csd_core.data.shards import load_shard
from csd_core.learning.networks.network import unit
from csd_core.learning.networks.weights import load_model
from csd_core.records.stages import Quantization
from csd_core.retrieval.embedder import Embedder
from csd_core.workspace import Workspace

Way = Callable[[], object]
REFERENCE = "bare onnxruntime"


def rate(way: Way, *, images: int, seconds: float) -> float:
    """Images a second over at least `seconds`."""
    calls, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < seconds:
        way()
        calls += 1
    return calls * images / spent


def ways_of(files: Workspace, task: str, images: np.ndarray, *, threads: int) -> dict[str, Way]:
    """What embeds `images`, by name."""
    path = files.candidate_embedder(task)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    bare = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    fp32 = Embedder.load(path, device="cpu", threads=threads)
    model = load_model(files.candidate_model(task))
    assert model is not None
    network = model.network.eval()
    tensor = torch.from_numpy(images)

    @torch.inference_mode()
    def eager() -> torch.Tensor:
        return unit(network(tensor))

    ways: dict[str, Way] = {
        "eager torch, channels last": eager,
        REFERENCE: lambda: bare.run(["embeddings"], {"images": images}),
        "Embedder fp32": lambda: fp32(images),
    }
    record = Quantization.load(files.candidate_quantized(task) / "quantization.json")
    if record.shipped:
        int8 = Embedder.load(next(files.candidate_quantized(task).glob("*.onnx")), device="cpu", threads=threads)
        ways["Embedder int8"] = lambda: int8(images)
    return ways


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("task")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16, 128])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    files = Workspace(options.project)
    if options.threads:
        torch.set_num_threads(options.threads)
    pool = np.asarray(load_shard(files.shard(options.task)).images)
    record = Quantization.load(files.candidate_quantized(options.task) / "quantization.json")
    print(f"images {pool.shape[1:]}, {torch.get_num_threads()} threads, {options.rounds} rounds; x {REFERENCE}")
    if record.recall_fp32 is not None and record.recall_int8 is not None:
        lost = 100 * (record.recall_fp32 - record.recall_int8)
        print(f"Recall@1 on gate: fp32 {record.recall_fp32:.4f}, int8 {record.recall_int8:.4f}: {lost:.2f} points lost")
    for batch in options.batches:
        images = np.ascontiguousarray(pool[np.arange(batch) % len(pool)])
        ways = ways_of(files, options.task, images, threads=options.threads)
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way()
        for _ in range(options.rounds):
            for name, way in ways.items():
                rates[name].append(rate(way, images=batch, seconds=options.seconds))
        of_reference = {name: np.array(mine) / np.array(rates[REFERENCE]) for name, mine in rates.items()}
        told = ", ".join(
            f"{name} {np.median(ratio):.2f}x ({ratio.min():.2f} to {ratio.max():.2f})"
            for name, ratio in of_reference.items()
            if name != REFERENCE
        )
        print(f"batch {batch}: {told}; {np.median(rates[REFERENCE]):,.0f} images/s bare", end="")
        if "Embedder int8" in rates:
            gain = np.median(np.array(rates["Embedder int8"]) / np.array(rates["Embedder fp32"]))
            print(f"; int8 {gain:.2f}x fp32", end="")
        print()


if __name__ == "__main__":
    main()
