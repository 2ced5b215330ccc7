"""The adapters of a candidate: for each provenance in the old gallery, one into the candidate's space.

adapters.json             AdapterFits
<digest>.onnx             the best adapter of each method
<digest>.anchors.npy      (A, D_old) training images as the old rows' models embed them, for each chosen adapter
<digest>.residuals.npy    (A,) 1 - cos between where the adapter puts them and where the candidate does
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.params.upgrade import AdapterMethod
from csd_core.records.adapters import AdapterFit, AdapterFits
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.gallery import Provenance
from csd_core.system.errors import ArtifactError

RECORD = "adapters.json"

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Anchors:
    """Where an adapter is known to be right or wrong.

    Attributes:
        vectors: (A, D_old) unit vectors in the adapter's source space.
        residuals: (A,) 1 - cos after mapping.
    """

    vectors: Floats
    residuals: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateAdapters:
    """What the stage `adapt` left behind.

    Attributes:
        record: What was fitted, chosen and impossible.
        chosen: Provenance -> the adapter that did best on `select`.
        anchors: Provenance -> its anchors.
        folder: Where the files lie; None for none.
    """

    record: AdapterFits
    chosen: Mapping[Provenance, Adapter]
    anchors: Mapping[Provenance, Anchors]
    folder: Path | None

    @classmethod
    def none(cls, why_not: str | None = None) -> Self:
        """No adapters, such as for a first model."""
        return cls(record=AdapterFits(fits=(), why_not=why_not), chosen={}, anchors={}, folder=None)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what the stage `adapt` wrote.

        Raises:
            ArtifactError: if a file is missing or damaged.
        """
        record = AdapterFits.load(folder / RECORD)
        try:
            anchors = {
                provenance_of(fit): Anchors(
                    vectors=np.load(folder / f"{fit.chosen}.anchors.npy", allow_pickle=False),
                    residuals=np.load(folder / f"{fit.chosen}.residuals.npy", allow_pickle=False),
                )
                for fit in record.fits
            }
        except (OSError, ValueError, EOFError) as error:
            raise ArtifactError(f"{folder}: damaged anchors ({error}); make them again with `csd run`") from None
        for known in anchors.values():
            if known.vectors.ndim != 2 or known.residuals.shape != known.vectors.shape[:1]:  # noqa: PLR2004 - a matrix
                raise ArtifactError(
                    f"{folder}: anchors are {' x '.join(map(str, known.vectors.shape))} vectors, "
                    f"{known.residuals.size} residuals; make them again with `csd run`"
                )
        return cls(
            record=record,
            chosen={provenance_of(fit): Adapter.retained(folder, fit.chosen) for fit in record.fits},
            anchors=anchors,
            folder=folder,
        )

    def by_method(self, method: AdapterMethod) -> dict[Provenance, Adapter]:
        """Provenance -> its adapter of one method, chosen or not."""
        if self.folder is None:
            return {}
        return {
            provenance_of(fit): Adapter.retained(self.folder, offer.digest)
            for fit in self.record.fits
            for offer in fit.kept
            if offer.method == method and offer.digest
        }

    def paths(self) -> list[Path]:
        """Files of the chosen adapters."""
        return [] if self.folder is None else [self.folder / f"{fit.chosen}.onnx" for fit in self.record.fits]


def provenance_of(fit: AdapterFit) -> Provenance:
    """Whose rows it maps."""
    return Provenance(fit.embedded_by, fit.adapters)
