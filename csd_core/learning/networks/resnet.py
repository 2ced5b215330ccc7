"""The embedding network: uint8 images in, features out, and the cosine classifier that trains it.

N batch, H x W pixels, C channels, D feature dimensions, K classes.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.networks.classifiers import CLASSIFIERS
from csd_core.learning.networks.heads import head_of
from csd_core.params.training import Network

EPSILON = 1e-12
"""Features shorter than this have no direction."""


def unit(features: Tensor) -> Tensor:
    """Features (N, D) scaled to unit length; a zero vector (all activations off) becomes 1/sqrt(D) in each dimension.

    So every embedding is finite and of unit length. The case is a choice in the graph rather than an epsilon in a sum,
    which graph optimisers drop.
    """
    squares = features.square().sum(dim=1, keepdim=True)
    directed = squares > EPSILON**2
    lengths = torch.where(directed, squares, float(features.shape[1])).sqrt()
    return torch.where(directed, features, 1.0) / lengths


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside an option A shortcut: strided, missing channels zero (He et al., 2016, 3.3)."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, final_relu: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self._stride, self._new_channels, self._final_relu = stride, outputs - inputs, final_relu

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        if self._stride > 1 or self._new_channels:
            before = self._new_channels // 2
            x = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, before, self._new_channels - before))
        y = y + x
        return F.relu(y, inplace=True) if self._final_relu else y


class CifarResNet(nn.Module):
    """The ResNet for small images of He et al. (2016), section 4.2: 6n + 2 layers, three stages of n blocks.

    Attributes:
        dimension: Of its features: four times the width.
    """

    def __init__(self, *, depth: int, width: int, channels: int, final_relu: bool) -> None:
        super().__init__()
        blocks, self.dimension = (depth - 2) // 6, 4 * width
        self.conv1 = nn.Conv2d(channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        layers, inputs = [], width
        for stage, outputs in enumerate((width, 2 * width, 4 * width)):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                last = stage == 2 and block == blocks - 1  # noqa: PLR2004 - the third of three
                layers.append(BasicBlock(inputs, outputs, stride=stride, final_relu=final_relu or not last))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) float to features (N, D), averaged over pixels."""
        pooled: Tensor = self.blocks(F.relu(self.bn1(self.conv1(x)), inplace=True)).mean(dim=(2, 3))
        return pooled


class EmbeddingNetwork(nn.Module):
    """Normalisation, backbone, head and classifier, so that whoever holds the weights cannot normalise otherwise.

    Images are uint8, N x H x W x C: in memory that is channels last, the fast format of convolutions.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, *, channels: int, classes: int) -> None:
        super().__init__()
        self.backbone, self.dimension = _backbone(network, channels)
        self.head = head_of(network.head, self.dimension)
        self.classifier = CLASSIFIERS[network.classifier](self.dimension, classes)
        std = torch.tensor(network.std, dtype=torch.float64)
        mean = torch.tensor(network.mean, dtype=torch.float64)
        # Not among the weights: model.json holds mean and std already.
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)
        self.to(memory_format=torch.channels_last)  # of the weights, as of the images: no kernel has to reorder them

    @property
    def classes(self) -> int:
        """K."""
        return int(self.classifier.weight.shape[0])

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (N, D) that search compares, not normalised, of images (N, H, W, C) uint8."""
        features: Tensor = self.head(self.pooled(images))
        return features

    def pooled(self, images: Tensor) -> Tensor:
        """Return the backbone's features (N, D) of images (N, H, W, C) uint8."""
        pixels = images.float() * self.scale + self.shift
        pooled: Tensor = self.backbone(pixels.permute(0, 3, 1, 2))
        return pooled

    def logits(self, features: Tensor) -> Tensor:
        """Class scores (N, K) of the features (N, D) that the classifier reads."""
        scores: Tensor = self.classifier(features)
        return scores


def new_network(
    network: Network, *, channels: int, classes: int, generator: torch.Generator, weights: Path | None = None
) -> EmbeddingNetwork:
    """Return the network of a first stage, with fresh weights or the configured start weights.

    Args:
        network: Architecture and start weights.
        channels: Of the images, 1 or 3.
        classes: Columns of the classifier.
        generator: Draws what is fresh.
        weights: The start weights' file, if `network.weights` names one.

    Raises:
        ArtifactError: if the start weights are missing, cannot be fetched or belong to another network.
    """
    model = EmbeddingNetwork(network, channels=channels, classes=classes)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    model.classifier.fill(0, generator)
    if network.weights is not None:
        from csd_core.learning.networks.torchvision_resnet import load_start_weights  # noqa: PLC0415 - torchvision loads slowly

        load_start_weights(model.backbone, network.architecture, weights)
    return model


@torch.no_grad()
def grow_classifier(model: EmbeddingNetwork, classes: int, *, generator: torch.Generator) -> None:
    """Give the classifier `classes` rows, in place: the old ones as they are, new ones fresh unit vectors."""
    old = model.classifier
    grown = type(old)(model.dimension, classes).to(old.weight.device)
    grown.load_state_dict({**old.state_dict(), "weight": torch.cat([old.weight, grown.weight[len(old.weight) :]])})
    grown.fill(len(old.weight), generator)
    model.classifier = grown


def _backbone(network: Network, channels: int) -> tuple[nn.Module, int]:
    """Return the backbone and D."""
    final_relu = not network.head.startswith("linear")
    if network.architecture == "resnet-cifar":
        cifar = CifarResNet(depth=network.depth, width=network.width, channels=channels, final_relu=final_relu)
        return cifar, cifar.dimension
    from csd_core.learning.networks.torchvision_resnet import torchvision_resnet  # noqa: PLC0415 - torchvision loads slowly

    return torchvision_resnet(network.architecture, channels=channels, final_relu=final_relu)
