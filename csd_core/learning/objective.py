"""The loss of a stage: L = w_ce CE + w_tri L_tri, and with a teacher + w_kd L_KD + w_csd L_CSD."""

import torch
from torch import Tensor

from csd_core.errors import TrainingError
from csd_core.learning.losses import cross_entropy, csd_loss, knowledge_distillation, triplet_batch_hard
from csd_core.learning.teacher import Outputs
from csd_core.params_training import FirstStage, LaterStage


class Objective:
    """The terms of a recipe whose weight is above 0; one of weight 0 is not computed at all.

    Attributes:
        weights: Term -> weight, in the order in which they are added up.
        needs_teacher: Whether a term compares with the teacher.
    """

    def __init__(self, recipe: FirstStage, *, old_classes: int) -> None:
        """Read the recipe.

        Args:
            recipe: Of the stage; a `LaterStage` has the teacher's terms.
            old_classes: K_old.

        Raises:
            TrainingError: if every weight is 0.
        """
        weights = {"ce": recipe.ce.weight, "triplet": recipe.triplet.weight}
        if isinstance(recipe, LaterStage):
            weights |= {"kd": recipe.kd.weight, "csd": recipe.csd.weight}
        self.weights = {term: weight for term, weight in weights.items() if weight > 0}
        if not self.weights:
            raise TrainingError(f"every loss weight ({', '.join(weights)}) is 0, so nothing can be learned; raise one")
        self.needs_teacher = bool(self.weights.keys() & {"kd", "csd"})
        self._recipe, self._old_classes = recipe, old_classes

    def terms(self, student: Outputs, targets: Tensor, teacher: Outputs | None) -> dict[str, Tensor]:
        """Each term, without its weight.

        Args:
            student: Features (N, D) and logits (N, K).
            targets: (N,) int64, columns of the right classes.
            teacher: Features (N, D) and logits (N, K_old) of the same images; None if no term needs them.
        """
        recipe = self._recipe
        terms: dict[str, Tensor] = {}
        if "ce" in self.weights:
            terms["ce"] = cross_entropy(
                student.logits, targets, old_classes=self._old_classes, columns=recipe.ce.columns
            )
        if "triplet" in self.weights:
            terms["triplet"] = triplet_batch_hard(student.features, targets, margin=recipe.triplet.margin)
        if teacher is None or not isinstance(recipe, LaterStage):
            return terms
        if "kd" in self.weights:
            terms["kd"] = knowledge_distillation(student.logits, teacher.logits, temperature=recipe.kd.temperature)
        if "csd" in self.weights:
            terms["csd"] = csd_loss(
                student.features,
                teacher.features,
                targets,
                temperature=recipe.csd.temperature,
                contrast=recipe.csd.contrast,
            )
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of `terms`."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
