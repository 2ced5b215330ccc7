import pytest
import torch

from csd_core.learning.augmentation import augment, crop_and_flip
from csd_core.params.training import Augmentation


def by_loop(images, corners, flips, padding):
    """The same, one image at a time, as one would read it."""
    changed = []
    for image, (top, left), flip in zip(images, corners.tolist(), flips.tolist(), strict=True):
        height, width, channels = image.shape
        padded = torch.zeros(height + 2 * padding, width + 2 * padding, channels, dtype=image.dtype)
        padded[padding : padding + height, padding : padding + width] = image
        crop = padded[top : top + height, left : left + width]
        changed.append(crop.flip(1) if flip else crop)
    return torch.stack(changed)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("padding", [0, 1, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_is_cropped_and_flipped_as_a_loop_over_images_would(channels, padding, dtype):
    generator = torch.Generator().manual_seed(padding)
    images = torch.randint(1, 256, (40, 7, 9, channels), generator=generator).to(dtype)
    corners = torch.randint(2 * padding + 1, (40, 2), generator=generator)
    flips = torch.randint(2, (40,), generator=generator).bool()
    found = crop_and_flip(images, corners=corners, flips=flips, padding=padding)
    assert found.dtype == dtype
    assert torch.equal(found, by_loop(images, corners, flips, padding))


def test_every_corner_and_both_sides_are_drawn():
    images = torch.arange(1, 26, dtype=torch.uint8).view(1, 5, 5, 1).repeat(2000, 1, 1, 1)
    drawn = augment(images, Augmentation(crop_padding=1, flip=True), generator=torch.Generator().manual_seed(1))
    assert len(torch.unique(drawn, dim=0)) == 3 * 3 * 2


def test_no_augmentation_leaves_images_as_they_are():
    images = torch.randint(256, (4, 5, 5, 3), dtype=torch.uint8)
    assert torch.equal(augment(images, Augmentation(crop_padding=0, flip=False), generator=torch.Generator()), images)


def test_without_flip_no_image_is_mirrored():
    images = torch.arange(1, 26, dtype=torch.uint8).view(1, 5, 5, 1).repeat(100, 1, 1, 1)
    drawn = augment(images, Augmentation(crop_padding=1, flip=False), generator=torch.Generator().manual_seed(1))
    across = drawn[:, 2].squeeze(-1).int()
    inside = across[:, :-1] * across[:, 1:] != 0
    assert ((across[:, 1:] > across[:, :-1]) | ~inside).all()


def test_equal_generators_draw_equal_images():
    images = torch.randint(256, (16, 8, 8, 1), dtype=torch.uint8)
    augmentation = Augmentation(crop_padding=2, flip=True)
    first, second = (augment(images, augmentation, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)
