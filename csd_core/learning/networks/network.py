"""The embedding network: uint8 images in, features out, and the classifier that trains it.

N batch, H x W pixels, C channels, D feature dimensions, K classes.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.networks.classifiers import CLASSIFIERS
from csd_core.learning.networks.families import family_of, unfit
from csd_core.learning.networks.heads import head_of
from csd_core.learning.networks.start_weights import load_start_weights
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


class EmbeddingNetwork(nn.Module):
    """Normalisation, backbone, projection, head and classifier: who holds the weights cannot normalise otherwise.

    Images are uint8, N x H x W x C: in memory that is channels last, the fast format of convolutions.

    Attributes:
        network: What it is, with the numbers of its normalisation.
        dimension: D.
        clips: Whether a ReLU follows the projection, or a backbone that does not end in one.
        fits_projection: Whether a first stage fits the projection before it learns: the start weights have none.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: Network, *, channels: int, pixels: int, classes: int) -> None:
        """Build the network; what is random in it is drawn from torch's global generator.

        Args:
            network: Architecture and head.
            channels: Of the images, 1 or 3.
            pixels: Height and width of the images.
            classes: K.

        Raises:
            ParamsError: if there is no such architecture, or it cannot take such images.
        """
        super().__init__()
        self.network, self.channels, self.pixels = _normalised(network, channels), channels, pixels
        projects = network.dimension is not None
        built = family_of(network.architecture).build(
            network, channels=channels, pixels=pixels, final_relu=projects or not network.head.startswith("linear")
        )
        self.backbone, self.is_resnet = built.module, built.is_resnet
        self.dimension = network.dimension or built.dimension
        self.projection = nn.Linear(built.dimension, self.dimension, bias=False) if projects else nn.Identity()
        self.clips = network.head.startswith("relu") and (projects or not built.is_resnet)
        self.fits_projection = False
        self.head = head_of(network.head, self.dimension)
        self.classifier = CLASSIFIERS[network.classifier](self.dimension, classes)
        std = torch.tensor(self.network.std, dtype=torch.float64)
        mean = torch.tensor(self.network.mean, dtype=torch.float64)
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
        """Return the features (N, D) of backbone and projection, before the head, of images (N, H, W, C) uint8."""
        pooled: Tensor = self.projection(self.features(images))
        return F.relu(pooled) if self.clips else pooled

    def features(self, images: Tensor) -> Tensor:
        """Return the features (N, F) of the backbone, of images (N, H, W, C) uint8."""
        pixels = images.float() * self.scale + self.shift
        features: Tensor = self.backbone(pixels.permute(0, 3, 1, 2))
        return features

    def logits(self, features: Tensor) -> Tensor:
        """Class scores (N, K) of the features (N, D) that the classifier reads."""
        scores: Tensor = self.classifier(features)
        return scores


def new_network(
    network: Network,
    *,
    channels: int,
    pixels: int,
    classes: int,
    generator: torch.Generator,
    weights: Path | None = None,
) -> EmbeddingNetwork:
    """Return the network of a first stage, with fresh weights or the configured start weights.

    Args:
        network: Architecture and start weights.
        channels: Of the images, 1 or 3.
        pixels: Height and width of the images.
        classes: Columns of the classifier.
        generator: Draws what is fresh.
        weights: The start weights' file, if `network.weights` names one.

    Raises:
        ParamsError: if there is no such architecture, or it cannot take such images.
        ArtifactError: if the start weights are missing, cannot be fetched or belong to another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator.initial_seed())  # libraries draw weights from the global generator
        model = EmbeddingNetwork(network, channels=channels, pixels=pixels, classes=classes)
    if model.is_resnet:
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
    if isinstance(model.projection, nn.Linear):
        nn.init.orthogonal_(model.projection.weight, generator=generator)
    model.classifier.fill(0, generator)
    if network.weights is not None:
        has_own = load_start_weights(model, family_of(network.architecture), weights)
        model.fits_projection = not has_own and not model.clips
    _try_an_image(model)
    return model


@torch.inference_mode()
def _try_an_image(model: EmbeddingNetwork) -> None:
    """Find out before any training whether the network takes images of this size.

    Raises:
        ParamsError: if it does not.
    """
    image = torch.zeros((1, model.pixels, model.pixels, model.channels), dtype=torch.uint8)
    try:
        model.eval()(image)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise unfit(model.network.architecture, model.pixels, error) from None
    finally:
        model.train()


@torch.no_grad()
def grow_classifier(model: EmbeddingNetwork, classes: int, *, generator: torch.Generator) -> None:
    """Give the classifier `classes` rows, in place: the old ones as they are, new ones fresh unit vectors."""
    old = model.classifier
    grown = type(old)(model.dimension, classes).to(old.weight.device)
    grown.load_state_dict({**old.state_dict(), "weight": torch.cat([old.weight, grown.weight[len(old.weight) :]])})
    grown.fill(len(old.weight), generator)
    model.classifier = grown


def _normalised(network: Network, channels: int) -> Network:
    """Return the network with numbers for `mean` and `std`; for grey images the means of the three channels'."""
    if network.mean is not None and network.std is not None:
        return network
    published = family_of(network.architecture).normalisation(network)
    mean, std = (list(each) if channels > 1 else [sum(each) / len(each)] for each in published)
    return network.model_copy(update={"mean": network.mean or mean, "std": network.std or std})
