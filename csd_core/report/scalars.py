"""The scalars of a training stage, as DVCLive wrote them: a tsv for each, `step` and value."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from csd_core.system.errors import ArtifactError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """One scalar over a stage.

    Attributes:
        name: Such as `train/ce` or `select/recall_at_1`.
        values: (epochs,) one for each epoch.
    """

    name: str
    values: npt.NDArray[np.float64]


def load_curves(folder: Path) -> tuple[Curve, ...]:
    """Return every .tsv below `folder`, sorted by name.

    Raises:
        ArtifactError: if a file has no numbers in two columns.
    """
    curves = []
    for path in sorted(folder.rglob("*.tsv")):
        group = path.parent.relative_to(folder).name
        try:
            with path.open(encoding="utf-8", newline="") as file:
                values = [float(row[1]) for row in list(csv.reader(file, delimiter="\t"))[1:]]
        except (ValueError, IndexError, UnicodeDecodeError) as error:
            raise ArtifactError(f"{path}: not a curve of step and value ({error}); train the task again") from None
        curves.append(Curve(name=f"{group}/{path.stem}" if group else path.stem, values=np.array(values)))
    return tuple(sorted(curves, key=lambda curve: curve.name))
