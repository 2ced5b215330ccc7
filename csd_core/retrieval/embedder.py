"""The ONNX embedding model, run by onnxruntime: images in, unit vectors out. No torch."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from csd_core.params.model import ResizeRule
from csd_core.records.stages import ImageForm, Resampling
from csd_core.retrieval.onnx_session import has_cuda, open_session
from csd_core.system.errors import ArtifactError, CompatibilityError

Device = Literal["auto", "cpu", "cuda"]

FORMAT = "1"
_ADDED = {
    "csd.image_crop_share": "1.0",
    "csd.image_background": "black",
    "csd.image_resampling": "bicubic",
    "csd.image_shorter_side": "",
}
BATCH = 256
"""Images embedded at a time, unless asked otherwise; larger batches gain nothing on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedderMetadata:
    """What the ONNX file says about itself, under keys that start with `csd.`.

    Attributes:
        size: Height and width of an image in pixels.
        channels: 1 grey, 3 RGB.
        resize: How an image of another shape becomes one of this size.
        dimension: D of an embedding.
        classes: Class names the model was trained on, in column order of its classifier.
        parent: Digest of the champion it was trained from; None for a first model.
        crop_share: What crop keeps of the shorter side.
        background: What lies behind transparent pixels and around a padded image.
        resampling: Filter of resizing.
        shorter_side: What the shorter side becomes before the middle is cut out; None crops first.
    """

    size: int
    channels: int
    resize: ResizeRule
    dimension: int
    classes: tuple[str, ...]
    parent: str | None
    crop_share: float = 1.0
    background: str = "black"
    resampling: Resampling = "bicubic"
    shorter_side: int | None = None

    @property
    def form(self) -> ImageForm:
        """The form an image must have."""
        return ImageForm(
            size=self.size,
            channels=self.channels,
            resize=self.resize,
            crop_share=self.crop_share,
            background=self.background,
            resampling=self.resampling,
            shorter_side=self.shorter_side,
        )

    def to_props(self) -> dict[str, str]:
        """Return the same as ONNX metadata properties.

        Some were added later; a file without them means what they are by default, so defaults are not written.
        """
        added = {
            "csd.image_crop_share": str(self.crop_share),
            "csd.image_background": self.background,
            "csd.image_resampling": self.resampling,
            "csd.image_shorter_side": str(self.shorter_side or ""),
        }
        return {name: text for name, text in added.items() if text != _ADDED[name]} | {
            "csd.format": FORMAT,
            "csd.image_size": str(self.size),
            "csd.image_channels": str(self.channels),
            "csd.image_resize": self.resize,
            "csd.dimension": str(self.dimension),
            "csd.classes": json.dumps(self.classes, ensure_ascii=False),
            "csd.parent": self.parent or "",
        }

    @classmethod
    def from_props(cls, props: Mapping[str, str]) -> Self:
        """Read what `to_props` wrote.

        Raises:
            KeyError: if a property is missing.
            ValueError: if one has an impossible value.
        """
        if props["csd.format"] != FORMAT:
            raise ValueError(f"format {props['csd.format']}, expected {FORMAT}")
        form = ImageForm.model_validate(
            {
                "size": int(props["csd.image_size"]),
                "channels": int(props["csd.image_channels"]),
                "resize": props["csd.image_resize"],
                "crop_share": float(props.get("csd.image_crop_share", _ADDED["csd.image_crop_share"])),
                "background": props.get("csd.image_background", _ADDED["csd.image_background"]),
                "resampling": props.get("csd.image_resampling", _ADDED["csd.image_resampling"]),
                "shorter_side": int(props.get("csd.image_shorter_side") or 0) or None,
            }
        )
        return cls(
            **dict(form),
            dimension=int(props["csd.dimension"]),
            classes=tuple(json.loads(props["csd.classes"])),
            parent=props["csd.parent"] or None,
        )


