"""Distillation of class probabilities and of the distribution of features (Chen et al., arXiv 2010.08020)."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.losses import knowledge_distillation, refuse_gradients
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


def squared_mmd(student: Tensor, teacher: Tensor, *, widths: Sequence[float]) -> Tensor:
    """MMD^2 of two sets of unit vectors under a sum of Gaussian kernels (Gretton et al., 2012; the biased estimate).

    k(x, y) = sum_w exp(-|x - y|^2 / (w s)), where s is the mean squared distance between two vectors of either set,
    taken as a constant.

    Args:
        student: (N, D).
        teacher: (N, D), without gradient.
        widths: w, as multiples of s.

    Raises:
        TrainingError: if the teacher's features carry gradients.
    """
    refuse_gradients(teacher)
    both = F.normalize(torch.cat([student.float(), teacher.float()]), dim=1)  # (2N, D)
    distances = (2 - 2 * both @ both.T).clamp(min=0)  # (2N, 2N)
    scale = distances.detach().mean().clamp(min=1e-12)
    kernel = torch.stack([(-distances / (width * scale)).exp() for width in widths]).sum(dim=0)
    count = len(student)
    return kernel[:count, :count].mean() + kernel[count:, count:].mean() - 2 * kernel[:count, count:].mean()


class Mmd(Method):
    """Adds L_KD and MMD^2."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"kd": knobs.mmd.kd.weight, "mmd": knobs.mmd.weight}
        self._temperature, self._widths = knobs.mmd.kd.temperature, knobs.mmd.widths

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Both terms."""
        terms: dict[str, Tensor] = {}
        if self.weights["kd"]:
            terms["kd"] = knowledge_distillation(student.logits, teacher.logits, temperature=self._temperature)
        if self.weights["mmd"]:
            terms["mmd"] = squared_mmd(student.features, teacher.features, widths=self._widths)
        return terms
