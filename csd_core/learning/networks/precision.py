"""In which numbers a forward pass is computed."""

import torch
from torch import Tensor

from csd_core.learning.networks.resnet import EmbeddingNetwork
from csd_core.params.training import Precision


def features_of(network: EmbeddingNetwork, images: Tensor, precision: Precision) -> Tensor:
    """Return features (N, D) of images (N, H, W, C) uint8.

    Under `bfloat16` the backbone's convolutions and matrix products are in bfloat16 (torch's autocast: weights and
    statistics stay float32, and so do gradients); what comes out is float32 again, for classifier and losses.
    """
    if precision == "float32":
        return network(images)  # type: ignore[no-any-return] # torch leaves calls untyped
    with torch.autocast(images.device.type, dtype=torch.bfloat16):
        features: Tensor = network(images)
    return features.float()
