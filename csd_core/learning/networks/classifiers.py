"""Classifiers that train an embedding. N batch, D feature dimensions, K classes; no biases, rows of unit length."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.system.errors import TrainingError

FIRST_SCALE = 10.0
"""Of logits that are cosines: at 1 a softmax over many classes is nearly flat, whatever the angles."""


class CosineClassifier(nn.Module):
    """z = |f| cos(theta), for features f as they are (the authors' code of CSD)."""

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(classes, dimension))

    @property
    def rows(self) -> Tensor:
        """(K, D) of unit length."""
        return F.normalize(self.weight, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return F.linear(features, self.rows)

    @torch.no_grad()
    def fill(self, start: int, generator: torch.Generator) -> None:
        """Draw rows from number `start` on."""
        dimension = self.weight.shape[1]
        fresh = torch.randn(len(self.weight) - start, dimension, generator=generator)
        self.weight[start:] = F.normalize(fresh, dim=1).to(self.weight.device)


class ScaledCosineClassifier(CosineClassifier):
    """z = s cos(theta), s learned (LUCIR; Hou et al., CVPR 2019)."""

    def __init__(self, dimension: int, classes: int) -> None:
        super().__init__(dimension, classes)
        self.scale = nn.Parameter(torch.tensor(FIRST_SCALE))

    def forward(self, features: Tensor) -> Tensor:
        """Logits (N, K) of features (N, D)."""
        return self.scale * super().forward(F.normalize(features, dim=1))


class SimplexClassifier(CosineClassifier):
    """z = |f| cos(theta) to fixed rows: corners of a regular simplex, so that all classes are equally far apart.

    A class keeps its corner forever, and D dimensions have D + 1 of them (Pernici et al., 2021).
    """

    def __init__(self, dimension: int, classes: int) -> None:
        """Place the corners.

        Raises:
            TrainingError: if there are more classes than corners.
        """
        super().__init__(dimension, classes)
        if classes > dimension + 1:
            raise TrainingError(
                f"training.network.classifier: a simplex in {dimension} dimensions has {dimension + 1} corners, there "
                f"are {classes} classes; raise training.network.dimension, or width of resnet-cifar"
            )
        self.weight = nn.Parameter(simplex(dimension)[:classes], requires_grad=False)

    def fill(self, start: int, generator: torch.Generator) -> None:
        """Leave the corners as they are."""


def simplex(dimension: int) -> Tensor:
    """Return (D + 1, D) unit vectors, each two at the cosine -1/D.

    The unit vectors e_i and one vector of equal components, with their centre moved to the origin.
    """
    corners = torch.eye(dimension + 1, dimension, dtype=torch.float64)
    corners[dimension] = (1 - math.sqrt(dimension + 1)) / dimension
    corners -= corners.mean(dim=0)
    return F.normalize(corners, dim=1).float()


CLASSIFIERS: dict[str, type[CosineClassifier]] = {
    "cosine": CosineClassifier,
    "scaled-cosine": ScaledCosineClassifier,
    "simplex": SimplexClassifier,
}
"""By their names in params.yaml."""
