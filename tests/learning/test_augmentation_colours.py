"""Colours and policies against torchvision's operations on one image at a time, which truncate where these round."""

import colorsys

import pytest
import torch
from torchvision.transforms.v2 import functional as reference

from csd_core.learning.augmentation.colour import Colours, blur, draw_colours, recolour, sharpen
from csd_core.learning.augmentation.geometry import warp
from csd_core.learning.augmentation.policies import OPERATIONS, Draws, apply_policy, draw_policy
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Jitter

COUNT = 8


def pictures(channels=3, size=24):
    """Smooth images, of which no colour is at an end."""
    coarse = torch.randint(60, 196, (COUNT, channels, 4, 4), generator=keyed_generator("pictures")).float()
    fine = torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")
    return fine.round().to(torch.uint8)


def of(**some):
    plain = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
    return Colours(**{name: torch.full((COUNT,), value) for name, value in (plain | some).items()})


def distance(found, expected):
    return (found.int() - expected.int()).abs().max().item()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("factor", [0.3, 0.9, 1.2])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_each_strength_is_torchvisions(name, factor, channels):
    images = pictures(channels)
    found = recolour(images, of(**{name: factor}))
    expected = getattr(reference, f"adjust_{name}_image")(images, factor)
    assert distance(found, expected) <= 2


def test_strengths_of_one_change_nothing():
    images = pictures()
    assert torch.equal(recolour(images, of()), images)


def test_a_turn_moves_the_hue_and_keeps_the_luma():
    images = pictures()
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    turned = recolour(images, of(hue=1 / 3))
    assert ((turned * luma).sum(1) - (images * luma).sum(1)).abs().max() < 1.5
    red = torch.tensor([180, 90, 90], dtype=torch.uint8).view(1, 3, 1, 1).repeat(COUNT, 1, 4, 4)
    hues = [colorsys.rgb_to_hsv(*recolour(red, of(hue=turn))[0, :, 0, 0].tolist())[0] for turn in (0.1, 0.3, 0.5)]
    assert hues == sorted(hues) or hues == sorted(hues, reverse=True)
    assert max(hues) - min(hues) > 0.2
    assert distance(recolour(turned, of(hue=-1 / 3)), images) <= 3


def test_grey_images_have_neither_saturation_nor_hue():
    images = pictures(1)
    assert torch.equal(recolour(images, of(saturation=0.2, hue=0.4)), images)


def test_colours_are_drawn_within_their_bounds():
    jitter = Jitter(brightness=0.4, contrast=2.0, saturation=0.0, hue=0.1)
    drawn = draw_colours(3000, jitter, generator=keyed_generator(1))
    for values, low, high in zip(drawn, (0.6, 0.0, 1.0, -0.1), (1.4, 3.0, 1.0, 0.1), strict=True):
        assert low - 1e-6 <= values.min() <= low + 0.01
        assert high - 0.01 <= values.max() <= high + 1e-6


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
def test_a_blur_is_torchvisions(sigma):
    images = pictures()
    expected = reference.gaussian_blur_image(images, [13, 13], [sigma, sigma])
    assert distance(blur(images, torch.full((COUNT,), sigma)), expected) <= 1


def test_each_image_is_blurred_by_its_own_width_whatever_the_others_have():
    images, sigma = pictures(), torch.linspace(0.1, 2.0, COUNT)
    together = blur(images, sigma)
    for row in range(COUNT):
        assert torch.equal(together[row : row + 1], blur(images[row : row + 1], sigma[row : row + 1]))


@pytest.mark.parametrize("factor", [0.1, 1.0, 1.9])
def test_sharpness_is_torchvisions(factor):
    images = pictures()
    found = sharpen(images, torch.full((COUNT,), factor))
    assert distance(found, reference.adjust_sharpness_image(images, factor)) <= 1
    assert sharpen(images[..., :2, :2], torch.ones(COUNT)).shape == (COUNT, 3, 2, 2)


RAND = {
    "shear-x": lambda image, share: reference.affine_image(image, 0, [0, 0], 1, [angle(0.3 * share), 0]),
    "shear-y": lambda image, share: reference.affine_image(image, 0, [0, 0], 1, [0, angle(0.3 * share)]),
    "translate-x": lambda image, share: reference.affine_image(image, 0, [int(share * 24 * 150 / 331), 0], 1, [0, 0]),
    "translate-y": lambda image, share: reference.affine_image(image, 0, [0, int(share * 24 * 150 / 331)], 1, [0, 0]),
    "rotate": lambda image, share: reference.rotate_image(image, 30 * share),
    "brightness": lambda image, share: reference.adjust_brightness_image(image, 1 + 0.9 * share),
    "saturation": lambda image, share: reference.adjust_saturation_image(image, 1 + 0.9 * share),
    "contrast": lambda image, share: reference.adjust_contrast_image(image, 1 + 0.9 * share),
    "sharpness": lambda image, share: reference.adjust_sharpness_image(image, 1 + 0.9 * share),
    "posterize": lambda image, share: reference.posterize_image(image, round(8 - abs(share) * 4)),
    "solarize": lambda image, share: reference.solarize_image(image, 255 * (1 - abs(share))),
    "autocontrast": lambda image, share: reference.autocontrast_image(image),  # noqa: ARG005
    "equalize": lambda image, share: reference.equalize_image(image),  # noqa: ARG005
    "identity": lambda image, share: image,  # noqa: ARG005
}


def angle(tangent):
    return torch.tensor(tangent).atan().rad2deg().item()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [-0.3, 0.3, 0.6])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_operation_of_randaugment_is_torchvisions(name, share, channels):
    images = pictures(channels)
    draws = Draws(torch.full((1, COUNT), OPERATIONS.index(name)), torch.full((1, COUNT), share))
    found, expected = apply_policy(images, draws, "rand-augment"), RAND[name](images, share)
    different = (found.int() - expected.int()).abs() > 2
    assert different.float().mean() < 0.02  # a place between two pixels may fall to either


def test_a_warp_by_whole_pixels_is_exact_and_black_beyond_the_image():
    images = pictures()
    matrices = torch.eye(2, 3).repeat(COUNT, 1, 1)
    assert torch.equal(warp(images, matrices), images)
    matrices[:, 0, 2] = 5
    moved = warp(images, matrices)
    assert torch.equal(moved[..., :-5], images[..., 5:])
    assert moved[..., -5:].max() == 0


@pytest.mark.parametrize(("policy", "rounds"), [("rand-augment", 2), ("trivial-augment", 1)])
def test_every_operation_is_drawn_alike_and_every_strength_of_trivialaugment(policy, rounds):
    draws = draw_policy(14000, policy, generator=keyed_generator(1))
    counts = torch.bincount(draws.operations.flatten(), minlength=len(OPERATIONS))
    assert draws.operations.shape == (rounds, 14000)
    assert (counts / (1000 * rounds) - 1).abs().max() < 0.15
    strengths = torch.unique(draws.strengths)
    assert len(strengths) == (61 if policy == "trivial-augment" else 2)
    assert strengths.abs().max().item() == pytest.approx(1.0 if policy == "trivial-augment" else 0.3)
