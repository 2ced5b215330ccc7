"""What a check looks at: the same items, as they are stored and as both models embed them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.system.errors import CompatibilityError
from csd_core.upgrade.plans import UpgradePlan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluationData:
    """The measured items.

    Attributes:
        labels: (N,) class names.
        tasks: (N,) the task each came with.
        old: (N,) whether it was in the gallery before.
        stored: N_old rows of the gallery, in the order of the old items.
        positions: (N_old,) where they are in the whole gallery.
        champion: (N, D_old) by the champion; None for a first model.
        candidate: (N, D) by the candidate.
        asked: (Q,) which of the items are queries; every item is a row.
    """

    labels: npt.NDArray[np.str_]
    tasks: npt.NDArray[np.str_]
    old: Bools
    stored: Gallery
    positions: Ints
    champion: Floats | None
    candidate: Floats
    asked: Ints

    def __post_init__(self) -> None:
        """Refuse vectors that do not belong to the items."""
        if not len(self.stored) == len(self.positions) == self.old.sum():
            raise CompatibilityError(
                f"{len(self.stored)} stored vectors for {self.old.sum()} old items; give the stored row of each"
            )

    def status_quo_rows(self) -> Floats | None:
        """(N, D_old) rows served without an upgrade: stored ones, and new ones by the champion; None without one."""
        if self.champion is None:
            return None
        rows = self.champion.copy()
        rows[self.old] = self.stored.vectors
        return rows

    def rows(self, plan: UpgradePlan) -> Floats:
        """Return (N, D) rows served after an upgrade: old ones under the plan, new ones by the candidate."""
        if not self.old.any():
            return self.candidate
        mine = plan.of(self.positions)
        served = mine.served(self.stored, self.candidate[self.old][mine.embed])
        rows = self.candidate.copy()
        rows[self.old] = served
        return rows
