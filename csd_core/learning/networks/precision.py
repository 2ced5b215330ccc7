"""In which numbers a forward pass is computed."""

import torch
from torch import Tensor

from csd_core.learning.networks.network import EmbeddingNetwork
from csd_core.params.training import Precision


def pooled_features(network: EmbeddingNetwork, images: Tensor, precision: Precision) -> Tensor:
    """Return the backbone's features (N, D) of images (N, H, W, C) uint8.

    Under `bfloat16` the backbone's convolutions and matrix products are in bfloat16 (torch's autocast: weights and
    statistics stay float32, and so do gradients); what comes out is float32 again, for head, classifier and losses.
    """
    if precision == "float32":
        return network.pooled(images)
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        features = network.pooled(images)
    return features.float()
