"""Random crop and flip of whole batches by index arithmetic: what changes is drawn per image, computed per batch."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name every torch user knows

from csd_core.params.training import Augmentation


def augment(
    images: Tensor,
    augmentation: Augmentation,
    *,
    generator: torch.Generator,
    batch: int | None = None,
    share: slice = slice(None),
) -> Tensor:
    """Images (N, H, W, C) of any type, each cropped to its size from a zero-padded border and mirrored at random.

    Args:
        images: Left as they are.
        augmentation: Padding in pixels, and whether to flip.
        generator: On the CPU, so that every device draws the same.
        batch: Size of the batch that `images` are a share of; None if they are all of it.
        share: Which of the batch they are; it is drawn for whole, so that how it is shared changes nothing.
    """
    count, padding = len(images) if batch is None else batch, augmentation.crop_padding
    if not padding and not augmentation.flip:
        return images
    corners = torch.randint(2 * padding + 1, (count, 2), generator=generator)
    flips = torch.randint(2, (count,), generator=generator).bool() & augmentation.flip
    return crop_and_flip(images, corners=corners[share], flips=flips[share], padding=padding)


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
