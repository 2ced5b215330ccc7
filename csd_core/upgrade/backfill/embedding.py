"""Embedding of a shard: pure, here, in a process, or on another machine.

The bytes of a row depend on the model, its image and the ids, and on nothing else: not on the number of processes, an
interruption, or which other images were missing. onnxruntime promises equal bits neither across batch sizes nor across
numbers of threads, so both are fixed: BATCH images a call at fixed places in a shard, a missing one being black, and
one thread a session; more cores are used by more processes. (Processors of another make may still differ.)
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from csd_core.engine.pace import Pace
from csd_core.engine.work import Reader
from csd_core.records.stages import Digest
from csd_core.retrieval.embedder import Embedder, wants_gpu
from csd_core.system.errors import ArtifactError, DataError
from csd_core.upgrade.backfill.images import Fetched, ImageSource
from csd_core.upgrade.backfill.shards import BATCH, Device, EmbeddedShard, Floats, ShardTask, Strings

THREADS = 1
"""Of a session. Part of a row's bytes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ShardEmbedder:
    """Embeds shards.

    Attributes:
        model: The ONNX file, or its bytes.
        digest: What the file must be.
        source: Of the images.
        device: Where to compute; equal bytes are promised for `cpu`.
        reader: Reads the images in place of the source; None if the source does.
    """

    model: Path | bytes
    digest: Digest
    source: ImageSource
    device: Device
    reader: Reader | None = None

    @property
    def threads(self) -> int:
        """Return the threads of its session."""
        return THREADS

    @property
    def takes_gpu(self) -> bool:
        """Return whether the model computes on a GPU where there is one."""
        return wants_gpu(self.device)

    @cached_property
    def embedder(self) -> Embedder:
        """The model, loaded.

        Raises:
            ArtifactError: if it is not the model the backfill began with.
        """
        embedder = Embedder.load(self.model, device=self.device, threads=THREADS)
        if embedder.digest != self.digest:
            raise ArtifactError(
                f"{self.model if isinstance(self.model, Path) else 'the model'}: is now {embedder.digest[:12]}, the "
                f"backfill began with {self.digest[:12]}; put that model back or start again"
            )
        return embedder

    def mark(self) -> str:
        """Return what only a machine that sees the same images returns, too."""
        return self.source.mark()

    def read(self, key: Strings) -> Fetched:
        """Return the images of (n,) ids."""
        return self.source.images(key)

    def portable(self, *, gpu: bool) -> Self:
        """Return the same with the model's bytes.

        Raises:
            ArtifactError: if the model cannot be read.
        """
        device: Device = "cuda" if gpu or self.device == "cuda" else "cpu"
        if isinstance(self.model, bytes):
            return replace(self, device=device)
        try:
            return replace(self, model=self.model.read_bytes(), device=device)
        except OSError as error:
            raise ArtifactError(f"{self.model}: cannot be read ({error.strerror}); put it back") from None

    def reading(self, reader: Reader) -> Self:
        """Return the same with images that another machine reads."""
        return replace(self, reader=reader)

    def __call__(self, task: ShardTask, pace: Pace) -> EmbeddedShard:
        """Embed what of a shard is to be done.

        Raises:
            ArtifactError: if the model is missing.
            CompatibilityError: if the images do not fit the model.
        """
        ids = task.shard.ids
        vectors = np.zeros((len(ids), self.embedder.metadata.dimension), np.float32)
        failed: dict[str, str] = {}
        batches = list(task.batches())
        if task.failed is not None:
            pace.report(len(ids) - sum(len(batch) for _, batch in batches))
        for (start, batch), fetched in zip(batches, self._images([batch for _, batch in batches], pace), strict=True):
            vectors[start : start + len(batch)] = self._embed(batch, fetched, failed)
            pace.report(len(batch))
        return EmbeddedShard(task=task, vectors=vectors, failed=failed)

    def _images(self, batches: list[Strings], pace: Pace) -> Iterator[Fetched]:
        def admitted() -> Iterator[Strings]:
            for batch in batches:
                pace.admit(len(batch))
                yield batch

        return self.reader(admitted()) if self.reader else map(self.source.images, admitted())

    def _embed(self, ids: Strings, fetched: Fetched, failed: dict[str, str]) -> Floats:
        """Return (n, D) vectors of a batch, zero where `failed` then says why."""
        if fetched.read.all() and len(fetched.images) == len(ids):
            return self.embedder(fetched.images, batch=BATCH)
        lost = ids[~fetched.read].tolist()
        if len(fetched.images) != fetched.read.sum() or fetched.reasons.keys() != set(lost):
            raise DataError(
                f"backfill: of {len(ids)} images asked for, the source gave {len(fetched.images)}, marked "
                f"{fetched.read.sum()} as read and {len(fetched.reasons)} as failed; it must account for each"
            )
        failed.update(fetched.reasons)
        vectors = np.zeros((len(ids), self.embedder.metadata.dimension), np.float32)
        if fetched.read.any():
            images = np.zeros((len(ids), *fetched.images.shape[1:]), np.uint8)
            images[fetched.read] = fetched.images
            vectors[fetched.read] = self.embedder(images, batch=BATCH)[fetched.read]
        return vectors
