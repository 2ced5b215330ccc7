"""torchvision's classification networks as backbones. N batch, H x W pixels, C channels, D dimensions."""

from itertools import pairwise
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.vision_transformer import interpolate_embeddings

from csd_core.learning.networks.families import Backbone, Family, Normalisation, unfit, unknown
from csd_core.params.training import Network
from csd_core.system.errors import ArtifactError, ParamsError

CLASSES = 1000
"""Outputs of the layer that is a published network's classifier."""

AUXILIARY: dict[str, Any] = {"aux_logits": False, "init_weights": True, "transform_input": False}
"""Of networks with classifiers at their sides, which are left out."""
WITH_AUXILIARY = ("googlenet", "inception_v3")
"""Their published weights want pixels around 0; torchvision's own transforms have them normalised twice."""


class _LinearBasicBlock(resnet.BasicBlock):  # type: ignore[misc] # torchvision has no types
    """torchvision's block without its last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        sum_: Tensor = y + (x if self.downsample is None else self.downsample(x))
        return sum_


class _LinearBottleneck(resnet.Bottleneck):  # type: ignore[misc] # torchvision has no types
    """torchvision's bottleneck without its last ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        sum_: Tensor = y + (x if self.downsample is None else self.downsample(x))
        return sum_


class TorchvisionModels(Family):
    """Whatever `torchvision.models.list_models` has for classification."""

    def build(self, network: Network, *, channels: int, pixels: int, final_relu: bool) -> Backbone:
        """Return a network without its classifier: the last layer of 1000 outputs, and the dropout before it."""
        name = _known(network.architecture)
        options: dict[str, Any] = AUXILIARY if name in WITH_AUXILIARY else {}
        if name.startswith("vit"):
            options = {"image_size": pixels}
        elif name.startswith("maxvit"):
            options = {"input_size": (pixels, pixels)}
        try:
            model: nn.Module = getattr(torchvision.models, name)(weights=None, **options)
        except (ValueError, AssertionError) as error:
            raise unfit(name, pixels, error) from None
        dimension = _remove_classifier(model)
        if channels == 1:
            _take_grey_images(model)
        is_resnet = isinstance(model, resnet.ResNet)
        if is_resnet and not final_relu:
            last: Any = model.layer4[-1]  # type: ignore[index] # torchvision has no types
            last.__class__ = _LinearBottleneck if isinstance(last, resnet.Bottleneck) else _LinearBasicBlock
        return Backbone(model, dimension, is_resnet=is_resnet)

    def normalisation(self, network: Network) -> Normalisation:
        """Return that of the transforms of the default weights."""
        name = _known(network.architecture)
        if name in WITH_AUXILIARY:
            return Normalisation((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
        transforms = torchvision.models.get_model_weights(name).DEFAULT.transforms()
        return Normalisation(tuple(transforms.mean), tuple(transforms.std))

    def fetch(self, network: Network, *, channels: int, pixels: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the default weights, from torch's cache or the network."""
        name = _known(network.architecture)
        weights = torchvision.models.get_model_weights(name).DEFAULT
        try:
            # weights_only: torch's reader of plain tensors, not pickle; the file's name carries its checksum.
            fetched: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise ArtifactError(
                f"torchvision's {name} weights cannot be fetched from {weights.url} ({error}); name a file of them in "
                f"training.network.weights, or put the download into {torch.hub.get_dir()}/checkpoints"
            ) from None
        return fetched

    def resized(self, weights: dict[str, Tensor], module: nn.Module, *, pixels: int) -> dict[str, Tensor]:
        """Interpolate the position embedding of a ViT as torchvision does."""
        positions = weights.get("encoder.pos_embedding")
        if positions is None or positions.shape == module.state_dict()["encoder.pos_embedding"].shape:
            return weights
        patch: Any = module.patch_size
        try:
            resized: dict[str, Tensor] = interpolate_embeddings(pixels, patch, dict(weights))
        except ValueError as error:
            raise ArtifactError(f"encoder.pos_embedding: {error}; give weights of this network") from None
        return resized


def _known(name: str) -> str:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise unknown(name, "torchvision", [*known, "resnet-cifar"])
    return name


def _remove_classifier(model: nn.Module) -> int:
    """Put nothing in the place of the classifier and of a dropout just before it, in place; D.

    Raises:
        ParamsError: if there is no such layer.
    """
    layers = list(model.named_modules())
    for (before, dropout), (name, layer) in reversed(list(pairwise(layers))):
        if isinstance(layer, nn.Linear | nn.Conv2d) and layer.weight.shape[0] == CLASSES:
            model.set_submodule(name, nn.Identity())
            if isinstance(dropout, nn.Dropout):
                model.set_submodule(before, nn.Identity())
            return int(layer.weight.shape[1])
    raise ParamsError(
        f"training.network.architecture: {type(model).__name__} has no classifier to remove; choose another"
    )


def _take_grey_images(model: nn.Module) -> None:
    """Let the first convolution respond to grey images as to three equal channels, in place."""
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    first.in_channels = 1
    first.weight = nn.Parameter(first.weight.detach().sum(dim=1, keepdim=True))
