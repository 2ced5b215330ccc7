"""The image memory: a few training images of each old class, which later stages train on again."""

import copy

import numpy as np
import numpy.typing as npt
import torch

from csd_core.learning.batches import LabelledImages
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.learning.embedding import embed
from csd_core.learning.networks.network import EmbeddingNetwork
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Memory

Vectors = npt.NDArray[np.float32]
Positions = npt.NDArray[np.intp]


def choose(
    images: LabelledImages,
    *,
    memory: Memory,
    network: EmbeddingNetwork,
    device: torch.device,
    seed: int,
    ranks: ProcessGroup = ALONE,
) -> Positions:
    """Return the positions of the images to keep, class by class.

    The choice depends on the images, the champion and the seed, not on the task that trains on them.

    Args:
        images: Those that may be kept; the training images that the champion has learned.
        memory: How many of each class, and which.
        network: The champion's; left as it is, and not used for a choice at random.
        device: Where it computes.
        seed: Of a choice at random.
        ranks: Those that share the embedding.
    """
    targets = images.targets.numpy()
    classes = {target: np.flatnonzero(targets == target) for target in np.unique(targets).tolist()}
    if memory.choose == "random":
        kept = [
            rows[torch.randperm(len(rows), generator=keyed_generator(seed, "memory", target)).numpy()[: memory.images]]
            for target, rows in classes.items()
        ]
    else:
        order = herd if memory.choose == "herding" else nearest_to_mean
        own = embed(copy.deepcopy(network).to(device), images.part(ranks.share(len(images))))
        vectors = ranks.gather(torch.from_numpy(own), total=len(images)).numpy()
        kept = [rows[order(vectors[rows], memory.images)] for rows in classes.values()]
    return np.concatenate(kept)


def herd(vectors: Vectors, count: int) -> Positions:
    """Choose one by one the vector that brings the mean of the chosen ones nearest to the mean of all (iCaRL).

    Args:
        vectors: (N, D) of one class.
        count: How many to choose; all where there are fewer.
    """
    each = vectors.astype(np.float64)
    mean, total, chosen = each.mean(axis=0), np.zeros(each.shape[1]), list[int]()
    for number in range(1, min(count, len(each)) + 1):
        distances = np.square((total + each) / number - mean).sum(axis=1)
        distances[chosen] = np.inf
        chosen.append(int(distances.argmin()))
        total += each[chosen[-1]]
    return np.array(chosen, np.intp)


def nearest_to_mean(vectors: Vectors, count: int) -> Positions:
    """Choose the vectors (N, D) of one class that are nearest to their mean, the nearest first."""
    each = vectors.astype(np.float64)
    return np.argsort(np.square(each - each.mean(axis=0)).sum(axis=1), kind="stable")[:count]
