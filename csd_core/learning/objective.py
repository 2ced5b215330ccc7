"""The loss of a stage: L = w_ce CE + w_tri L_tri, and with a teacher what the method adds."""

import torch
from torch import Tensor

from csd_core.learning.losses import cross_entropy, triplet_batch_hard
from csd_core.learning.methods.protocol import Batch, Method
from csd_core.learning.teacher import Outputs
from csd_core.params.training import FirstStage
from csd_core.system.errors import TrainingError


class Objective:
    """The terms of a stage whose weight is above 0; one of weight 0 is not computed at all.

    Attributes:
        weights: Term -> weight, in the order in which they are added up.
        needs_teacher: Whether a term compares with the teacher.
    """

    def __init__(
        self, recipe: FirstStage, *, method: Method | None, old_classes: int, class_weights: Tensor | None = None
    ) -> None:
        """Read the recipe.

        Args:
            recipe: Of the stage, for the terms of the base loss.
            method: Adds terms; None while there is no teacher.
            old_classes: K_old.
            class_weights: (K,) float32 of the cross-entropy, on the device of the outputs; None weighs all alike.

        Raises:
            TrainingError: if every weight is 0.
        """
        added = dict(method.weights) if method else {}
        weights = {"ce": recipe.ce.weight, "triplet": recipe.triplet.weight, **added}
        self.weights = {term: weight for term, weight in weights.items() if weight > 0}
        if not self.weights:
            raise TrainingError(f"every loss weight ({', '.join(weights)}) is 0, so nothing can be learned; raise one")
        self.needs_teacher = bool(self.weights.keys() & added.keys())
        self._recipe, self._method, self._old_classes = recipe, method, old_classes
        self._class_weights = class_weights

    def terms(self, student: Outputs, targets: Tensor, teacher: Outputs | None) -> dict[str, Tensor]:
        """Return each term, without its weight.

        Args:
            student: Features (N, D) and logits (N, K).
            targets: (N,) int64, columns of the right classes.
            teacher: Features (N, D) and logits (N, K_old) of the same images; None if no term needs them.
        """
        recipe = self._recipe
        terms: dict[str, Tensor] = {}
        if "ce" in self.weights:
            terms["ce"] = cross_entropy(
                student.logits,
                targets,
                old_classes=self._old_classes,
                columns=recipe.ce.columns,
                class_weights=self._class_weights,
            )
        if "triplet" in self.weights:
            terms["triplet"] = triplet_batch_hard(student.contrasted, targets, margin=recipe.triplet.margin)
        if teacher and self._method:
            terms |= self._method.losses(Batch(targets, self._old_classes), student, teacher)
        return terms

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of `terms`."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
