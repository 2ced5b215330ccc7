"""Start weights: read from files of several kinds, fitted to the images, checked name by name and shape by shape."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from csd_core.learning.networks.families import Family
from csd_core.system.errors import ArtifactError

if TYPE_CHECKING:
    from csd_core.learning.networks.network import EmbeddingNetwork

Weights = dict[str, Tensor]

WRAPPERS = ("state_dict", "model", "model_state_dict")
"""Keys under which training scripts keep the weights in a .pth file, beside other things."""
PREFIXES = ("module.", "_orig_mod.")
"""What torch's wrappers put before every name: data parallel, compile."""
CLASSIFIERS = ("AuxLogits.", "aux1.", "aux2.", "classifier.", "fc.", "head.", "head_dist.", "heads.")
"""What names of a published network's classifiers begin with."""
BACKBONE, CLASSIFIER, PROJECTION, OTHERS = "backbone.", "classifier.", "projection.", ("projection.", "head.")
"""Parts of a csd model in its weights.safetensors."""


def load_start_weights(model: "EmbeddingNetwork", family: Family, file: Path | None) -> bool:
    """Fill the backbone, in place, from a file or from published weights; of a csd model also projection and head.

    A first convolution for three channels fits grey images by the sum over its channels: the response to a grey image
    with three equal channels. The classifier of the file is left out, since it knows no class of this stage.

    Returns:
        Whether the weights have a projection.

    Raises:
        ArtifactError: if the weights are missing, cannot be fetched or are of another network.
    """
    network, channels, pixels = model.network, model.channels, model.pixels
    source = str(file) if file else f"the published weights of {network.architecture}"
    weights = read_weights(file) if file else family.fetch(network, channels=channels, pixels=pixels)
    has_projection = any(name.startswith(PROJECTION) for name in weights)
    if any(name.startswith(BACKBONE) for name in weights):
        _load_parts(model, weights, source)
        weights = {name.removeprefix(BACKBONE): each for name, each in weights.items() if name.startswith(BACKBONE)}
    try:
        weights = family.resized(weights, model.backbone, pixels=pixels)
    except ArtifactError as error:
        raise ArtifactError(f"{source}: {error}") from None
    expected = model.backbone.state_dict()
    weights = {
        name: _for_grey(tensor) if channels == 1 and _is_for_colour(tensor, expected.get(name)) else tensor
        for name, tensor in weights.items()
        if name in expected or not name.startswith(CLASSIFIERS)
    }
    _load(model.backbone, weights, source, network.architecture)
    return has_projection


def read_weights(file: Path) -> Weights:
    """Return the tensors of a .safetensors file, or of a .pth or .pt file of tensors; nothing is unpickled.

    Raises:
        ArtifactError: if there is no such file, or it holds something else.
    """
    try:
        if file.suffix in {".pth", ".pt"}:
            return _named_tensors(torch.load(file, map_location="cpu", weights_only=True), file)
        return _without_prefixes(safetensors.torch.load_file(file))
    except FileNotFoundError:
        raise ArtifactError(f"{file}: no such start weights; fix training.network.weights or set it to null") from None
    except safetensors.SafetensorError as error:
        raise ArtifactError(
            f"{file}: not a .safetensors file ({error}); give one, or a .pth or .pt file of tensors"
        ) from None
    except ArtifactError:
        raise
    except Exception as error:  # noqa: BLE001 - torch's reader of plain tensors raises what a damaged file makes it raise
        reason = str(error).strip().partition("\n")[0]
        raise ArtifactError(
            f"{file}: not a file of plain tensors ({reason}); save the state_dict alone, best as .safetensors"
        ) from None


def _named_tensors(found: Any, file: Path) -> Weights:
    """Return the tensors in what a .pth file holds."""
    while isinstance(found, dict):
        inner = next((found[key] for key in WRAPPERS if isinstance(found.get(key), dict)), None)
        if inner is None:
            break
        found = inner
    if not (isinstance(found, dict) and found and all(isinstance(each, Tensor) for each in found.values())):
        raise ArtifactError(
            f"{file}: holds no dictionary of tensors, not under {' or '.join(WRAPPERS)} either; save the state_dict"
        )
    return _without_prefixes(found)


def _without_prefixes(weights: Weights) -> Weights:
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in weights):
            return _without_prefixes({name.removeprefix(prefix): each for name, each in weights.items()})
    return weights


def _load_parts(model: "EmbeddingNetwork", weights: Weights, source: str) -> None:
    """Take over projection and head of a csd model, where the file has them."""
    for name in weights:
        if not name.startswith((BACKBONE, CLASSIFIER, *OTHERS)):
            raise ArtifactError(f"{source}: {name} is no part of a csd model; give the weights.safetensors of one")
    for part in OTHERS:
        module: nn.Module = model.get_submodule(part.rstrip("."))
        found = {name.removeprefix(part): each for name, each in weights.items() if name.startswith(part)}
        if found:
            where = (
                f"the network's {part.rstrip('.')} (head: {model.network.head}, dimension: {model.network.dimension})"
            )
            _load(module, found, source, where)


def _load(module: nn.Module, weights: Weights, source: str, owner: str) -> None:
    expected = module.state_dict()
    for name, tensor in expected.items():
        if name.endswith("num_batches_tracked"):
            weights.setdefault(name, tensor)
        if name not in weights or weights[name].shape != tensor.shape:
            found = tuple(weights[name].shape) if name in weights else "nothing"
            raise ArtifactError(
                f"{source}: {name} should be {tuple(tensor.shape)}, found {found}; give weights of {owner}"
            )
    for name in weights.keys() - expected.keys():
        raise ArtifactError(f"{source}: {name} is no weight of {owner}; give weights of {owner}")
    module.load_state_dict(weights)


def _is_for_colour(tensor: Tensor, expected: Tensor | None) -> bool:
    """Return whether it is a first convolution of three channels where one of a single channel is expected."""
    return expected is not None and expected.ndim == 4 and expected.shape[1] == 1 and tensor.shape[1:2] == (3,)  # noqa: PLR2004 - (O, I, H, W)


def _for_grey(tensor: Tensor) -> Tensor:
    return tensor.sum(dim=1, keepdim=True)
