import hashlib
import re
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageFont

from csd_core.data.canonical import load_source
from csd_core.data.shards import cut_shard
from csd_core.data.sources import glyphs
from csd_core.data.sources.glyph_fonts import TEST_FAMILIES, TRAIN_FAMILIES, Face, Family, find_fonts, packages
from csd_core.data.sources.glyphs import CHARACTERS, Jitter, class_name, open_glyphs
from csd_core.data.sources.registry import open_source
from csd_core.params.file import load_params, profile_text
from csd_core.records.stages import ImageForm
from csd_core.stages import ingest
from csd_core.system.errors import DataError
from csd_core.workspace import Workspace

ROOT = Path(__file__).parents[3]
FAMILIES = (*TRAIN_FAMILIES, *TEST_FAMILIES)
SMALL = ImageForm(size=16, channels=3, resize="squash")
STILL = Jitter(rotation=0, shift=0, scale=0)
LIVELY = Jitter(rotation=12, shift=0.06, scale=0.15)
LATIN = Family("latin", "Latin.ttf", "fonts-latin", "0" * 16)


def missing_fonts():
    try:
        find_fonts(FAMILIES)
    except DataError as error:
        return str(error)
    return ""


needs_fonts = pytest.mark.skipif(bool(missing_fonts()), reason=missing_fonts())


def read(*, seed=1, limit=2, jitter=LIVELY, form=SMALL):
    """A part of the set: its images by path."""
    source = open_glyphs(seed=seed, images_per_family=4, jitter=jitter, limit_per_class=limit)
    images = {}
    for batch in source.batches(form):
        images |= dict(zip(batch.paths, batch.images, strict=True))
    assert len(images) == len(source)
    return images


@pytest.fixture
def latin(tmp_path):
    """A folder with a font that has Latin letters only: the one that Pillow carries."""
    folder = tmp_path / "fonts"
    (folder / "truetype").mkdir(parents=True)
    (folder / "truetype" / "Latin.ttf").write_bytes(ImageFont.load_default(20).font_bytes)
    return folder


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    """The profiles of glyphs as params."""
    found = []
    for name in ("glyphs-2", "glyphs-5", "glyphs-10"):
        path = tmp_path_factory.mktemp(name) / "params.yaml"
        path.write_text(profile_text(ROOT / "csd_core/project/profiles", name), encoding="utf-8")
        found.append(load_params(path))
    return found


def test_the_profiles_learn_the_same_hundred_classes_in_the_same_order(profiles):
    lines = [[label for task in params.tasks.values() for label in task.classes] for params in profiles]
    assert lines[0] == lines[1] == lines[2]
    assert sorted(lines[0]) == sorted(map(class_name, CHARACTERS))
    assert len(lines[0]) == 100
    assert [[len(task.classes) for task in params.tasks.values()] for params in profiles] == [
        [50] * 2,
        [20] * 5,
        [10] * 10,
    ]


def test_class_names_are_unique_plain_and_safe_as_a_file():
    names = [class_name(character) for character in CHARACTERS]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", name) for name in names)
    assert class_name("λ") == "greek-small-lamda"
    assert class_name("Ж") == "cyrillic-capital-zhe"
    assert class_name("#") == "number-sign"


def test_families_are_listed_once_by_name_and_a_fifth_of_them_are_for_the_test():
    for listed in (TRAIN_FAMILIES, TEST_FAMILIES):
        names = [family.name for family in listed]
        assert names == sorted(names)
    assert len({family.name for family in FAMILIES}) == len({family.file for family in FAMILIES}) == len(FAMILIES)
    assert 0.2 <= len(TEST_FAMILIES) / len(FAMILIES) <= 0.25


def test_continuous_integration_installs_every_package():
    listed = re.search(r"fonts=\(([^)]*)\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"))
    assert listed.group(1).split() == packages(FAMILIES)


def test_missing_families_are_one_line_with_their_files_and_packages(latin):
    others = [Family(name, f"{name}.ttf", "fonts-two" if name > "b" else "fonts-one", "0") for name in "abcd"]
    with pytest.raises(DataError) as caught:
        find_fonts([LATIN, *others], [latin, latin / "nowhere"])
    assert str(caught.value) == (
        "glyphs: 4 of 5 font families are missing: a (a.ttf), b (b.ttf), c (c.ttf) and 1 more; on Debian or Ubuntu "
        "`apt-get install --no-install-recommends fonts-one fonts-two`, elsewhere put the files into your fonts folder"
    )
    with pytest.raises(DataError, match=r"1 of 1 font families are missing: a \(a.ttf\); on Debian"):
        find_fonts(others[:1], [latin])


