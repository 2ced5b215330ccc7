import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from csd_core.data.canonical import load_source, write_source
from csd_core.data.encoded import EncodedImages, load_images, write_images
from csd_core.data.pool import ItemPool
from csd_core.data.shards import cut_shard, load_shard, write_shard
from csd_core.data.sources.arrays import ArraySource, Part
from csd_core.live.images import pixels
from csd_core.params.model import SplitShares, Task
from csd_core.records.stages import ImageForm
from csd_core.releases.pool_images import PoolImages
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace


def ids_of(images):
    return [hashlib.sha256(image.tobytes()).hexdigest() for image in images]


def photographs(count, *, size=32, channels=3, seed=1):
    """Smooth, as photographs are, so that JPEG does not lose much."""
    generator = np.random.default_rng(seed)
    across = np.linspace(0, 3, size)
    phases = generator.uniform(0, 6, (count, 1, 1, channels))
    waves = np.sin(phases + across[None, :, None, None]) * np.cos(phases + across[None, None, :, None])
    return (127 + 120 * waves).astype(np.uint8)


def written(folder, images, store, *, chunk=7):
    with write_images(folder, images.shape[1:], store) as writer:
        for start in range(0, len(images), chunk):
            writer.append(images[start : start + chunk], ids_of(images[start : start + chunk]))
    return load_images(folder)


@given(
    images=st.sampled_from([1, 3]).flatmap(
        lambda channels: arrays.arrays(
            np.uint8, st.tuples(st.integers(0, 5), st.just(4), st.just(4), st.just(channels))
        )
    ),
    data=st.data(),
)
def test_webp_keeps_every_pixel_wherever_it_is_asked_for(tmp_path_factory, images, data):
    read = written(tmp_path_factory.mktemp("set"), images, "webp", chunk=2)
    assert read.shape == images.shape
    assert len(read) == len(images)
    rows = np.array(
        data.draw(st.lists(st.integers(0, len(images) - 1), max_size=6) if len(images) else st.just([])), int
    )
    np.testing.assert_array_equal(read[rows], images[rows])
    np.testing.assert_array_equal(read[1:3], images[1:3])
    for row in rows.tolist():
        np.testing.assert_array_equal(read[row], images[row])


def test_many_images_are_decoded_side_by_side_in_their_order(tmp_path):
    images = photographs(100)
    rows = np.random.default_rng(0).permutation(100)
    np.testing.assert_array_equal(written(tmp_path, images, "webp")[rows], images[rows])


def test_jpeg_is_near_and_small(tmp_path):
    images = photographs(20, size=64)
    (tmp_path / "jpeg").mkdir()
    (tmp_path / "raw").mkdir()
    read = written(tmp_path / "jpeg", images, "jpeg")
    written(tmp_path / "raw", images, "raw")
    assert np.abs(read[:].astype(int) - images).mean() < 2
    assert (tmp_path / "jpeg" / "images.arrow").stat().st_size * 3 < (tmp_path / "raw" / "images.npy").stat().st_size


@pytest.mark.parametrize("store", ["raw", "webp", "jpeg"])
def test_a_shard_holds_what_its_source_does_and_its_rows_can_be_referred_to(tmp_path, store):
    images, form = photographs(40), ImageForm(size=32, channels=3, resize="squash")
    part = Part(name="all", source_split="", images=images, labels=np.repeat(["a", "b"], 20))
    source = ArraySource(kind="arrays", parts=(part,))
    folder = tmp_path / "data" / "sources" / "set"
    write_source(
        folder, source, name="set", form=form, max_rejected=0, complaints=tmp_path / "bad.parquet", store=store
    )
    canonical = load_source(folder)
    task = Task(previous="init", recipe="first", source="set", classes=None)
    cut = cut_shard(
        canonical,
        task,
        SplitShares(seed=1, select=0.2, gate=0.2, test=0.2, group=None),
        name="t",
        earlier=canonical.ids[:0],
    )
    workspace = Workspace(tmp_path)
    record = write_shard(workspace.shard("t"), canonical, cut, task="t")
    again = write_shard(tmp_path / "again", canonical, cut, task="t")
    shard = load_shard(workspace.shard("t"))

    assert record == again
    np.testing.assert_array_equal(shard.images[:], canonical.images[cut.rows])
    assert sorted(shard.ids) == sorted(ids_of(images))  # of the true pixels, whatever the file keeps of them
    pool = ItemPool(shards=[shard])
    np.testing.assert_array_equal(pool.images(np.array([3, 1, 3])), shard.images[np.array([3, 1, 3])])

    references = PoolImages([shard], kept="reference", thumbnails=False, workspace=workspace)(shard.ids[:5])
    found = pixels(references, shard.ids[:5], form=form, root=tmp_path)
    assert not found.failed
    np.testing.assert_array_equal(found.images, shard.images[:5])
    other = pixels(references, shard.ids[5:10], form=form, root=tmp_path)
    assert len(other.failed) == 5
    assert all("holds another image now" in reason for reason in other.failed.values())


def test_a_damaged_file_says_what_to_do(tmp_path):
    images = photographs(3)
    whole = (tmp_path / "images.arrow", written(tmp_path, images, "webp"))[0].read_bytes()
    for content in (b"", b"no arrow", whole[: len(whole) // 2]):
        (tmp_path / "images.arrow").write_bytes(content)
        with pytest.raises(ArtifactError, match=r"images.arrow: not a whole file of encoded images .*; make it again"):
            load_images(tmp_path)
    with pytest.raises(ArtifactError, match="images.arrow: missing"):
        EncodedImages(tmp_path / "none" / "images.arrow")

    at = whole.index(b"WEBP") + 12
    (tmp_path / "images.arrow").write_bytes(whole[:at] + bytes(20) + whole[at + 20 :])
    with pytest.raises(ArtifactError, match="image 0 is damaged"):
        load_images(tmp_path)[0]
