"""Learning without forgetting: distillation of the teacher's class probabilities (Li & Hoiem, 2016)."""

from torch import Tensor

from csd_core.learning.losses import knowledge_distillation
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


class Lwf(Method):
    """Adds L_KD."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"kd": knobs.lwf.weight}
        self._temperature = knobs.lwf.temperature

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """L_KD."""
        return {"kd": knowledge_distillation(student.logits, teacher.logits, temperature=self._temperature)}
