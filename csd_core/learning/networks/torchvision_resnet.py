"""torchvision's ResNets as backbones, for images larger than those of CIFAR."""

from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import resnet

from csd_core.system.errors import ArtifactError


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


_LINEAR_BLOCKS: dict[str, type[Any]] = {"resnet18": _LinearBasicBlock, "resnet50": _LinearBottleneck}


def torchvision_resnet(architecture: str, *, channels: int, final_relu: bool) -> tuple[nn.Module, int]:
    """`resnet18` or `resnet50` without its classifier, (N, C, H, W) to features (N, D); and D, 512 or 2048.

    Args:
        architecture: torchvision's name.
        channels: Of the images; 1 replaces the first convolution by one of a single channel.
        final_relu: Whether there is a ReLU before the average pooling.
    """
    model = getattr(torchvision.models, architecture)(weights=None)
    dimension = int(model.fc.in_features)
    model.fc = nn.Identity()
    if channels != model.conv1.in_channels:
        model.conv1 = nn.Conv2d(channels, model.conv1.out_channels, 7, 2, 3, bias=False)
    if not final_relu:
        last = model.layer4[-1]
        model.layer4[-1] = _LINEAR_BLOCKS[architecture](dimension, last.conv1.out_channels)
    return model, dimension


def load_start_weights(backbone: nn.Module, architecture: str, file: Path | None) -> None:
    """Fill `backbone`, in place, from a .safetensors file with torchvision's names, or by torchvision's download.

    A first convolution for three channels fits grey images by the sum over its channels: the response to a grey image
    with three equal channels.

    Raises:
        ArtifactError: if the weights are missing, cannot be fetched or are of another network.
    """
    if architecture not in _LINEAR_BLOCKS:
        raise ArtifactError(
            f"training.network.weights: start weights are for {' and '.join(_LINEAR_BLOCKS)}, not {architecture}; "
            "set it to null"
        )
    weights = _fetch(architecture) if file is None else _read(file)
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith("fc.")}
    expected = backbone.state_dict()
    stem = weights.get("conv1.weight")
    if stem is not None and expected["conv1.weight"].shape[1] == 1:
        weights["conv1.weight"] = stem.sum(dim=1, keepdim=True)
    source = file or f"torchvision's {architecture}"
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, tensor)
        if name not in weights or weights[name].shape != tensor.shape:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise ArtifactError(
                f"{source}: {name} should be {tuple(tensor.shape)}, found {found}; give weights of {architecture}"
            )
    for name in weights.keys() - expected.keys():
        raise ArtifactError(f"{source}: {name} is no weight of {architecture}; give weights of {architecture}")
    backbone.load_state_dict(weights)


def _read(file: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(file)
    except FileNotFoundError:
        raise ArtifactError(f"{file}: no such start weights; fix training.network.weights or set it to null") from None
    except safetensors.SafetensorError as error:
        raise ArtifactError(f"{file}: not a .safetensors file ({error}); convert it, or set weights to null") from None


def _fetch(architecture: str) -> dict[str, Tensor]:
    weights = torchvision.models.get_model_weights(architecture).DEFAULT
    try:
        # weights_only: torch's reader of plain tensors, not pickle; the file's name carries its checksum.
        fetched: dict[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise ArtifactError(
            f"torchvision's {architecture} weights cannot be fetched from {weights.url} ({error}); save them as "
            "a .safetensors file and name it in training.network.weights, or put the download into "
            f"{torch.hub.get_dir()}/checkpoints"
        ) from None
    return fetched
