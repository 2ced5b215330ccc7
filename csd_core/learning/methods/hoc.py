"""Higher-order compatibility on a fixed simplex (Biondi et al., CVPR 2024), without replay."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.losses import refuse_gradients
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


def higher_order(student: Tensor, teacher: Tensor, labels: Tensor, *, mu: float) -> Tensor:
    """mean_i[ -mu f_i . f'_i + log sum_j exp(mu f_j . f'_i) ], j over the batch's images of other labels.

    Where all labels are equal, the second part is left out.

    Args:
        student: (N, D).
        teacher: (N, D), without gradient, of the same images.
        labels: (N,) int64.
        mu: Sharpness, the inverse of a temperature.

    Raises:
        TrainingError: if the teacher's features carry gradients.
    """
    refuse_gradients(teacher)
    similarities = mu * F.normalize(teacher.float(), dim=1) @ F.normalize(student.float(), dim=1).T  # (i, j)
    others = labels[:, None] != labels
    has_others = others.any(dim=1)
    pushed = similarities.masked_fill(~others, -torch.inf)
    # A row of -inf alone has no gradient that is a number: such rows are set to 0 before they are summed.
    pushed = pushed.masked_fill(~has_others[:, None], 0).logsumexp(dim=1).masked_fill(~has_others, 0)
    return (pushed - similarities.diagonal()).mean()


class Hoc(Method):
    """Adds its loss to the cross-entropy of a fixed simplex; the recipe gives the latter its weight, 0.1."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"hoc": knobs.hoc.weight}
        self._mu = knobs.hoc.mu

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Return the loss."""
        return {"hoc": higher_order(student.contrasted, teacher.contrasted, batch.targets, mu=self._mu)}
