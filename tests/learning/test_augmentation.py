import numpy as np
import pytest
import torch
from augmentations import DRAWN, PLAIN
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.ndimage import map_coordinates

from csd_core.learning.augmentation.augment import augment, crop_and_flip
from csd_core.learning.augmentation.geometry import draw_boxes, erase, resized_crop
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Augmentation


def asked(**knobs):
    return Augmentation.model_validate(PLAIN | knobs)


def some_images(count=6, size=12, channels=3):
    return torch.randint(256, (count, size, size, channels), dtype=torch.uint8, generator=keyed_generator("images"))


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
    drawn = augment(images, asked(crop_padding=1, flip=True), generator=torch.Generator().manual_seed(1))
    assert len(torch.unique(drawn, dim=0)) == 3 * 3 * 2


def test_no_augmentation_leaves_images_as_they_are():
    images = torch.randint(256, (4, 5, 5, 3), dtype=torch.uint8)
    assert torch.equal(augment(images, asked(), generator=torch.Generator()), images)


def test_without_flip_no_image_is_mirrored():
    images = torch.arange(1, 26, dtype=torch.uint8).view(1, 5, 5, 1).repeat(100, 1, 1, 1)
    drawn = augment(images, asked(crop_padding=1), generator=torch.Generator().manual_seed(1))
    across = drawn[:, 2].squeeze(-1).int()
    inside = across[:, :-1] * across[:, 1:] != 0
    assert ((across[:, 1:] > across[:, :-1]) | ~inside).all()


