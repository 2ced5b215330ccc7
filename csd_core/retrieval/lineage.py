"""The models and adapters that made a gallery's rows, kept for as long as a row needs them.

    lineage.json       LineageRecord
    <digest>.onnx      each model and adapter

With them any image can be embedded as the rows of an older generation were.
"""

import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from csd_core.records.stages import Digest, Record
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.gallery import Provenance
from csd_core.system.atomic import atomic_folder
from csd_core.system.errors import ArtifactError

RECORD = "lineage.json"

Embeds = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From images (N, H, W, C) uint8 to vectors (N, D) float32."""


class LineageRecord(Record):
    """lineage.json."""

    models: tuple[Digest, ...]
    """Sorted."""
    adapters: tuple[Digest, ...]
    """Sorted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lineage:
    """Where the retained models and adapters lie.

    Attributes:
        models: Digest -> ONNX file.
        adapters: Digest -> ONNX file.
    """

    models: Mapping[Digest, Path]
    adapters: Mapping[Digest, Path]

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactError: if the record is missing or a file that it names is.
        """
        record = LineageRecord.load(folder / RECORD)
        models, adapters = (
            {digest: folder / f"{digest}.onnx" for digest in digests} for digests in (record.models, record.adapters)
        )
        for path in (*models.values(), *adapters.values()):
            if not path.is_file():
                raise ArtifactError(f"{path}: missing, though {RECORD} names it; run `csd run` to make it again")
        return cls(models=models, adapters=adapters)

    def model(self, digest: str) -> Path | None:
        """Return a model's file; None if it is not retained."""
        return self.models.get(digest)

    def adapter(self, digest: str) -> Path | None:
        """Return an adapter's file; None if it is not retained."""
        return self.adapters.get(digest)

    def knows(self, provenance: Provenance) -> bool:
        """Return whether images can be embedded as rows of this provenance were."""
        return provenance.embedded_by in self.models and all(each in self.adapters for each in provenance.chain)

    def embed_as(
        self, provenance: Provenance, *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0
    ) -> Embeds | None:
        """What embeds images as the rows of a provenance were; None where its model or an adapter is not retained.

        Args:
            provenance: Of the rows.
            device: Of the model.
            threads: CPU threads; 0 leaves the choice to onnxruntime.

        Raises:
            ArtifactError: if a file is damaged or is another one than its digest says.
        """
        if not self.knows(provenance):
            return None
        model = Embedder.load(self.models[provenance.embedded_by], device=device, threads=threads)
        chain = [Adapter.load(self.adapters[digest], threads=threads) for digest in provenance.chain]
        for digest, path, found in (
            (provenance.embedded_by, self.models[provenance.embedded_by], model.digest),
            *(
                (digest, self.adapters[digest], each.digest)
                for digest, each in zip(provenance.chain, chain, strict=True)
            ),
        ):
            if digest != found:
                raise ArtifactError(f"{path}: its content has digest {found[:12]}; restore it with `csd run`")

        def embed(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
            vectors = model(images)
            for adapter in chain:
                vectors = adapter(vectors)
            return vectors

        return embed

    def extended(self, *, models: Iterable[Path] = (), adapters: Iterable[Path] = ()) -> "Lineage":
        """With more files, known by their digests."""
        return Lineage(
            models={**self.models, **{digest_of(path): path for path in models}},
            adapters={**self.adapters, **{digest_of(path): path for path in adapters}},
        )

    def needed_by(self, provenances: Iterable[Provenance], *, query_models: Iterable[str]) -> "Lineage":
        """Return what rows of these provenances need, and what embeds queries; what is not retained stays unknown."""
        wanted = list(provenances)
        models = {provenance.embedded_by for provenance in wanted} | set(query_models)
        adapters = {digest for provenance in wanted for digest in provenance.chain}
        return Lineage(
            models={digest: path for digest, path in self.models.items() if digest in models},
            adapters={digest: path for digest, path in self.adapters.items() if digest in adapters},
        )

    def save(self, folder: Path) -> None:
        """Copy everything into `folder`, whole or not at all."""
        with atomic_folder(folder) as partial:
            for digest, path in sorted({**self.models, **self.adapters}.items()):
                shutil.copyfile(path, partial / f"{digest}.onnx")
            LineageRecord(models=tuple(sorted(self.models)), adapters=tuple(sorted(self.adapters))).save(
                partial / RECORD
            )
