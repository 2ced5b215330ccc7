"""CSD with features held near the teacher's, and larger steps for it: what that gains stands in docs/evidence.md."""

from torch import Tensor

from csd_core.learning.methods.csd import csd_terms
from csd_core.learning.methods.fd import feature_distillation
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


class CsdPlus(Method):
    """Adds L_KD, L_CSD and the distance of features."""

    def __init__(self, knobs: Methods, classes: Classes) -> None:  # noqa: ARG002
        self._csd, self._fd = knobs.csd_plus, knobs.csd_plus.fd
        self.rate = knobs.csd_plus.rate
        self.weights = {"kd": self._csd.kd.weight, "csd": self._csd.csd.weight, "fd": self._fd.weight}

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:
        """Return the three terms."""
        terms = csd_terms(self._csd, batch, student, teacher)
        if self._fd.weight:
            terms["fd"] = feature_distillation(student.features, teacher.features, distance=self._fd.distance)
        return terms
