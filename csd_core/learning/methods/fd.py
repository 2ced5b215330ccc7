"""Feature distillation: the student's features stay near the teacher's."""

from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.losses import refuse_gradients
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


def feature_distillation(student: Tensor, teacher: Tensor, *, distance: str) -> Tensor:
    """Mean over the batch of 1 - cos(f, f'), or of |f - f'|^2 / D for `mse`.

    Args:
        student: (N, D).
        teacher: (N, D), without gradient, of the same images.
        distance: `cosine` or `mse`.

    Raises:
        TrainingError: if the teacher's features carry gradients.
    """
    refuse_gradients(teacher)
    if distance == "mse":
        return F.mse_loss(student.float(), teacher.float())
    return (1 - F.cosine_similarity(student.float(), teacher.float(), dim=1)).mean()


class Fd(Method):
    """Adds the distance of features."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"fd": knobs.fd.weight}
        self._distance = knobs.fd.distance

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """Return the distance."""
        return {"fd": feature_distillation(student.features, teacher.features, distance=self._distance)}
