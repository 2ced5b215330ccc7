"""How images are fed to an embedder that csd did not export: what its ONNX file does not say."""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from csd_core.params.model import ResizeRule
from csd_core.records.stages import ImageForm
from csd_core.system.errors import ParamsError

Layout = Literal["nchw", "nhwc"]

SCALE = 1 / 255
"""Of float inputs, unless asked otherwise: pixels between 0 and 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Options for embedders that csd did not export; x = (pixel * scale - mean) / std."""

    image_size: int | None = None
    """Height and width of the input in pixels, where the file leaves them open."""
    layout: Layout | None = None
    """Order of the input's axes, where the shape in the file does not tell."""
    resize: ResizeRule | None = None
    """How an image that is not square becomes square; squash unless given."""
    crop_share: float | None = None
    """What --resize crop keeps of the shorter side; 1 unless given, 0.875 for 224 of 256 pixels."""
    background: str | None = None
    """What lies behind transparent pixels and around a padded image: white, grey, checker or #rrggbb; black unless
    given."""
    scale: float | None = None
    """Factor for pixels of 0 to 255 where the input is float; 1/255 unless given."""
    mean: str | None = None
    """Mean of the scaled pixels: one number, or one for each channel, separated by commas; 0 unless given."""
    std: str | None = None
    """Standard deviation of the scaled pixels: one number, or one for each channel; 1 unless given."""

    @property
    def given(self) -> tuple[str, ...]:
        """Names of the options that were given, as on the command line."""
        return tuple(
            f"--{each.name.replace('_', '-')}" for each in fields(self) if getattr(self, each.name) is not None
        )

    @property
    def of_pixels(self) -> tuple[str, ...]:
        """Those of them that change what a pixel becomes."""
        return tuple(name for name in self.given if name in ("--scale", "--mean", "--std"))

    def form(self, size: int, channels: int) -> ImageForm:
        """Return the form of images of this size.

        Raises:
            ParamsError: if the options make none.
        """
        if self.crop_share is not None and self.resize != "crop":
            raise ParamsError(f"--crop-share {self.crop_share}: counts with --resize crop alone; add that")
        try:
            return ImageForm(
                size=size,
                channels=channels,
                resize=self.resize or "squash",
                crop_share=1.0 if self.crop_share is None else self.crop_share,
                background=self.background or "black",
            )
        except ValidationError as error:
            mistake = error.errors()[0]
            name = str(mistake["loc"][0])
            given = f"{getattr(self, name)}: "
            reason = mistake["msg"].removeprefix("Value error, ").removeprefix(given)
            raise ParamsError(f"--{name.replace('_', '-')} {given}{reason}") from None

    def factor_and_offset(self, channels: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (channels,) each: x = pixel * factor + offset.

        Raises:
            ParamsError: if mean or std are not one number or one for each channel, or std is not positive.
        """
        mean = _numbers("--mean", self.mean, channels, default=0.0)
        std = _numbers("--std", self.std, channels, default=1.0)
        if not (std > 0).all():
            raise ParamsError(f"--std {self.std}: must be above 0")
        scale = SCALE if self.scale is None else self.scale
        if not np.isfinite(scale) or scale == 0:
            raise ParamsError(f"--scale {scale}: must be a finite number other than 0")
        return (scale / std).astype(np.float32), (-mean / std).astype(np.float32)


def _numbers(name: str, text: str | None, channels: int, *, default: float) -> npt.NDArray[np.float64]:
    """Return (channels,) float64."""
    if text is None:
        return np.full(channels, default)
    try:
        found = np.array([float(each) for each in text.split(",")])
    except ValueError:
        raise ParamsError(f"{name} {text}: not numbers; write them with commas, such as 0.5,0.5,0.5") from None
    if len(found) not in (1, channels) or not np.isfinite(found).all():
        raise ParamsError(
            f"{name} {text}: {len(found)} numbers for {channels} channels; give one finite number for each"
        )
    return np.broadcast_to(found, channels)
