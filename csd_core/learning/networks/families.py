"""Families of backbones: what builds one by its name, and knows its published weights.

A family is imported when it is chosen. N batch, H x W pixels, C channels, D dimensions.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from importlib import import_module
from typing import NamedTuple

from torch import Tensor, nn

from csd_core.params import choices
from csd_core.params.training import Network
from csd_core.system.errors import ArtifactError, ParamsError


class Backbone(NamedTuple):
    """A network without its classifier, of (N, C, H, W) float."""

    module: nn.Module
    """Gives features (N, D)."""
    dimension: int
    """D."""
    is_resnet: bool = False
    """It has a ReLU before its pooling, or not, as it was asked for; its convolutions are drawn as He et al. do."""


class Normalisation(NamedTuple):
    """Of three channels, of pixels scaled to 0..1."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Family(ABC):
    """Networks that are built alike."""

    @abstractmethod
    def build(self, network: Network, *, channels: int, pixels: int, final_relu: bool) -> Backbone:
        """Return a backbone; what it draws comes from torch's global generator.

        Args:
            network: Names the architecture.
            channels: Of the images, 1 or 3.
            pixels: Height and width of the images.
            final_relu: Whether a ResNet has a ReLU before it pools; no other network is changed.

        Raises:
            ParamsError: if there is no such network, or it cannot take such images.
        """

    def normalisation(self, network: Network) -> Normalisation:
        """Return what the published weights were trained with."""
        raise ParamsError(f"training.network: {network.architecture} has no published normalisation; give mean and std")

    def fetch(self, network: Network, *, channels: int, pixels: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the published weights, of three channels or fitted to such images.

        Raises:
            ArtifactError: if they cannot be fetched.
        """
        raise ArtifactError(f"training.network.weights: {network.architecture} has no published ones; name a file")

    def resized(self, weights: dict[str, Tensor], module: nn.Module, *, pixels: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Return weights of a backbone for another image size, such as position embeddings, fitted to `module`."""
        return weights


def family_of(architecture: str) -> Family:
    """Return the family that an architecture is of."""
    module, _, name = choices.family_of(architecture).partition(":")
    family: type[Family] = getattr(import_module(module), name)
    return family()


def unknown(architecture: str, library: str, known: Iterable[str]) -> ParamsError:
    """Return the error of a name that a library does not have, with the names closest to it."""
    near = difflib.get_close_matches(architecture, list(known), n=3)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"choose {choices.OWN} or one that {library} lists"
    return ParamsError(
        f"training.network.architecture: {architecture}: {library} has no classification network of this name; {remedy}"
    )


def unfit(architecture: str, pixels: int, error: Exception) -> ParamsError:
    """Return the error of a network that cannot take images of a size."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ParamsError(
        f"images.pixels: {pixels}: {architecture} cannot take images of this size ({reason}); choose a multiple of 32, "
        "such as 224, or another architecture"
    )
