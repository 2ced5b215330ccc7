"""Contrastive Supervised Distillation (Barletti et al., ICIAP 2021)."""

from torch import Tensor

from csd_core.learning.losses import csd_loss, knowledge_distillation
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params_methods import Methods


class Csd(Method):
    """Adds L_KD and L_CSD."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self.weights = {"kd": knobs.csd.kd.weight, "csd": knobs.csd.csd.weight}
        self._kd, self._csd = knobs.csd.kd, knobs.csd.csd

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Both terms."""
        terms: dict[str, Tensor] = {}
        if self.weights["kd"]:
            terms["kd"] = knowledge_distillation(student.logits, teacher.logits, temperature=self._kd.temperature)
        if self.weights["csd"]:
            terms["csd"] = csd_loss(
                student.features,
                teacher.features,
                batch.targets,
                temperature=self._csd.temperature,
                contrast=self._csd.contrast,
            )
        return terms
