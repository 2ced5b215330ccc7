"""Crops, warps and erased boxes of whole batches, each image by its own parameters.

Images are (N, C, H, W) uint8, in any layout of memory. Every step is one rounded operation per pixel, so that an image
becomes the same whatever else is in its batch.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

_ATTEMPTS = 10
"""Boxes drawn for each image, of which the first that fits is taken, as torchvision's RandomResizedCrop does."""


class Boxes(NamedTuple):
    """A box of each image, as shares of its height and width, float32.

    Attributes:
        top: (N,).
        left: (N,).
        height: (N,).
        width: (N,).
    """

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor

    def at(self, rows: slice | Tensor) -> "Boxes":
        """Return some of them."""
        return Boxes(*(each[rows] for each in self))

    def to(self, device: torch.device) -> "Boxes":
        """Return them on a device."""
        return Boxes(*(each.to(device) for each in self))


def draw_boxes(
    count: int, *, scale: tuple[float, float], ratio: tuple[float, float], generator: torch.Generator
) -> Boxes:
    """Draw boxes of uniform area, with the logarithm of width / height uniform, anywhere in the image.

    Args:
        count: N.
        scale: Smallest and largest area, as shares of the image.
        ratio: Smallest and largest width / height.
        generator: On the CPU.
    """
    area = uniform((count, _ATTEMPTS), *scale, generator=generator)
    shape = uniform((count, _ATTEMPTS), math.log(ratio[0]), math.log(ratio[1]), generator=generator).exp()
    width, height = (area * shape).sqrt(), (area / shape).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.int().argmax(dim=1, keepdim=True)  # 0 where none fits: that one is cut to the image
    width, height = (each.gather(1, first).squeeze(1).clamp(max=1) for each in (width, height))
    place = torch.rand((2, count), generator=generator)
    return Boxes(place[0] * (1 - height), place[1] * (1 - width), height, width)


def uniform(shape: tuple[int, ...], low: float, high: float, *, generator: torch.Generator) -> Tensor:
    """Return float32 between `low` and `high`."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def resized_crop(images: Tensor, boxes: Boxes) -> Tensor:
    """Cut a box out of each image and enlarge it to the image's size (bilinear).

    Args:
        images: (N, C, H, W) uint8.
        boxes: N.
    """
    across, down = _pixel_grid(images)
    box = boxes.to(images.device)
    columns = (2 * box.left + box.width - 1)[:, None] + box.width[:, None] * across  # (N, W), -1 to 1
    rows = (2 * box.top + box.height - 1)[:, None] + box.height[:, None] * down  # (N, H)
    shape = (len(images), len(down), len(across))
    grid = torch.stack([columns[:, None].expand(shape), rows[:, :, None].expand(shape)], dim=3)
    return _sampled(images, grid, mode="bilinear", beyond="border")


def warp(images: Tensor, matrices: Tensor) -> Tensor:
    """Move each image's pixels by an affine map; nearest pixel, black beyond the image.

    Args:
        images: (N, C, H, W) uint8.
        matrices: (N, 2, 3) float32, from a place in the result to its place in the image, in pixels from the centre.
    """
    height, width = images.shape[2:]
    across, down = _pixel_grid(images)
    x, y = across * (width / 2), down[:, None] * (height / 2)  # (W,), (H, 1)
    move = matrices.to(images.device)[..., None, None]  # (N, 2, 3, 1, 1)
    places = [move[:, row, 0] * x + move[:, row, 1] * y + move[:, row, 2] for row in (0, 1)]  # (N, H, W)
    grid = torch.stack([places[0] * (2 / width), places[1] * (2 / height)], dim=3)
    return _sampled(images, grid, mode="nearest", beyond="zeros")


def erase(images: Tensor, boxes: Boxes) -> Tensor:
    """Fill a box of each image with the image's mean colour.

    Args:
        images: (N, C, H, W) uint8.
        boxes: N.
    """
    height, width = images.shape[2:]
    box = boxes.to(images.device)
    inside = []
    for start, length, size in ((box.top, box.height, height), (box.left, box.width, width)):
        first = (start * size).round()[:, None]
        pixels = torch.arange(size, device=images.device)
        inside.append((pixels >= first) & (pixels < first + (length * size).round()[:, None]))
    covered = (inside[0][:, :, None] & inside[1][:, None, :])[:, None]  # (N, 1, H, W)
    return torch.where(covered, channel_means(images).round().to(torch.uint8)[:, :, None, None], images)


def channel_means(images: Tensor) -> Tensor:
    """Return (N, C) float64 means of (N, C, H, W) uint8; sums of whole numbers are exact here, so have no order."""
    return images.float().sum(dim=3).double().sum(dim=2) / (images.shape[2] * images.shape[3])


def as_bytes(pixels: Tensor) -> Tensor:
    """Return uint8, rounded and cut to 0 to 255; `pixels` is changed."""
    return pixels.round_().clamp_(0, 255).to(torch.int16).to(torch.uint8)  # by int16 is four times as fast


def _pixel_grid(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the centres of columns (W,) and rows (H,) between -1 and 1, the image's edges."""
    across, down = (
        (2 * torch.arange(size, device=images.device, dtype=torch.float32) + 1) / size - 1
        for size in (images.shape[3], images.shape[2])
    )
    return across, down


def _sampled(
    images: Tensor, grid: Tensor, *, mode: Literal["bilinear", "nearest"], beyond: Literal["border", "zeros"]
) -> Tensor:
    return as_bytes(F.grid_sample(images.float(), grid, mode=mode, padding_mode=beyond, align_corners=False))
