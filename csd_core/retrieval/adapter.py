"""An adapter: a small ONNX model that maps vectors of one space into another. No torch.

N vectors, D_old and D dimensions; vectors are unit length on both sides.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, cast, get_args

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from csd_core.params.upgrade import AdapterMethod
from csd_core.retrieval.embedder import digest_of
from csd_core.retrieval.onnx_session import open_session
from csd_core.system.errors import ArtifactError, CompatibilityError

Floats = npt.NDArray[np.float32]

FORMAT = "2"
SAME_DIMENSION = "1"
"""The format before, in which both sides had one dimension."""

BATCH = 4096
"""Vectors mapped at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterMetadata:
    """What the ONNX file says about itself, under keys that start with `csd.`.

    Attributes:
        source: Digest of the model whose space it maps from.
        target: Digest of the model whose space it maps to.
        method: How it was fitted.
        source_dimension: D_old, of the vectors it takes.
        dimension: D, of those it gives.
    """

    source: str
    target: str
    method: AdapterMethod
    source_dimension: int
    dimension: int

    def to_props(self) -> dict[str, str]:
        """Return the same as ONNX metadata properties."""
        return {
            "csd.adapter": FORMAT,
            "csd.source": self.source,
            "csd.target": self.target,
            "csd.method": self.method,
            "csd.source_dimension": str(self.source_dimension),
            "csd.dimension": str(self.dimension),
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Self:
        """Read what `to_props` wrote.

        Raises:
            KeyError: if a property is missing.
            ValueError: if one has an impossible value.
        """
        known = props["csd.adapter"]
        if known not in (SAME_DIMENSION, FORMAT):
            raise ValueError(f"format {known}, expected {FORMAT}")
        method = props["csd.method"]
        if method not in get_args(AdapterMethod):
            raise ValueError(f"method {method}")
        return cls(
            source=props["csd.source"],
            target=props["csd.target"],
            method=cast("AdapterMethod", method),
            source_dimension=int(
                props["csd.dimension" if props["csd.adapter"] == SAME_DIMENSION else "csd.source_dimension"]
            ),
            dimension=int(props["csd.dimension"]),
        )


class Adapter:
    """An adapter as production runs it.

    Attributes:
        digest: sha256 of the ONNX file.
        metadata: What the file says about itself.
    """

    def __init__(self, session: ort.InferenceSession, *, digest: str, metadata: AdapterMetadata) -> None:
        self.digest = digest
        self.metadata = metadata
        self._session = session

    @classmethod
    def load(cls, path: str | Path, *, threads: int = 1) -> Self:
        """Open an adapter's ONNX file.

        Args:
            path: The file.
            threads: CPU threads; 0 leaves the choice to onnxruntime.

        Raises:
            ArtifactError: if the file is missing or is no adapter.
        """
        session, metadata = open_session(
            path, AdapterMetadata.from_props, what="adapter", threads=threads, providers=["CPUExecutionProvider"]
        )
        return cls(session, digest=digest_of(Path(path)), metadata=metadata)

    @classmethod
    def retained(cls, folder: Path, digest: str, *, threads: int = 1) -> Self:
        """Open the file that is called by its digest.

        Args:
            folder: Where it lies.
            digest: Its digest.
            threads: CPU threads; 0 leaves the choice to onnxruntime.

        Raises:
            ArtifactError: if the file is missing, is no adapter, or is another one than its name says.
        """
        path = folder / f"{digest}.onnx"
        adapter = cls.load(path, threads=threads)
        if adapter.digest != digest:
            raise ArtifactError(f"{path}: its content has digest {adapter.digest[:12]}; restore it with `csd run`")
        return adapter

    def __call__(self, vectors: Floats) -> Floats:
        """Map vectors.

        Args:
            vectors: (N, D_old) float32 of unit length, in the source's space.

        Returns:
            (N, D) float32 of unit length, in the target's space.

        Raises:
            CompatibilityError: if they have another dimension.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.metadata.source_dimension:  # noqa: PLR2004 - a matrix
            raise CompatibilityError(
                f"vectors are {' x '.join(map(str, vectors.shape))}, adapter {self.digest[:12]} maps N x "
                f"{self.metadata.source_dimension}; backfill these rows"
            )
        mapped = np.empty((len(vectors), self.metadata.dimension), np.float32)
        for start in range(0, len(vectors), BATCH):
            some = np.ascontiguousarray(vectors[start : start + BATCH], np.float32)
            mapped[start : start + BATCH] = self._session.run(["embeddings"], {"vectors": some})[0]
        return mapped
