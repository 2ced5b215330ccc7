"""RandAugment (Cubuk et al., 2020) and TrivialAugment (Müller & Hutter, 2021), drawn per image, applied by operation.

Operations, ranges and 31 strengths are those of torchvision's RandAugment (two operations of strength 9) and
TrivialAugmentWide (one operation of any strength). The five that move pixels are one warp, the three of colour one
matrix, so that a batch is touched a few times however many operations it holds.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from csd_core.learning.augmentation.colour import Colours, recolour, sharpen
from csd_core.learning.augmentation.geometry import warp

Policy = Literal["rand-augment", "trivial-augment"]

OPERATIONS = (
    "identity",
    "shear-x",
    "shear-y",
    "translate-x",
    "translate-y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "autocontrast",
    "equalize",
)
_STRENGTHS = 31
_ROUNDS = {"rand-augment": 2, "trivial-augment": 1}
_STRENGTH = 9
"""Of RandAugment."""
_GEOMETRIC = OPERATIONS[1:6]
_COLOURED = OPERATIONS[6:9]


class _Ranges(NamedTuple):
    """The strongest change of each kind."""

    shear: float
    """As a factor of the other coordinate."""
    translate: Callable[[int], float]
    """Pixels, of an image's size."""
    rotate: float
    """Degrees."""
    colour: float
    """Distance of a factor from 1."""
    bits: int
    """That posterising takes away."""


_RANGES = {
    "rand-augment": _Ranges(0.3, lambda size: 150 / 331 * size, 30.0, 0.9, 4),
    "trivial-augment": _Ranges(0.99, lambda size: min(32.0, size), 135.0, 0.99, 6),
}


class Draws(NamedTuple):
    """What is done to each image, round by round.

    Attributes:
        operations: (rounds, N) int64, positions in OPERATIONS.
        strengths: (rounds, N) float32 between -1 and 1; the sign counts where an operation has one.
    """

    operations: Tensor
    strengths: Tensor

    def at(self, rows: slice) -> "Draws":
        """Return those of some images."""
        return Draws(self.operations[:, rows], self.strengths[:, rows])


def draw_policy(count: int, policy: Policy, *, generator: torch.Generator) -> Draws:
    """Draw for N images.

    Args:
        count: N.
        policy: Which.
        generator: On the CPU.
    """
    shape = (_ROUNDS[policy], count)
    operations = torch.randint(len(OPERATIONS), shape, generator=generator)
    if policy == "rand-augment":
        steps = torch.full(shape, _STRENGTH)
    else:
        steps = torch.randint(_STRENGTHS, shape, generator=generator)
    signs = 2 * torch.randint(2, shape, generator=generator) - 1
    return Draws(operations, signs * steps / (_STRENGTHS - 1))


def apply_policy(images: Tensor, draws: Draws, policy: Policy) -> Tensor:
    """Change images (N, C, H, W) uint8 as was drawn for them."""
    changed = images.clone()
    for operations, strengths in zip(*draws, strict=True):
        for names, change in _CHANGES:
            wanted = torch.isin(operations, torch.tensor([OPERATIONS.index(name) for name in names]))
            rows = wanted.nonzero().squeeze(1)
            if len(rows):
                here = rows.to(images.device)
                some = change(changed[here], operations[rows], strengths[rows], _RANGES[policy])
                changed[here] = some
    return changed


def _moved(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:
    matrices = torch.eye(2, 3).repeat(len(images), 1, 1)
    height, width = images.shape[2:]
    shear_x, shear_y, right, down, turned = ((operations == OPERATIONS.index(name)).float() for name in _GEOMETRIC)
    matrices[:, 0, 1] = strengths * ranges.shear * shear_x
    matrices[:, 1, 0] = strengths * ranges.shear * shear_y
    matrices[:, 0, 2] = -(strengths * ranges.translate(width)).trunc() * right
    matrices[:, 1, 2] = -(strengths * ranges.translate(height)).trunc() * down
    angle = strengths.double() * math.radians(ranges.rotate)
    turns = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], dim=1).float().view(-1, 2, 2)
    matrices[:, :, :2] = torch.where(turned.bool()[:, None, None], turns, matrices[:, :, :2])
    return warp(images, matrices)


def _coloured(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:
    brightness, saturation, contrast = (
        torch.where(operations == OPERATIONS.index(name), 1 + strengths * ranges.colour, 1.0) for name in _COLOURED
    )
    return recolour(images, Colours(brightness, contrast, saturation, hue=torch.zeros(len(images))))


def _sharpened(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:  # noqa: ARG001
    return sharpen(images, 1 + strengths * ranges.colour)


def _posterized(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:  # noqa: ARG001
    kept = 8 - (strengths.abs() * ranges.bits).round().int()
    return images & (256 - 2 ** (8 - kept)).to(torch.uint8).to(images.device)[:, None, None, None]


def _solarized(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:  # noqa: ARG001
    threshold = (255 * (1 - strengths.abs())).to(images.device)[:, None, None, None]
    return torch.where(images >= threshold, 255 - images, images)


def _stretched(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:  # noqa: ARG001
    from torchvision.transforms.v2.functional import autocontrast_image  # noqa: PLC0415 - takes seconds to load

    stretched: Tensor = autocontrast_image(images)
    return stretched


def _equalized(images: Tensor, operations: Tensor, strengths: Tensor, ranges: _Ranges) -> Tensor:  # noqa: ARG001
    from torchvision.transforms.v2.functional import equalize_image  # noqa: PLC0415 - takes seconds to load

    equalized: Tensor = equalize_image(images)
    return equalized


_CHANGES = (
    (_GEOMETRIC, _moved),
    (_COLOURED, _coloured),
    (("sharpness",), _sharpened),
    (("posterize",), _posterized),
    (("solarize",), _solarized),
    (("autocontrast",), _stretched),
    (("equalize",), _equalized),
)
"""Operations that are applied together, and how."""
