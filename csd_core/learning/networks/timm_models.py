"""timm's networks as backbones; timm is an extra, and imported where one is chosen.

N batch, H x W pixels, C channels, D dimensions.
"""

import sys
from typing import Any

from torch import Tensor, nn

from csd_core.learning.networks.families import Backbone, Family, Normalisation, unfit, unknown
from csd_core.params.choices import TIMM
from csd_core.params.training import Network
from csd_core.system.errors import ArtifactError, ParamsError


class TimmModels(Family):
    """`timm/NAME`, with or without timm's tag of weights, as in `timm/vit_tiny_patch16_224.augreg_in21k`."""

    def build(self, network: Network, *, channels: int, pixels: int, final_relu: bool) -> Backbone:  # noqa: ARG002
        """Return the network as timm makes it for no classes."""
        module = _create(network.architecture, channels=channels, pixels=pixels)
        return Backbone(module, int(getattr(module, "head_hidden_size", module.num_features)))

    def normalisation(self, network: Network) -> Normalisation:
        """Return that of timm's configuration of the weights."""
        published = _timm().get_pretrained_cfg(_known(network.architecture))
        return Normalisation(tuple(published.mean), tuple(published.std))

    def fetch(self, network: Network, *, channels: int, pixels: int) -> dict[str, Tensor]:
        """Return timm's weights, from the hub's cache or the network, fitted to the images as timm does it."""
        try:
            fetched = _create(network.architecture, channels=channels, pixels=pixels, pretrained=True)
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ArtifactError(
                f"timm's weights of {network.architecture} cannot be fetched ({reason}); name a file of them in "
                "training.network.weights, or copy the hub's cache of a machine that has them"
            ) from None
        weights: dict[str, Tensor] = fetched.state_dict()
        return weights

    def resized(self, weights: dict[str, Tensor], module: nn.Module, *, pixels: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Let the network's module in timm rename, and interpolate position embeddings, as it does on loading."""
        fit: Any = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        if fit is None:
            return weights
        try:
            fitted: dict[str, Tensor] = fit(dict(weights), module)
        except (KeyError, RuntimeError, ValueError) as error:
            raise ArtifactError(f"timm cannot read such weights ({error!r}); give weights of this network") from None
        return fitted


def _timm() -> Any:
    try:
        import timm  # noqa: PLC0415 - an extra
    except ImportError:
        raise ParamsError(
            f"training.network.architecture: {TIMM}...: timm is not installed here; pip install 'csd[timm]'"
        ) from None
    return timm


def _known(architecture: str) -> str:
    """Return timm's name of an architecture."""
    timm, name = _timm(), architecture.removeprefix(TIMM)
    bare, _, tag = name.partition(".")
    if not timm.is_model(bare):
        raise unknown(architecture, "timm", [f"{TIMM}{each}" for each in timm.list_models()])
    tags = [each.partition(".")[2] for each in timm.list_pretrained(f"{bare}.*")]
    if tag and tag not in tags:
        raise ParamsError(
            f"training.network.architecture: {architecture}: timm has no weights of this tag; choose "
            f"{' or '.join(tags) or 'the name without a tag'}"
        )
    return name


def _create(architecture: str, *, channels: int, pixels: int, pretrained: bool = False) -> Any:
    timm, name = _timm(), _known(architecture)
    # Most networks take any size; those that do not are built for one.
    fixed: dict[str, Any] = {"img_size": pixels} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=0, in_chans=channels, **fixed)
    except (AssertionError, TypeError, ValueError) as error:
        raise unfit(architecture, pixels, error) from None
