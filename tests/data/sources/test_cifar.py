import dataclasses
import re
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from published_sets import cifar, cifar_published, cifar_record, known_as, pack, unpack

from csd_core.data.canonical import load_source, write_source
from csd_core.data.sources import cifar as cifar_source
from csd_core.data.sources import registry
from csd_core.data.sources.cifar import CIFAR10, CIFAR100, open_cifar
from csd_core.params.sources import Cifar10Source, Cifar100Source
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

FORM = ImageForm(size=32, channels=3, resize="squash")
BOTH = pytest.mark.parametrize("real", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])


def ingest(source, target):
    write_source(target, source, name="set", form=FORM, max_rejected=1, complaints=target.with_suffix(".parquet"))
    return load_source(target)


def archived(tmp_path, members, published):
    """The archive and the set that it is."""
    path = tmp_path / published.archive.name
    return path, known_as(published, pack(path, members))


@BOTH
def test_the_archive_and_its_folder_give_the_pixels_and_names_that_were_written(real, tmp_path):
    members, truth, published = cifar(real)
    unpack(tmp_path, members)
    path, packed = archived(tmp_path, members, published)
    found = ingest(open_cifar(packed, path, None), tmp_path / "a")
    order = [each.name for each in (*published.test, *published.train)]
    np.testing.assert_array_equal(found.images, np.concatenate([truth[name][0] for name in order]))
    numbers = np.concatenate([truth[name][1] for name in order])
    names = published.labels[-1].names[0]
    assert found.labels.tolist() == [f"{names}{number:03}" for number in numbers]
    assert found.source_splits.tolist() == ["test"] * 4 + ["train"] * (len(order) - 1) * 4
    assert found.paths[[0, 4]].tolist() == ["test/0000000", "train/0000000"]
    assert found.record.kind == real.archive.kind

    ingest(open_cifar(published, tmp_path / real.archive.folder, None), tmp_path / "b")
    ingest(open_cifar(packed, path, None), tmp_path / "c")
    for name in ("images.npy", "items.parquet", "rejected.parquet", "source.json"):
        content = (tmp_path / "a" / name).read_bytes()
        assert content == (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


def test_the_class_of_cifar100_is_its_second_byte_and_planes_are_red_green_blue(tmp_path):
    members, _, published = cifar(CIFAR100, rows=1)
    image = np.zeros((32, 32, 3), np.uint8)
    image[3, 7] = 10, 20, 30
    members["cifar-100-binary/test.bin"] = cifar_record([4, 57], image)
    unpack(tmp_path, members)
    source = open_cifar(cifar_published(published, members), tmp_path, None)
    assert source.parts[0].labels.tolist() == ["f057"]
    assert source.parts[0].images[0, 3, 7].tolist() == [10, 20, 30]
    assert source.parts[0].images[0].sum() == 60


@BOTH
def test_a_set_is_found_by_its_archive_its_folder_or_what_holds_either(real, tmp_path):
    members, _, published = cifar(real)
    (tmp_path / "holds-folder").mkdir()
    unpack(tmp_path / "holds-folder", members)
    (tmp_path / "holds-archive").mkdir()
    path, packed = archived(tmp_path / "holds-archive", members, published)
    folder = tmp_path / "holds-folder"
    for where in (folder, folder / real.archive.folder, path, path.parent):
        assert len(open_cifar(packed, where, None)) == 4 * len((*real.train, *real.test))


def test_a_limit_keeps_the_first_of_each_class_in_each_set(tmp_path):
    members, truth, published = cifar(CIFAR10, rows=6, classes=3)
    unpack(tmp_path, members)
    source = open_cifar(published, tmp_path, 1)
    assert [len(part.images) for part in source.parts] == [3, 3]
    np.testing.assert_array_equal(source.parts[1].images, truth["data_batch_1.bin"][0][:3])


def test_an_image_that_comes_twice_stays_once_and_rather_in_the_test_set(tmp_path):
    members, truth, published = cifar(CIFAR100)
    images, numbers = truth["test.bin"]
    again = cifar_record([0, int(numbers[2])], images[2]) + cifar_record([0, 99], images[3])
    members["cifar-100-binary/train.bin"] += again
    unpack(tmp_path, members)
    found = ingest(open_cifar(cifar_published(published, members), tmp_path, None), tmp_path / "set")
    assert (found.record.images, found.record.duplicates) == (8, 2)
    reasons = pq.read_table(tmp_path / "set" / "rejected.parquet")["reason"].to_pylist()
    assert reasons[0] == "duplicate of test/0000002"
    assert "the same image cannot be in two classes" in reasons[1]


@BOTH
@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\0", lambda b: b[: len(b) // 2], lambda _: b""])
def test_a_file_of_another_size_is_refused(real, change, tmp_path):
    members, _, published = cifar(real)
    name = real.test[0].name
    members[f"{real.archive.folder}/{name}"] = change(members[f"{real.archive.folder}/{name}"])
    path, packed = archived(tmp_path, members, published)
    unpack(tmp_path / "folder", members)
    size = 4 * (3073 if real is CIFAR10 else 3074)
    for where in (path, tmp_path / "folder"):
        with pytest.raises(DataError, match=rf"{name}: has [\d,]+ bytes, 4 records of [\d,]+ are {size:,}; it is cut"):
            open_cifar(packed, where, None)


def test_the_records_of_one_set_are_not_those_of_the_other(tmp_path):
    members, _, published = cifar(CIFAR100)
    shorter = cifar(CIFAR10)[0]["cifar-10-batches-bin/test_batch.bin"]
    unpack(tmp_path, members | {"cifar-100-binary/test.bin": shorter})
    with pytest.raises(DataError, match=r"test.bin: has 12,292 bytes, 4 records of 3,074 are 12,296"):
        open_cifar(published, tmp_path, None)


@pytest.mark.parametrize(
    ("real", "labels", "complaint"),
    [
        (CIFAR10, [10], "data_batch_1.bin: has label 10, batches.meta.txt names 0 to 9"),
        (CIFAR100, [0, 100], "train.bin: has label 100, fine_label_names.txt names 0 to 99"),
        (CIFAR100, [20, 0], "train.bin: has label 20, coarse_label_names.txt names 0 to 19"),
        (CIFAR100, [0, 255], "train.bin: has label 255, fine_label_names.txt names 0 to 99"),
    ],
)
def test_a_label_that_the_set_does_not_have_is_refused(real, labels, complaint, tmp_path):
    members, _, published = cifar(real)
    members[f"{real.archive.folder}/{real.train[0].name}"] = cifar_record(labels, np.zeros((32, 32, 3), np.uint8))
    path, packed = archived(tmp_path, members, cifar_published(published, members))
    unpack(tmp_path, members)
    for where in (path, tmp_path / real.archive.folder):
        with pytest.raises(DataError, match=complaint):
            open_cifar(packed, where, None)


@BOTH
def test_a_missing_file_is_named_with_the_archive_to_fetch(real, tmp_path):
    members, _, published = cifar(real)
    del members[f"{real.archive.folder}/{real.labels[-1].names}"], members[f"{real.archive.folder}/{real.test[0].name}"]
    path, packed = archived(tmp_path, members, published)
    unpack(tmp_path / "folder", members)
    for where in (path, tmp_path / "folder"):
        with pytest.raises(DataError) as caught:
            open_cifar(packed, where, None)
        message = str(caught.value)
        assert f"lacks {real.test[0].name}, {real.labels[-1].names}; fetch {real.archive.name} from" in message
        assert "the one for Python is pickled and not read" in message


def test_where_there_is_nothing_the_archive_to_fetch_is_named(tmp_path):
    with pytest.raises(DataError, match="cifar100: .*absent: there is no such file or folder; fetch cifar-100-binary"):
        open_cifar(CIFAR100, tmp_path / "absent", None)
    with pytest.raises(DataError, match="cifar10: .* lacks data_batch_1.bin, .* and 4 more; fetch cifar-10-binary"):
        open_cifar(CIFAR10, tmp_path, None)


@pytest.mark.parametrize("text", [b"", b"a\n" * 10, b"a\nb\n", b"".join(b"%d\n" % n for n in range(11))])
def test_names_must_be_as_many_as_labels_and_all_different(text, tmp_path):
    members, _, published = cifar(CIFAR10)
    unpack(tmp_path, members | {"cifar-10-batches-bin/batches.meta.txt": text})
    with pytest.raises(DataError, match=r"batches.meta.txt: has \d+ names, \d+ different ones; the set has 10"):
        open_cifar(published, tmp_path, None)


@BOTH
def test_what_is_not_the_published_set_is_refused(real, tmp_path):
    members, _, published = cifar(real)
    path, _ = archived(tmp_path, members, published)
    with pytest.raises(
        DataError, match=rf"{real.archive.name}: sha256 is .* the published one {real.archive.sha256[:12]}"
    ):
        open_cifar(published, path, None)
    unpack(tmp_path, members)
    first = published.test[0]._replace(sha256=real.test[0].sha256)
    with pytest.raises(DataError, match=rf"{first.name}: sha256 is .* the published one {first.sha256[:12]}"):
        open_cifar(dataclasses.replace(published, test=(first,)), tmp_path / real.archive.folder, None)


def test_a_pickle_is_not_opened(tmp_path):
    bomb = b"cposix\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR."
    unpack(tmp_path, {"cifar-100-python/train": bomb, "cifar-100-python/test": bomb, "cifar-100-python/meta": bomb})
    with pytest.raises(DataError, match="lacks train.bin, test.bin, coarse_label_names.txt and 1 more"):
        open_cifar(CIFAR100, tmp_path / "cifar-100-python", None)
    assert not (tmp_path / "owned").exists()


def test_parameters_open_the_set_they_name(tmp_path, monkeypatch):
    opened = {}
    for settings, real, name in (
        (Cifar10Source(kind="cifar10", path="ten", limit_per_class=None), CIFAR10, "CIFAR10"),
        (Cifar100Source(kind="cifar100", path="hundred", limit_per_class=None), CIFAR100, "CIFAR100"),
    ):
        members, _, published = cifar(real)
        unpack(tmp_path / settings.path, members)
        monkeypatch.setattr(cifar_source, name, published)
        source = registry.open_source(settings, root=tmp_path)
        opened[source.kind] = len(source)
    assert opened == {"cifar10": 24, "cifar100": 8}


@BOTH
def test_the_published_sets_have_sixty_thousand_images_and_known_checksums(real):
    assert sum(each.rows for each in (*real.train, *real.test)) == 60_000
    for checksum in (real.archive.sha256, *(each.sha256 for each in (*real.train, *real.test))):
        assert re.fullmatch("[0-9a-f]{64}", checksum)
    assert 5 * (10_000 * CIFAR10.record) == 153_650_000
    assert 50_000 * CIFAR100.record == 153_700_000


def test_a_link_in_the_place_of_a_file_is_no_file(tmp_path):
    secret = tmp_path / "secret"
    members, _, published = cifar(CIFAR100)
    secret.write_bytes(members["cifar-100-binary/test.bin"])
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE):
        link = tarfile.TarInfo("cifar-100-binary/test.bin")
        link.type, link.linkname = kind, str(secret)
        path, packed = archived(tmp_path, members | {"cifar-100-binary/test.bin": link}, published)
        with pytest.raises(DataError, match="lacks test.bin"):
            open_cifar(packed, path, None)
