"""What untrained networks reach on a task's gate images: Recall@1 and mAP@R of random weights, and of raw pixels.

Run in a folder whose tasks are split: python PATH/benchmarks/untrained.py [--tasks t1] [--seeds 15]
"""

import argparse

import numpy as np
import torch

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.learning.networks.network import new_network, unit
from csd_core.retrieval.metrics import map_at_r, recall_at
from csd_core.workspace import Workspace

BATCH = 512


def figures(vectors: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Recall@1 and mean mAP@R of every row among the others."""
    own = np.arange(len(vectors))
    same = {"query_labels": labels, "gallery_labels": labels, "own": own}
    return recall_at(vectors, vectors, **same).at(1), float(np.nanmean(map_at_r(vectors, vectors, **same)))


def main() -> None:
    """Print the range over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["t1"])
    parser.add_argument("--seeds", type=int, default=15)
    options = parser.parse_args()
    files = Workspace()
    params = files.params()
    pool = ItemPool(shards=[load_shard(files.shard(task)) for task in options.tasks])
    rows = pool.rows("gate")
    images, labels = pool.images(rows), pool.labels[rows]
    found = []
    for seed in range(options.seeds):
        network = new_network(
            params.training.network,
            channels=params.images.channels,
            pixels=params.images.pixels,
            classes=len(np.unique(labels)),
            generator=torch.Generator().manual_seed(seed),
        ).eval()
        with torch.inference_mode():
            parts = [unit(network(torch.from_numpy(images[at : at + BATCH]))) for at in range(0, len(images), BATCH)]
        found.append(figures(torch.cat(parts).numpy(), labels))
    recalls, precisions = zip(*found, strict=True)
    print(f"{len(rows):,} gate images of {', '.join(options.tasks)}, {options.seeds} seeds")
    print(
        f"untrained: Recall@1 {min(recalls):.3f} to {max(recalls):.3f}, "
        f"mAP@R {min(precisions):.3f} to {max(precisions):.3f}"
    )
    pixels = images.reshape(len(images), -1).astype(np.float32)
    by_pixels = figures(pixels / np.maximum(np.linalg.norm(pixels, axis=1, keepdims=True), 1e-12), labels)
    print(f"raw pixels: Recall@1 {by_pixels[0]:.3f}, mAP@R {by_pixels[1]:.3f}")


if __name__ == "__main__":
    main()
