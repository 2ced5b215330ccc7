"""Colour, blur and sharpness of whole batches, each image by its own strength.

Images are (N, C, H, W) uint8, C 1 or 3. Products and sums are operations of their own, never fused, so that an image
becomes the same whatever else is in its batch.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from csd_core.learning.augmentation.geometry import as_bytes, channel_means, uniform
from csd_core.params.training import Jitter

_LUMA = (0.299, 0.587, 0.114)
"""ITU-R 601, as everywhere in csd."""
_YIQ = torch.tensor([_LUMA, (0.595716, -0.274453, -0.321263), (0.211456, -0.522591, 0.311135)], dtype=torch.float64)


class Colours(NamedTuple):
    """Strengths of each image, float32: 1 and a hue of 0 change nothing.

    Attributes:
        brightness: (N,), factor of each pixel.
        contrast: (N,), factor of the distance to the image's mean luma.
        saturation: (N,), factor of the distance to the pixel's luma.
        hue: (N,), turns of the colours around grey.
    """

    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    hue: Tensor

    def at(self, rows: slice | Tensor) -> "Colours":
        """Return some of them."""
        return Colours(*(each[rows] for each in self))


def draw_colours(count: int, jitter: Jitter, *, generator: torch.Generator) -> Colours:
    """Draw strengths as torchvision's ColorJitter does: factors within 1 +- the parameter, turns within +- hue."""
    brightness, contrast, saturation = (
        uniform((count,), max(0.0, 1 - amount), 1 + amount, generator=generator)
        for amount in (jitter.brightness, jitter.contrast, jitter.saturation)
    )
    hue = uniform((count,), -jitter.hue, jitter.hue, generator=generator)
    return Colours(brightness, contrast, saturation, hue)


def recolour(images: Tensor, colours: Colours) -> Tensor:
    """Apply all four at once, as one matrix and one offset for each image.

    Nothing is clamped between them, and saturation and hue keep a pixel's luma: so all four commute, and no order needs
    to be drawn. Grey images have neither saturation nor hue.

    Args:
        images: (N, C, H, W) uint8.
        colours: N.
    """
    channels = images.shape[1]
    brightness, contrast, saturation, hue = (each.double() for each in colours)
    matrices = torch.ones(1, 1, 1, dtype=torch.float64) if channels == 1 else _chroma(saturation, hue)
    matrices = matrices * (brightness * contrast)[:, None, None]  # (N, C, C)
    luma = torch.tensor([1.0] if channels == 1 else _LUMA, dtype=torch.float64)
    means = (channel_means(images).cpu() * luma).sum(dim=1)  # (N,)
    offsets = (means * brightness * (1 - contrast)).float().to(images.device)
    factors = matrices.float().to(images.device)[..., None, None]  # (N, C, C, 1, 1)
    pixels = images.float()
    recoloured = torch.empty_like(pixels)
    for channel in range(channels):
        total = pixels[:, 0] * factors[:, channel, 0]
        for other in range(1, channels):
            total += pixels[:, other] * factors[:, channel, other]
        recoloured[:, channel] = total.add_(offsets[:, None, None])
    return as_bytes(recoloured)


def _chroma(saturation: Tensor, hue: Tensor) -> Tensor:
    """Return (N, 3, 3) float64: the chroma of a pixel turned and scaled, its luma kept."""
    turn = 2 * math.pi * hue
    inner = torch.zeros(len(hue), 3, 3, dtype=torch.float64)
    inner[:, 0, 0] = 1
    inner[:, 1, 1] = inner[:, 2, 2] = saturation * turn.cos()
    inner[:, 2, 1] = saturation * turn.sin()
    inner[:, 1, 2] = -inner[:, 2, 1]
    return _product(_product(torch.linalg.inv(_YIQ).expand(len(hue), 3, 3), inner), _YIQ.expand(len(hue), 3, 3))


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return the matrix product of (N, 3, 3), by one order of sums however many there are."""
    return sum((left[:, :, k, None] * right[:, k, None, :] for k in range(3)), torch.zeros(()))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur, the image mirrored at its edges.

    Args:
        images: (N, C, H, W) uint8.
        sigma: (N,) float32, standard deviation in pixels.
    """
    radius = min(math.ceil(3 * float(sigma.max())), min(images.shape[2:]) - 1) if len(sigma) else 0
    taps, widths = torch.arange(radius + 1), sigma.double()[:, None]
    weights = (-(taps**2) / (2 * widths**2)).exp() * (taps <= (3 * widths).ceil())  # none beyond an image's own radius
    weights = (weights / (2 * weights.sum(dim=1, keepdim=True) - 1)).float().to(images.device)  # (N, radius + 1)
    blurred = images.float()
    for axis in (2, 3):
        blurred = _blurred_along(blurred, weights, axis)
    return as_bytes(blurred)


def _blurred_along(images: Tensor, weights: Tensor, axis: int) -> Tensor:
    size, radius = images.shape[axis], weights.shape[1] - 1
    places = torch.arange(-radius, size + radius, device=images.device).abs()
    places = torch.where(places >= size, 2 * (size - 1) - places, places)  # mirrored, the edge once
    wide = images.index_select(axis, places)
    total = wide.narrow(axis, radius, size) * weights[:, 0, None, None, None]
    for tap in range(1, radius + 1):
        both = wide.narrow(axis, radius - tap, size) + wide.narrow(axis, radius + tap, size)
        total += both.mul_(weights[:, tap, None, None, None])
    return total


def sharpen(images: Tensor, factor: Tensor) -> Tensor:
    """Blend each image with its smoothed self: 0 is smooth, 1 as it was, 2 sharper; its outermost pixels stay.

    Args:
        images: (N, C, H, W) uint8; as they are if a side is below 3 pixels.
        factor: (N,) float32.
    """
    height, width = images.shape[2:]
    if min(height, width) < 3:  # noqa: PLR2004 - the smoothing takes 3 x 3 pixels
        return images
    pixels = images.float()
    middle = pixels[:, :, 1:-1, 1:-1]
    around = sum(
        (pixels[:, :, top : top + height - 2, left : left + width - 2] for top in range(3) for left in range(3)),
        torch.zeros((), device=images.device),
    )
    smooth = ((around + 4 * middle) / 13).round_()  # the centre counts five times
    share = factor.to(images.device)[:, None, None, None]
    pixels[:, :, 1:-1, 1:-1] = middle * share + smooth * (1 - share)
    return as_bytes(pixels)
