"""Embeddings of a set of images by a torch network, and its Recall@1 on them."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from csd_core.learning.batches import LabelledImages
from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.networks.network import EmbeddingNetwork, unit
from csd_core.retrieval.metrics import recall_at

BATCH = 512


@torch.inference_mode()
def embed(network: EmbeddingNetwork, images: LabelledImages, *, batch: int = BATCH) -> npt.NDArray[np.float32]:
    """Unit embeddings (N, D); the network is left in evaluation mode."""
    network.eval()
    device = network.scale.device
    vectors = np.empty((len(images), network.dimension), np.float32)
    for start in range(0, len(images), batch):
        positions = torch.arange(start, min(start + batch, len(images)))
        vectors[start : start + batch] = unit(network(images.take(positions).to(device))).cpu().numpy()
    return vectors


@torch.inference_mode()
def mean_of_pooled(network: EmbeddingNetwork, images: LabelledImages, ranks: ProcessGroup) -> Tensor:
    """Return the mean (D,) float64 of the backbone's features; the network is left in evaluation mode.

    Args:
        network: The same in every process.
        images: At least one.
        ranks: The processes, each of which reads its share of the images.
    """
    network.eval()
    device = network.scale.device
    total = torch.zeros(network.dimension, dtype=torch.float64, device=device)
    for positions in torch.split(torch.arange(len(images))[ranks.share(len(images))], BATCH):
        total += network.pooled(images.take(positions).to(device)).double().sum(dim=0)
    return ranks.gather(total[None], total=ranks.count).sum(dim=0) / len(images)


@torch.inference_mode()
def class_means(network: EmbeddingNetwork, images: LabelledImages, ranks: ProcessGroup) -> Tensor:
    """Return (K, D) float32 unit means of the unit features that the classifier reads; 0 for a class without an image.

    The network is left in evaluation mode.

    Args:
        network: The same in every process.
        images: Their targets are columns.
        ranks: The processes, each of which reads its share of the images.
    """
    network.eval()
    device = network.scale.device
    total = torch.zeros((network.classes, network.dimension), dtype=torch.float64, device=device)
    for positions in torch.split(torch.arange(len(images))[ranks.share(len(images))], BATCH):
        pooled = network.pooled(images.take(positions).to(device))
        read = pooled if network.head.classifies_pooled else network.head(pooled)
        members = one_hot(images.targets[positions].to(device), network.classes).double()  # (N, K)
        total += members.T @ unit(read).double()
    return normalize(ranks.gather(total[None], total=ranks.count).sum(dim=0), dim=1).float()


def recall_at_1(
    vectors: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], groups: npt.NDArray[np.intp]
) -> float | None:
    """Recall@1 of every row among all those outside of its group; None where no class has two groups.

    Args:
        vectors: (N, D) unit embeddings.
        labels: (N,) classes.
        groups: (N,) numbers of groups of near-duplicates.
    """
    if not len(vectors):
        return None
    recall = recall_at(vectors, vectors, query_labels=labels, gallery_labels=labels, k=(1,), own=groups, groups=groups)
    return recall.at(1) if recall.queries else None
