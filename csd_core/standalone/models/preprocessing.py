"""How images are fed to an embedder that csd did not export: what its ONNX file does not say."""

from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from csd_core.params.model import ResizeRule
from csd_core.records.stages import ImageForm, Resampling
from csd_core.system.errors import ParamsError

Layout = Literal["nchw", "nhwc"]

SCALE = 1 / 255
"""Of float inputs, unless asked otherwise: pixels between 0 and 1."""


Preset = Literal["imagenet", "clip", "caffe", "minus-one-to-one"]


class Normalisation(NamedTuple):
    """How a family of models is fed."""

    scale: float
    mean: str
    std: str
    bgr: bool = False


PRESETS: dict[Preset, Normalisation] = {
    "imagenet": Normalisation(SCALE, "0.485,0.456,0.406", "0.229,0.224,0.225"),  # torchvision, timm
    "clip": Normalisation(SCALE, "0.48145466,0.4578275,0.40821073", "0.26862954,0.26130258,0.27577711"),
    "caffe": Normalisation(1.0, "103.939,116.779,123.68", "1", bgr=True),  # keras.applications too
    "minus-one-to-one": Normalisation(SCALE, "0.5", "0.5"),
}
"""Means and deviations in the order of the model's channels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Options for embedders that csd did not export; x = (pixel * scale - mean) / std."""

    output: str | None = None
    """Name of the output that holds the vectors, where there are several or it looks like something else."""
    image_size: int | None = None
    """Height and width of the input in pixels, where the file leaves them open."""
    layout: Layout | None = None
    """Order of the input's axes, where the shape in the file does not tell."""
    resize: ResizeRule | None = None
    """How an image that is not square becomes square; squash unless given."""
    crop_share: float | None = None
    """What --resize crop keeps of the shorter side; 1 unless given, 0.875 for 224 of 256 pixels."""
    shorter_side: int | None = None
    """Resize the shorter side to so many pixels, then crop the middle, as torchvision does; 256 for 224 pixels."""
    resampling: Resampling | None = None
    """Filter of resizing: Pillow's bicubic (unless given), bilinear, area or nearest, or OpenCV's bilinear, which does
    not widen when it reduces."""
    background: str | None = None
    """What lies behind transparent pixels and around a padded image: white, grey, checker or #rrggbb; black unless
    given."""
    preset: Preset | None = None
    """Usual --scale, --mean, --std and --bgr of a family of models."""
    bgr: bool | None = None
    """The model takes blue, green, red; --mean and --std are in that order."""
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

    def as_options(self) -> tuple[str, ...]:
        """Return the options that were given with their values, as on the command line."""
        values = [getattr(self, name.removeprefix("--").replace("-", "_")) for name in self.given]
        return tuple(
            name if value is True else f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in zip(self.given, values, strict=True)
        )

    @property
    def of_pixels(self) -> tuple[str, ...]:
        """Those of them that change what a pixel becomes."""
        return tuple(name for name in self.given if name in ("--preset", "--scale", "--mean", "--std"))

    @property
    def is_bgr(self) -> bool:
        """Whether the channels are turned round.

        Raises:
            ParamsError: if a preset says otherwise.
        """
        if self.preset is None:
            return bool(self.bgr)
        if self.bgr is not None:
            raise ParamsError(f"--bgr: --preset {self.preset} says that already; leave it out")
        return PRESETS[self.preset].bgr

    def form(self, size: int, channels: int) -> ImageForm:
        """Return the form of images of this size.

        Raises:
            ParamsError: if the options make none.
        """
        if self.crop_share is not None and self.resize != "crop":
            raise ParamsError(f"--crop-share {self.crop_share}: counts with --resize crop alone; add that")
        if self.shorter_side is not None and (self.resize not in (None, "crop") or self.crop_share is not None):
            raise ParamsError("--shorter-side: crops the middle; leave --resize and --crop-share out")
        try:
            return ImageForm(
                size=size,
                channels=channels,
                resize=self.resize or ("squash" if self.shorter_side is None else "crop"),
                shorter_side=self.shorter_side,
                resampling=self.resampling or "bicubic",
                crop_share=1.0 if self.crop_share is None else self.crop_share,
                background=self.background or "black",
            )
        except ValidationError as error:
            mistake = error.errors()[0]
            reason = mistake["msg"].removeprefix("Value error, ")
            name = str(mistake["loc"][0]) if mistake["loc"] else reason.partition(" ")[0]  # the one of several
            given = f"{getattr(self, name)}: "
            reason = reason.removeprefix(f"{name} ").removeprefix(given)
            raise ParamsError(f"--{name.replace('_', '-')} {given}{reason}") from None

    def factor_and_offset(self, channels: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return (channels,) each: x = pixel * factor + offset.

        Raises:
            ParamsError: if mean or std are not one number or one for each channel, or std is not positive.
        """
        if self.preset is not None:
            if len(self.of_pixels) > 1:
                raise ParamsError(
                    f"--preset {self.preset}: says what {', '.join(self.of_pixels[1:])} would; give one of them"
                )
            usual = PRESETS[self.preset]
            return replace(self, preset=None, scale=usual.scale, mean=usual.mean, std=usual.std).factor_and_offset(
                channels
            )
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
