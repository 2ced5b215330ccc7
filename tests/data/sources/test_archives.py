import gzip
import hashlib
import tarfile

import pytest
from published_sets import pack

from csd_core.data.sources.archives import Archive, open_files, require
from csd_core.system.errors import DataError


def published(sha256=""):
    return Archive(kind="set", name="set.tar.gz", folder="top", sha256=sha256, page="its page")


@pytest.fixture
def opened(tmp_path):
    """(members) -> the files of an archive that has them."""

    def make(members):
        path = tmp_path / "set.tar.gz"
        return open_files(path, published(sha256=pack(path, members)))

    return make


def header(name, kind=tarfile.REGTYPE, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_names_that_lead_out_of_the_archive_reach_nothing(opened, tmp_path):
    hostile = ["../evil", "/evil", "top/../../evil", "../top/a", "/top/a", "other/a", "top"]
    before = {path.name for path in tmp_path.iterdir()}
    files = opened({"top/a": b"good", **dict.fromkeys(hostile, b"evil")})
    assert files.read("a") == b"good"
    assert {path.name for path in tmp_path.iterdir()} == before | {"set.tar.gz"}
    for name in ("evil", "../../evil", "b", "", "."):
        assert files.size(name) is None
    assert not (tmp_path.parent / "evil").exists()


def test_names_with_a_leading_dot_are_the_same_names(opened):
    files = opened({"./top/deep/a": b"good"})
    assert (files.size("deep/a"), files.read("deep/a")) == (4, b"good")


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("target", ["/etc/hostname", "../secret", "b"])
def test_links_and_devices_are_never_followed(opened, kind, target):
    files = opened({"top/b": b"other", "top/a": header("top/a", kind, target)})
    assert files.size("a") is None
    with pytest.raises(DataError, match="has no file a"):
        files.read("a")


def test_of_a_name_that_comes_twice_the_last_one_counts(opened):
    assert opened({"top/a": b"first", "./top/a": b"second"}).read("a") == b"second"


def test_files_are_read_whole_and_apart(opened):
    contents = {f"top/{number}": bytes([number]) * (700 * number) for number in range(5)}
    files = opened(contents)
    assert {f"top/{number}": files.read(str(number)) for number in range(5)} == contents


def test_another_archive_is_refused_before_it_is_decompressed(tmp_path, monkeypatch):
    path = tmp_path / "set.tar.gz"
    pack(path, {"top/a": b"good"})
    monkeypatch.setattr(gzip, "open", None)  # calling it would fail
    with pytest.raises(DataError, match=r"set.tar.gz: sha256 is [0-9a-f]{12}…, the published one 0000"):
        open_files(path, published(sha256="0" * 64))


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-4],
        lambda _: b"",
        lambda _: b"not gzip",
        lambda _: gzip.compress(b""),
        lambda _: gzip.compress(b"not tar" * 200),
        lambda whole: gzip.compress(gzip.decompress(whole)[:700]),
        lambda whole: whole[:40] + b"\xff" * 40 + whole[80:],
    ],
)
def test_an_archive_that_is_not_whole_is_refused_in_one_line(damage, tmp_path):
    path = tmp_path / "set.tar.gz"
    pack(path, {"top/a": bytes(range(256)) * 50, "top/b": b"b"})
    content = damage(path.read_bytes())
    path.write_bytes(content)
    known = published(sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(DataError, match="set.tar.gz: not a whole .tar.gz") as caught:
        require(open_files(path, known), ["a", "b"], known)
    assert "\n" not in str(caught.value)


def test_no_room_to_decompress_is_said(tmp_path, monkeypatch):
    path = tmp_path / "set.tar.gz"
    known = published(sha256=pack(path, {"top/a": b"good"}))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("csd_core.data.sources.archives.shutil.copyfileobj", full)
    with pytest.raises(DataError, match=r"No space left on device.*point TMPDIR to a disk with room, or unpack"):
        open_files(path, known)


def test_a_file_that_vanishes_from_a_folder_is_named(tmp_path):
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "a").write_bytes(b"good")
    files = open_files(tmp_path, published())
    assert (files.verified, files.read("a")) == (False, b"good")
    (tmp_path / "top" / "a").unlink()
    with pytest.raises(DataError, match=r"top/a: cannot be read: No such file"):
        files.read("a")