def digest_of(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Embedder:
    """An embedding model as production runs it.

    Attributes:
        digest: sha256 of the ONNX file; the model's identity.
        metadata: What the file says about itself.
        threads: CPU threads; 0 leaves the choice to onnxruntime.
    """

    def __init__(
        self,
        session: ort.InferenceSession,
        *,
        digest: str,
        metadata: EmbedderMetadata,
        file: str | Path | bytes,
        device: Device,
        threads: int,
    ) -> None:
        self.digest = digest
        self.metadata = metadata
        self.threads = threads
        self._session, self._file, self._device = session, file, device

    @classmethod
    def load(
        cls,
        model: str | Path | bytes,
        *,
        device: Device = "auto",
        threads: int = 0,
    ) -> "Embedder":
        """Open an ONNX file that `export` wrote.

        Args:
            model: The file, or its bytes.
            device: auto takes a GPU where onnxruntime has one.
            threads: CPU threads; 0 leaves the choice to onnxruntime.

        Raises:
            ArtifactError: if the file is missing or is no csd embedder.
            CompatibilityError: if `cuda` is asked for and onnxruntime has none.
        """
        session, metadata = open_session(
            model,
            EmbedderMetadata.from_props,
            what="model",
            threads=threads,
            providers=_providers(device),
        )
        digest = hashlib.sha256(model).hexdigest() if isinstance(model, bytes) else digest_of(Path(model))
        return cls(session, digest=digest, metadata=metadata, file=model, device=device, threads=threads)

    @property
    def takes_gpu(self) -> bool:
        """Return whether it computes on a GPU where there is one."""
        return wants_gpu(self._device)

    def portable(self, *, gpu: bool) -> "PortableEmbedder":
        """Return the model for machines that see no file of this one.

        Args:
            gpu: Whether the process that runs it has a GPU of its own.

        Raises:
            ArtifactError: if the file is another one by now.
        """
        content = self._file if isinstance(self._file, bytes) else Path(self._file).read_bytes()
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise ArtifactError(f"{self._file!s}: is another model than when it was opened; run again")
        return PortableEmbedder(
            content=content, device="cuda" if gpu or self._device == "cuda" else "cpu", threads=self.threads
        )

    def __call__(self, images: npt.NDArray[np.uint8], *, batch: int = BATCH) -> npt.NDArray[np.float32]:
        """Embed images.

        Args:
            images: (N, H, W, C) uint8 of the model's size and channels; may be memory-mapped.
            batch: Images embedded at a time.

        Returns:
            (N, D) float32 of unit length.

        Raises:
            CompatibilityError: if the images have another shape or type.
        """
        expected = (self.metadata.size, self.metadata.size, self.metadata.channels)
        if images.ndim != 4 or images.shape[1:] != expected or images.dtype != np.uint8:  # noqa: PLR2004 - N, H, W, C
            raise CompatibilityError(
                f"images are {images.dtype} {images.shape}, the model (digest {self.digest[:12]}) takes uint8 "
                f"(N, {', '.join(map(str, expected))}); decode them with csd_core.data.decode"
            )
        vectors = np.empty((len(images), self.metadata.dimension), np.float32)
        for start in range(0, len(images), batch):
            some = np.ascontiguousarray(images[start : start + batch])
            vectors[start : start + batch] = self._session.run(["embeddings"], {"images": some})[0]
        return vectors


@dataclass(frozen=True, kw_only=True, eq=False)
class PortableEmbedder:
    """A model's bytes on their way to another process, which opens them when it first embeds.

    Attributes:
        content: The ONNX file.
        device: Where to compute.
        threads: CPU threads; 0 leaves the choice to onnxruntime.
    """

    content: bytes
    device: Device
    threads: int

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder.load(self.content, device=self.device, threads=self.threads)

    def __call__(self, images: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Return (N, D) vectors of (N, H, W, C) uint8 images, as `Embedder` does."""
        return self._embedder(images)


def wants_gpu(device: Device) -> bool:
    """Return whether a model that was asked to run on a device takes a GPU where there is one."""
    return device == "cuda" or (device == "auto" and has_cuda())


def _providers(device: str) -> list[Any]:
    if device == "cuda" and not has_cuda():
        raise CompatibilityError("device cuda: this onnxruntime has no CUDA; install onnxruntime-gpu or use auto")
    return (
        ["CUDAExecutionProvider", "CPUExecutionProvider"]
        if device != "cpu" and has_cuda()
        else ["CPUExecutionProvider"]
    )
