"""LUCIR's less-forget constraint (Hou et al., CVPR 2019), without exemplars."""

import math

from torch import Tensor

from csd_core.learning.methods.fd import feature_distillation
from csd_core.learning.methods.protocol import Batch, Classes, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.methods import Methods


class Lucir(Method):
    """Adds lambda (1 - cos(f, f')), lambda = weight sqrt(n_old / n_new): the more there is to keep, the more it counts.

    Its classifier has cosines as logits, times a scale that is learned.
    """

    def __init__(self, knobs: Methods, classes: Classes) -> None:
        """Reckon lambda; where no class is new, as if one were."""
        self.weights = {"less-forget": knobs.lucir.weight * math.sqrt(classes.old / max(1, classes.new))}

    def losses(self, batch: Batch, student: Outputs, teacher: Outputs) -> dict[str, Tensor]:  # noqa: ARG002
        """1 - cos(f, f'), mean over the batch."""
        return {"less-forget": feature_distillation(student.features, teacher.features, distance="cosine")}