def test_of_fonts_with_one_file_name_the_pinned_one_is_taken_wherever_it_lies(tmp_path):
    for folder, content in (("a", b"another"), ("b/deep", b"pinned"), ("c", b"a third")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "Font.ttf").write_bytes(content)
    family = Family("font", "Font.ttf", "fonts-font", hashlib.sha256(b"pinned").hexdigest()[:16])
    folders = [tmp_path / "a", tmp_path / "b", tmp_path / "c"]
    (found,) = find_fonts([family], folders)
    assert (found.path, found.pinned) == (tmp_path / "b" / "deep" / "Font.ttf", True)
    (found,) = find_fonts([family._replace(sha256="0" * 16)], folders)
    assert (found.path, found.pinned) == (tmp_path / "a" / "Font.ttf", False)


def test_a_font_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "Latin.ttf").symlink_to(tmp_path / "gone.ttf")
    with pytest.raises(
        DataError, match=r"Latin.ttf: cannot be read: No such file .*; remove it or install fonts-latin"
    ):
        find_fonts([LATIN], [tmp_path])


def test_a_damaged_font_is_refused(latin):
    (latin / "truetype" / "Latin.ttf").write_bytes(b"no font")
    (font,) = find_fonts([LATIN], [latin])
    with pytest.raises(DataError, match=r"Latin.ttf: is not a font \(.*\); install fonts-latin again"):
        Face(font)


def test_a_character_that_a_font_lacks_never_becomes_an_image(latin):
    (font,) = find_fonts([LATIN], [latin])
    face = Face(font)
    assert face.draw("A").max() == 255
    for lacking in "αЖ ":  # the last one is a blank: there is nothing to draw
        with pytest.raises(DataError, match=rf"Latin.ttf: has no character U\+{ord(lacking):04X}; .*fonts-latin"):
            face.draw(lacking)


def test_a_set_whose_font_lacks_a_character_is_refused_before_any_image(latin):
    with pytest.raises(DataError, match=r"Latin.ttf: has no character U\+03B1"):
        open_glyphs(
            seed=1,
            images_per_family=1,
            jitter=STILL,
            limit_per_class=None,
            train_families=[LATIN],
            test_families=[],
            folders=[latin],
        )


def test_a_glyph_is_drawn_without_a_margin(latin):
    (font,) = find_fonts([LATIN], [latin])
    mask = Face(font).draw("H")
    for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert edge.any()


def bar(height, width):
    return np.full((height, width), 255, np.uint8)


def middle_and_size(coverage):
    """Centre and extent of what is inked, across and down."""
    down, across = np.nonzero(coverage > 127)
    spans = [(axis.min(), axis.max() + 1) for axis in (across, down)]
    return [(low + high) / 2 for low, high in spans], [high - low for low, high in spans]


@pytest.mark.parametrize("shape", [(40, 10), (10, 40), (7, 7), (200, 100)])
def test_without_jitter_every_glyph_lies_in_the_middle_at_one_size(shape):
    (posed,) = glyphs._posed([bar(*shape)], np.full((1, 4), 0.9), STILL)
    centre, size = middle_and_size(posed)
    np.testing.assert_allclose(centre, glyphs.CANVAS / 2, atol=0.5)
    np.testing.assert_allclose(max(size), glyphs.FILL * glyphs.CANVAS, atol=1)
    np.testing.assert_allclose(size[0] / size[1], shape[1] / shape[0], rtol=0.1)


def test_jitter_turns_scales_and_shifts_up_to_its_bounds():
    draws = np.full((4, 4), 0.5)
    draws[0, 0] = draws[1, 1] = draws[2, 2] = draws[3, 3] = 1.0
    turned, scaled, right, lower = glyphs._posed([bar(4, 40)] * 4, draws, Jitter(rotation=45, shift=0.1, scale=0.2))
    centre, size = middle_and_size(turned)
    np.testing.assert_allclose(centre, glyphs.CANVAS / 2, atol=0.5)
    np.testing.assert_allclose(size, (glyphs.FILL * glyphs.CANVAS * 1.1) / np.sqrt(2), atol=2)
    np.testing.assert_allclose(middle_and_size(scaled)[1][0], 1.2 * glyphs.FILL * glyphs.CANVAS, atol=1)
    np.testing.assert_allclose(middle_and_size(right)[0], [0.6 * glyphs.CANVAS, 0.5 * glyphs.CANVAS], atol=0.6)
    np.testing.assert_allclose(middle_and_size(lower)[0], [0.5 * glyphs.CANVAS, 0.6 * glyphs.CANVAS], atol=0.6)


