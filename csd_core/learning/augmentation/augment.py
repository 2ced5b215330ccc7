"""Random changes of whole batches: what changes is drawn per image, computed per batch."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.learning.augmentation.colour import blur, draw_colours, recolour
from csd_core.learning.augmentation.geometry import draw_boxes, erase, resized_crop, uniform
from csd_core.learning.augmentation.policies import apply_policy, draw_policy
from csd_core.params.training import Augmentation

SIGMA = (0.1, 2.0)
"""Standard deviations of a blur in pixels, as in SimCLR and torchvision."""
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)
"""Share of the image and width / height of an erased box, as in torchvision (Zhong et al., 2020)."""
PIECE = 1 << 18
"""Bytes of images that are changed at a time on a CPU."""


def augment(
    images: Tensor,
    augmentation: Augmentation,
    *,
    generator: torch.Generator,
    batch: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Images (N, H, W, C) uint8, each cropped, mirrored, enlarged, recoloured, blurred and erased at random, as asked.

    Args:
        images: Left as they are. For cropping and mirroring alone they may be of any type.
        augmentation: What to do; the order is that of its keys.
        generator: On the CPU, so that every device draws the same.
        batch: Size of the batch that `images` are a share of; None if they are all of it.
        share: Which of the batch they are; it is drawn for whole, so that how it is shared changes nothing.
    """
    count, padding = len(images) if batch is None else batch, augmentation.crop_padding
    if padding or augmentation.flip:
        corners = torch.randint(2 * padding + 1, (count, 2), generator=generator)
        flips = torch.randint(2, (count,), generator=generator).bool() & augmentation.flip
        images = crop_and_flip(images, corners=corners[share], flips=flips[share], padding=padding)
    steps = list(_steps(augmentation, count, generator))
    return _in_pieces(images, steps, start=share.indices(count)[0]) if steps else images


Step = Callable[[Tensor, slice], Tensor]
"""Changes images (n, C, H, W) uint8, of which the slice says which of the batch they are."""


def _steps(augmentation: Augmentation, count: int, generator: torch.Generator) -> Iterator[Step]:
    """Draw what else is asked for, for a batch of so many images; what is not asked for draws nothing."""
    crop, jitter, policy = augmentation.resized_crop, augmentation.jitter, augmentation.policy
    if crop:
        parts = draw_boxes(count, scale=crop.scale, ratio=crop.ratio, generator=generator)
        yield lambda images, rows: resized_crop(images, parts.at(rows))
    if jitter:
        colours = draw_colours(count, jitter, generator=generator)
        yield lambda images, rows: recolour(images, colours.at(rows))
    if policy != "none":
        draws = draw_policy(count, policy, generator=generator)
        yield lambda images, rows: apply_policy(images, draws.at(rows), policy)
    if augmentation.blur:
        blurred = torch.rand(count, generator=generator) < augmentation.blur
        sigma = uniform((count,), *SIGMA, generator=generator)
        yield lambda images, rows: _some(images, blurred[rows], lambda some: blur(some, sigma[rows][blurred[rows]]))
    if augmentation.erase:
        erased = torch.rand(count, generator=generator) < augmentation.erase
        holes = draw_boxes(count, scale=ERASED_AREA, ratio=ERASED_RATIO, generator=generator)
        yield lambda images, rows: _some(
            images, erased[rows], lambda some: erase(some, holes.at(rows).at(erased[rows]))
        )


def _in_pieces(images: Tensor, steps: list[Step], *, start: int) -> Tensor:
    """Change images (N, H, W, C), those of the batch from `start` on, a few at a time: so caches hold them."""
    changed = torch.empty_like(images)
    on_cpu = images.device.type == "cpu"
    length = max(1, PIECE // images[0].numel()) if on_cpu and len(images) else max(1, len(images))
    for first in range(0, len(images), length):
        piece = images[first : first + length].permute(0, 3, 1, 2).contiguous()
        for step in steps:
            piece = step(piece, slice(start + first, start + first + len(piece)))
        changed[first : first + length] = piece.permute(0, 2, 3, 1)
    return changed


def _some(images: Tensor, chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return the images, those `chosen` (N,) bool changed."""
    rows = chosen.nonzero().squeeze(1).to(images.device)
    return images.index_copy(0, rows, change(images[rows])) if len(rows) else images


def crop_and_flip(images: Tensor, *, corners: Tensor, flips: Tensor, padding: int) -> Tensor:
    """Cut each image from its padded self, then mirror some.

    Args:
        images: (N, H, W, C).
        corners: (N, 2) int64, top left of each crop in the padded image, 0 to 2 * padding.
        flips: (N,) bool, which to mirror left to right.
        padding: Zero pixels added on each side.
    """
    count, height, width, channels = images.shape
    corners, flips = corners.to(images.device), flips.to(images.device)
    padded = F.pad(images, (0, 0, padding, padding, padding, padding))
    across = torch.arange(width, device=images.device)
    across = torch.where(flips[:, None], width - 1 - across, across)  # (N, W)
    columns = corners[:, 1:] + across
    rows = corners[:, :1] + torch.arange(height, device=images.device)  # (N, H)
    rows = (
        rows + torch.arange(count, device=images.device)[:, None] * padded.shape[1]
    )  # in the images one below another
    pixels = (rows[:, :, None] * padded.shape[2] + columns[:, None, :]).reshape(-1)  # (N * H * W,)
    return padded.reshape(-1, channels).index_select(0, pixels).view(images.shape)
