"""What a check looks at: the same items, embedded by both models."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.errors import CompatibilityError
from csd_core.retrieval.metrics import Bools, Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """The measured items, embedded by both models.

    Attributes:
        labels: (N,) class names.
        tasks: (N,) the task each came with.
        old: (N,) whether it was in the gallery before.
        stored: (N_old, D_old) its vector there, in the order of the old items.
        champion: (N, D_old) by the champion; None for a first model.
        candidate: (N, D) by the candidate.
    """

    labels: npt.NDArray[np.str_]
    tasks: npt.NDArray[np.str_]
    old: Bools
    stored: Floats
    champion: Floats | None
    candidate: Floats

    def __post_init__(self) -> None:
        """Refuse vectors that do not belong to the items."""
        if len(self.stored) != self.old.sum():
            raise CompatibilityError(
                f"{len(self.stored)} stored vectors for {self.old.sum()} old items; give the stored row of each"
            )

    def status_quo_rows(self) -> Floats | None:
        """(N, D_old) rows served without an upgrade: stored ones, and new ones by the champion; None without one."""
        if self.champion is None:
            return None
        rows = self.champion.copy()
        rows[self.old] = self.stored
        return rows