def test_ink_and_paper_differ_in_every_channel_and_either_may_be_the_light_one():
    draws = np.random.default_rng(0).random((500, 7))
    coverage = np.zeros((500, 1, 3), np.uint8)
    coverage[:, 0, 1:] = [128, 255]
    paper, between, ink = np.moveaxis(glyphs._coloured(coverage, draws)[:, 0].astype(int), 1, 0)
    assert np.abs(ink - paper).min() > 255 - 2 * glyphs.LEVELS
    np.testing.assert_allclose(between, paper + (ink - paper) * 128 / 255, atol=0.51)
    lighter = (ink > paper).all(axis=1)
    assert (lighter | (ink < paper).all(axis=1)).all()
    assert 0.4 < lighter.mean() < 0.6


@needs_fonts
def test_the_profiles_offer_a_hundred_classes_and_twenty_thousand_images(profiles):
    for params in profiles:
        source = open_source(params.sources.published["glyphs"], root=ROOT)
        assert source.kind == "glyphs"
        assert len(source) == 100 * 4 * len(FAMILIES) >= 20_000


@needs_fonts
def test_no_font_draws_two_classes_alike():
    for font in find_fonts(FAMILIES):
        face = Face(font)
        masks = [face.draw(character) for character in CHARACTERS]
        alike = [
            a + b for (a, x), (b, y) in combinations(zip(CHARACTERS, masks, strict=True), 2) if np.array_equal(x, y)
        ]
        assert not alike, font


@needs_fonts
@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_another_one_other_images():
    once, again, other = read(), read(), read(seed=2)
    assert list(once) == list(again) == list(other)
    assert all(np.array_equal(once[path], again[path]) for path in once)
    assert not any(np.array_equal(once[path], other[path]) for path in once)


@needs_fonts
def test_a_limited_set_is_a_part_of_a_larger_one():
    few, more = read(limit=1), read(limit=3)
    assert few.keys() < more.keys()
    assert all(np.array_equal(few[path], more[path]) for path in few)


@needs_fonts
@pytest.mark.slow
def test_test_families_are_never_trained_on_and_every_family_has_its_images_of_each_class():
    source = open_glyphs(seed=1, images_per_family=2, jitter=LIVELY, limit_per_class=None)
    families = {"train": [family.name for family in TRAIN_FAMILIES], "test": [family.name for family in TEST_FAMILIES]}
    last, seen = "", set()
    for batch in source.batches(ImageForm(size=8, channels=1, resize="squash")):
        assert batch.images.shape[1:] == (8, 8, 1)
        for path, label, source_split in zip(batch.paths, batch.labels, batch.source_splits, strict=True):
            assert path > last
            last = path
            name, class_, item = path.split("/")
            assert (name, class_) == (source_split, label)
            seen.add((name, class_))
            number = int(item[:5])
            assert item[6:] == families[name][number % len(families[name])]
            assert number < 2 * len(families[name])
    assert len(seen) == 200
    assert not set(families["train"]) & set(families["test"])


@needs_fonts
def test_a_font_of_another_version_is_taken_and_said():
    changed = [family._replace(sha256="0" * 16) for family in TEST_FAMILIES[:2]]
    source = open_glyphs(
        seed=1,
        images_per_family=1,
        jitter=STILL,
        limit_per_class=1,
        train_families=changed[:1],
        test_families=changed[1:],
    )
    (note,) = source.notes
    assert note == (
        "2 of 2 fonts are not the files of Debian 12 (caslon, anonymous-pro); images and figures will differ a little "
        "from those documented"
    )


@needs_fonts
def test_glyphs_are_ingested_and_their_test_images_stay_test(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = profile_text(ROOT / "csd_core/project/profiles", "glyphs-2").replace(
        "limit_per_class: null", "limit_per_class: 8"
    )
    Path("params.yaml").write_text(text, encoding="utf-8")
    ingest.main("glyphs")
    files = Workspace()
    found = load_source(files.source("glyphs"))
    assert found.images.shape == (1600, 32, 32, 3)
    assert (found.record.kind, found.record.duplicates, len(found.record.classes)) == ("glyphs", 0, 100)
    params = files.params()
    cut = cut_shard(found, params.tasks["t1"], params.split, name="t1", earlier=np.array([], np.str_))
    assert cut.classes == tuple(params.tasks["t1"].classes)
    tested = found.paths[cut.rows[cut.splits == "test"]]
    assert len(tested) == 50 * 8
    assert all(path.startswith("test/") for path in tested)
    assert all(path.startswith("train/") for path in found.paths[cut.rows[cut.splits == "train"]])
