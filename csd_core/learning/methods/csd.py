"""Contrastive Supervised Distillation (Barletti et al., ICIAP 2021)."""

from torch import Tensor

from csd_core.learning.losses import csd_loss, knowledge_distillation
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Csd as Knobs
from csd_core.params.methods import Methods


class Csd(Method):
    """Adds L_KD and L_CSD."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self._knobs = knobs.csd
        self.weights = {"kd": knobs.csd.kd.weight, "csd": knobs.csd.csd.weight}

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Both terms."""
        return csd_terms(self._knobs, batch, student, teacher)


def csd_terms(knobs: Knobs, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
    """L_KD and L_CSD, but for those of weight 0."""
    terms: dict[str, Tensor] = {}
    if knobs.kd.weight:
        terms["kd"] = knowledge_distillation(student.logits, teacher.logits, temperature=knobs.kd.temperature)
    if knobs.csd.weight:
        terms["csd"] = csd_loss(
            student.contrasted,
            teacher.contrasted,
            batch.targets,
            temperature=knobs.csd.temperature,
            contrast=knobs.csd.contrast,
        )
    return terms
