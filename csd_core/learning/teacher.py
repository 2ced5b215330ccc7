"""The champion as a teacher: it gives targets and never learns."""

import copy
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from csd_core.learning.distributed.batch_norm import share_statistics
from csd_core.learning.distributed.group import ALONE, ProcessGroup
from csd_core.learning.networks.blocks import batch_norms
from csd_core.learning.networks.network import EmbeddingNetwork
from csd_core.learning.networks.precision import pooled_features
from csd_core.params.training import Precision


class Outputs(NamedTuple):
    """What a network makes of a batch."""

    features: Tensor
    """(N, D) that search compares, not normalised."""
    logits: Tensor
    """(N, K)."""
    contrasted: Tensor
    """(N, D) that triplet and contrastive losses compare: `features`, but with a neck those before it."""
    classified: Tensor
    """(N, D) that the classifier read: `features`, but before they are centred."""

    def each(self, change: Callable[[Tensor], Tensor]) -> "Outputs":
        """Return what `change` makes of every tensor; it is called once for a tensor that has several roles."""
        distinct = {id(tensor): tensor for tensor in self}
        changed = {key: change(tensor) for key, tensor in distinct.items()}
        return Outputs(*(changed[id(tensor)] for tensor in self))


def outputs_of(network: EmbeddingNetwork, images: Tensor, precision: Precision) -> Outputs:
    """Return what a network makes of images (N, H, W, C) uint8."""
    pooled = pooled_features(network, images, precision)
    features = network.head(pooled)
    classified = pooled if network.head.classifies_pooled else features
    contrasted = pooled if network.head.contrasts_pooled else features
    return Outputs(features, network.logits(classified), contrasted, classified)


class FrozenTeacher:
    """A copy of a network that computes without gradients and in one mode.

    It is no torch module: it has no parameters an optimiser could be given, and no `train()`. Nobody else holds the
    copy, so nothing it does touches the network it was made of.
    """

    def __init__(
        self,
        network: EmbeddingNetwork,
        *,
        mode: Literal["eval", "train"] = "eval",
        device: torch.device = torch.device("cpu"),  # noqa: B008 - immutable
        precision: Precision = "float32",
        ranks: ProcessGroup = ALONE,
    ) -> None:
        """Freeze a copy of `network`.

        Args:
            network: Left as it is.
            mode: Of its batch norm: `eval` uses the statistics it was trained with, `train` those of each batch (the
                authors' code); neither updates any.
            device: Where it computes.
            precision: Of its backbone.
            ranks: Those that share a batch; in `train` they share its statistics.
        """
        self._precision: Precision = precision
        self._network = copy.deepcopy(network).to(device).requires_grad_(requires_grad=False)
        share_statistics(self._network, ranks)
        self._network.eval()  # a teacher drops nothing out
        for norm in batch_norms(self._network) if mode == "train" else ():
            norm.train()
            norm.track_running_stats = False

    @property
    def classes(self) -> int:
        """K_old."""
        return self._network.classes

    @property
    def dimension(self) -> int:
        """D."""
        return self._network.dimension

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._network.scale.device

    @property
    def classifier_rows(self) -> Tensor:
        """(K_old, D) unit rows of its classifier, without gradient."""
        return self._network.classifier.rows.detach()

    def __call__(self, images: Tensor) -> Outputs:
        """Return features (N, D) and logits (N, K_old) of images (N, H, W, C) uint8, without gradient."""
        with torch.inference_mode():
            outputs = outputs_of(self._network, images, self._precision)
        # Inference tensors cannot enter a graph that is differentiated; these copies, small as they are, can.
        return outputs.each(torch.clone)
