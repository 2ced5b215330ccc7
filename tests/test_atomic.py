import errno

import pytest

from csd_core.system.atomic import atomic_file, atomic_folder, write_text


class PowerCutError(Exception):
    pass


def test_a_file_appears_whole(tmp_path):
    target = tmp_path / "new" / "file.txt"
    with atomic_file(target) as partial:
        partial.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_file_as_it_was(tmp_path):
    target = tmp_path / "file.txt"
    write_text(target, "before")
    with pytest.raises(PowerCutError), atomic_file(target) as partial:
        partial.write_text("after")
        raise PowerCutError
    assert target.read_text() == "before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_replaces_the_former_one(tmp_path):
    target = tmp_path / "folder"
    for content in ("one", "two"):
        with atomic_folder(target) as partial:
            (partial / content).write_text(content)
    assert [path.name for path in target.iterdir()] == ["two"]
    assert list(tmp_path.iterdir()) == [target]


def test_an_error_leaves_the_folder_as_it_was(tmp_path):
    target = tmp_path / "folder"
    with atomic_folder(target) as partial:
        (partial / "one").write_text("one")
    with pytest.raises(PowerCutError), atomic_folder(target) as partial:
        (partial / "two").write_text("two")
        raise PowerCutError
    assert [path.name for path in target.iterdir()] == ["one"]
    assert list(tmp_path.iterdir()) == [target]


def test_what_a_killed_run_left_is_overwritten(tmp_path):
    (tmp_path / ".folder.partial").mkdir()
    (tmp_path / ".folder.partial" / "debris").write_text("half")
    (tmp_path / ".folder.former").mkdir()
    (tmp_path / ".folder.former" / "debris").write_text("old")
    (tmp_path / "folder").mkdir()
    with atomic_folder(tmp_path / "folder") as partial:
        (partial / "one").write_text("one")
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["one"]


@pytest.mark.parametrize("kind", [atomic_file, atomic_folder])
def test_a_write_that_a_full_disk_cut_short_is_that_of_a_full_disk(tmp_path, kind):
    with pytest.raises(OSError, match="No space left on device") as raised, kind(tmp_path / "vectors"):
        raise OSError("7200 requested and 3040 written")  # as numpy.save does
    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(tmp_path / "vectors"))
    assert list(tmp_path.iterdir()) == []
