import numpy as np
import pytest
from PIL import Image

from csd_core.data.grouping.equal_images import Pair, equal_by_background, losses, told
from csd_core.records.stages import ImageForm

FORM = ImageForm(size=16, channels=3, resize="pad")


def icon(path, number, colour):
    """A disc of one colour on transparent, each number of another size."""
    path.parent.mkdir(exist_ok=True)
    down, across = np.indices((64, 64)) - 32
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[..., :3] = colour
    pixels[..., 3] = 255 * (np.hypot(down, across) < 8 + 4 * number)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def icons(tmp_path):
    """Five black icons, two white ones, a copy, a photo and a file that is none."""
    for number in range(5):
        icon(tmp_path / "icons" / f"black-{number}.png", number, 0)
    for number in range(2):
        icon(tmp_path / "icons" / f"white-{number}.png", number, 255)
    (tmp_path / "icons" / "copy.png").write_bytes((tmp_path / "icons" / "black-0.png").read_bytes())
    Image.new("RGB", (20, 20), "red").save(tmp_path / "icons" / "photo.jpg")
    (tmp_path / "icons" / "broken.png").write_bytes(b"no image")
    return tmp_path / "icons"


def test_images_that_become_equal_are_counted_on_each_background(icons):
    assert equal_by_background(sorted(icons.iterdir()), FORM) == {"black": 4, "white": 1, "grey": 0, "checker": 0}


def test_opaque_images_are_equal_everywhere_or_nowhere(tmp_path):
    for number, colour in enumerate(("red", "red", "blue")):
        Image.new("RGB", (20 + number, 20 + number), colour).save(tmp_path / f"{number}.png")
        Image.new("RGB", (20 + number, 20 + number), colour).save(tmp_path / f"{number}.jpg")
    counts = equal_by_background(sorted(tmp_path.iterdir()), FORM)
    assert len(set(counts.values())) == 1
    assert counts["black"] >= 2


def test_what_the_background_made_equal_is_told_with_the_best_one(icons):
    pairs = [Pair(f"black-{number}.png", "black-0.png") for number in range(1, 5)]
    (lost,) = losses(icons, [*pairs, Pair("copy.png", "black-0.png")], FORM)
    assert (lost.trait, lost.pairs) == ("background", tuple(pairs))
    assert lost.remedy == "grey"  # white shows these too, but would hide white ones
    assert told(lost, FORM) == (
        "4 images left out though their files show something else, such as black-1.png, which equals black-0.png: "
        f"transparency lies on black, and there they are equal; write images.background: {lost.remedy}"
    )


def test_what_the_size_made_equal_is_told(tmp_path):
    for name, place in (("a.png", 0), ("b.png", 1)):
        Image.fromarray(((np.indices((64, 64)).sum(0) + place) % 2 * 100).astype(np.uint8)).save(tmp_path / name)
    form = ImageForm(size=8, channels=1, resize="squash")
    (lost,) = losses(tmp_path, [Pair("b.png", "a.png")], form)
    assert (lost.trait, lost.remedy) == ("size", None)
    assert told(lost, form) == (
        "1 image left out though their files show something else, such as b.png, which equals a.png: at 8 x 8 x 1 "
        "pixels they are equal; if they should be told apart, raise images.pixels, or images.channels: 3 if they "
        "differ in colour"
    )


def test_colours_that_grey_makes_equal_are_told(tmp_path):
    Image.new("RGB", (8, 8), (76, 76, 76)).save(tmp_path / "a.png")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "b.png")
    (lost,) = losses(tmp_path, [Pair("b.png", "a.png")], ImageForm(size=8, channels=1, resize="squash"))
    assert lost.trait == "size"


def test_a_picture_that_was_saved_again_or_is_gone_is_no_loss(tmp_path):
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8))
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "b.png", compress_level=1)
    assert losses(tmp_path, [Pair("b.png", "a.png"), Pair("gone.png", "a.png")], FORM) == []