def test_equal_generators_draw_equal_images():
    images = torch.randint(256, (16, 8, 8, 1), dtype=torch.uint8)
    augmentation = asked(crop_padding=2, flip=True)
    first, second = (augment(images, augmentation, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(first, second)


@settings(deadline=None, max_examples=40)
@given(
    knobs=st.fixed_dictionaries({}, optional={name: st.just(value) for name, value in DRAWN.items()}),
    policy=st.sampled_from(["none", "rand-augment", "trivial-augment"]),
    channels=st.sampled_from([1, 3]),
    cut=st.integers(1, 10),
    seed=st.integers(0, 99),
)
def test_however_a_batch_is_shared_each_image_becomes_the_same(knobs, policy, channels, cut, seed):
    images, augmentation = some_images(11, 9, channels), asked(**knobs | {"policy": policy})
    before = images.clone()
    generator = keyed_generator(seed)
    whole = augment(images, augmentation, generator=generator)
    after = generator.get_state()
    for share in (slice(0, cut), slice(cut, 11)):
        generator = keyed_generator(seed)
        part = augment(images[share], augmentation, generator=generator, batch=11, share=share)
        assert torch.equal(part, whole[share])
        assert torch.equal(generator.get_state(), after)
    assert whole.shape == images.shape
    assert whole.dtype == torch.uint8
    assert torch.equal(images, before)


def test_images_of_any_size_are_changed_a_few_at_a_time_with_the_same_outcome(monkeypatch):
    images, augmentation = some_images(), asked(**DRAWN)
    whole = augment(images, augmentation, generator=keyed_generator(1))
    monkeypatch.setattr("csd_core.learning.augmentation.augment.PIECE", 1)
    assert torch.equal(augment(images, augmentation, generator=keyed_generator(1)), whole)


@pytest.mark.parametrize(("knob", "value"), [*DRAWN.items(), ("policy", "rand-augment")])
def test_each_image_has_its_own_draw(knob, value):
    images = some_images(1, 16).repeat(16, 1, 1, 1)
    drawn = augment(images, asked(**{knob: value}), generator=keyed_generator(3))
    assert len(torch.unique(drawn, dim=0)) > 1
    assert len(torch.unique(drawn, dim=0)) > 6 or knob in ("flip", "erase", "blur")


@pytest.mark.parametrize(("knob", "value"), [*DRAWN.items(), ("policy", "rand-augment")])
def test_with_a_knob_the_others_draw_what_they_drew_before_it(knob, value):
    """What comes later in the order leaves the bytes of crop and flip alone."""
    images = some_images()
    first = augment(images, asked(crop_padding=1, flip=True), generator=keyed_generator(5))
    generator = keyed_generator(5)
    augment(images, asked(crop_padding=1, flip=True), generator=generator)
    if knob not in ("crop_padding", "flip"):
        expected = augment(first, asked(**{knob: value}), generator=generator)
        found = augment(images, asked(**{"crop_padding": 1, "flip": True, knob: value}), generator=keyed_generator(5))
        assert torch.equal(found, expected)


def test_boxes_lie_in_the_image_and_have_the_area_and_shape_that_are_asked_for():
    boxes = draw_boxes(4000, scale=(0.25, 0.5), ratio=(0.5, 2.0), generator=keyed_generator(1))
    area, shape = boxes.height * boxes.width, boxes.width / boxes.height
    for values, low, high in ((area, 0.25, 0.5), (shape, 0.5, 2.0)):
        assert low - 1e-5 < values.min() < low * 1.05
        assert high * 0.95 < values.max() < high + 1e-5
    assert torch.stack([boxes.top, boxes.left]).min() >= 0
    assert torch.stack([boxes.top + boxes.height, boxes.left + boxes.width]).max() <= 1 + 1e-6
    assert abs(boxes.top.mean() + boxes.height.mean() / 2 - 0.5) < 0.02


def test_a_box_that_fits_in_no_attempt_is_cut_to_the_image():
    boxes = draw_boxes(50, scale=(0.9, 1.0), ratio=(9.0, 10.0), generator=keyed_generator(1))
    assert (boxes.width == 1).all()
    assert boxes.height.max() < 0.4


def test_a_resized_crop_is_scipys_bilinear_interpolation():
    images = some_images(10, 16).permute(0, 3, 1, 2)
    boxes = draw_boxes(10, scale=(0.2, 1.0), ratio=(0.75, 1.33), generator=keyed_generator(2))
    centres = (np.arange(16) + 0.5) / 16
    for image, found, *box in zip(images, resized_crop(images, boxes), *boxes, strict=True):
        top, left, height, width = map(float, box)
        places = np.meshgrid(16 * (top + height * centres) - 0.5, 16 * (left + width * centres) - 0.5, indexing="ij")
        for channel in range(3):
            expected = map_coordinates(image[channel].double().numpy(), places, order=1, mode="nearest")
            assert np.abs(found[channel].numpy() - expected).max() < 0.51


def test_the_whole_image_as_a_box_changes_nothing():
    images = some_images().permute(0, 3, 1, 2)
    boxes = draw_boxes(6, scale=(1.0, 1.0), ratio=(1.0, 1.0), generator=keyed_generator(1))
    assert torch.equal(resized_crop(images, boxes), images)


def test_an_erased_box_has_the_images_mean_colour_and_the_rest_stays():
    images = some_images(50, 20).permute(0, 3, 1, 2)
    boxes = draw_boxes(50, scale=(0.1, 0.3), ratio=(0.5, 2.0), generator=keyed_generator(1))
    for image, found, *box in zip(images, erase(images, boxes), *boxes, strict=True):
        top, left, height, width = (round(float(each) * 20) for each in box)
        expected = image.clone()
        expected[:, top : top + height, left : left + width] = image.float().mean((1, 2)).round()[:, None, None]
        assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("knob", "value", "where"),
    [
        ("resized_crop", {"scale": [0.8, 0.5], "ratio": [1.0, 1.0]}, "must ascend"),
        ("resized_crop", {"scale": [0.5, 1.5], "ratio": [1.0, 1.0]}, "end at 1"),
        ("resized_crop", {"scale": [0.5, 1.0], "ratio": [2.0, 1.0]}, "must ascend"),
        ("jitter", {"brightness": 0.1, "contrast": 0.1, "saturation": 0.1, "hue": 0.6}, "less than or equal to 0.5"),
        ("policy", "auto-augment", "trivial-augment"),
        ("blur", 1.5, "less than or equal to 1"),
    ],
)
def test_what_makes_no_sense_is_refused(knob, value, where):
    with pytest.raises(ValidationError, match=where):
        asked(**{knob: value})
