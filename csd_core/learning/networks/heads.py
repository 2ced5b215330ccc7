"""What becomes of pooled features before search, losses and the classifier read them. N batch, D dimensions."""

from typing import ClassVar

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """relu, linear: features stay as the backbone pools them.

    Attributes:
        contrasts_pooled: Triplet and contrastive losses compare pooled features, not the head's.
        classifies_pooled: The classifier reads pooled features, not the head's.
    """

    contrasts_pooled: ClassVar[bool] = False
    classifies_pooled: ClassVar[bool] = False

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the features (N, D) that search compares, not normalised, of pooled ones."""
        return pooled


class CentredHead(Head):
    """relu-centred, linear-centred: features minus the mean of the training features of the stage that began afresh.

    That mean is known when the stage ends; until then it is 0. Later stages keep it, so that old and new vectors are
    centred alike. The classifier reads pooled features, which are what it was trained on.
    """

    classifies_pooled = True
    mean: Tensor

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dimension))

    def forward(self, pooled: Tensor) -> Tensor:
        """Subtract the mean."""
        return pooled - self.mean


class NeckHead(Head):
    """bn-neck: batch norm without bias (Luo et al., CVPR workshops 2019), with metric losses before it.

    Later stages keep the statistics of the stage that began afresh: those of new classes would move the whole space.
    """

    contrasts_pooled = True

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(dimension)  # of one pixel, so that it is treated as every batch norm is
        self.norm.bias.requires_grad = False

    def forward(self, pooled: Tensor) -> Tensor:
        """Normalise each dimension."""
        features: Tensor = self.norm(pooled[:, :, None, None])
        return features.flatten(1)


def head_of(name: str, dimension: int) -> Head:
    """Return the head of a name in params.yaml."""
    if name == "bn-neck":
        return NeckHead(dimension)
    return CentredHead(dimension) if name.endswith("-centred") else Head()
