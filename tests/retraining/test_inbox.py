import os
import time
import unicodedata
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from senders import below, inbox_at, problems, send

from csd_core.data.sources.folder import open_folder
from csd_core.records.stages import ImageForm
from csd_core.retraining.inbox import READY, examine
from csd_core.system.errors import DataError, ParamsError

FORM = ImageForm(size=4, channels=1, resize="squash")


# --- what is there ----------------------------------------------------------------------------------------------------


def test_a_missing_inbox_is_an_empty_one(tmp_path):
    assert inbox_at(tmp_path).inbox_batches() == ()
    assert not (tmp_path / "inbox").exists()


def test_batches_are_listed_by_name_with_their_classes(tmp_path):
    send(tmp_path / "inbox", "b2", ("fox",), count=3)
    send(tmp_path / "inbox", "b1")
    first, second = inbox_at(tmp_path).inbox_batches()
    assert (first.name, first.classes, first.images, first.problems) == ("b1", {"cat": 2, "dog": 2}, 4, ())
    assert (second.name, second.classes, second.images, second.problems) == ("b2", {"fox": 3}, 3, ())


def test_a_batch_without_its_marker_is_half_written(tmp_path):
    batch = send(tmp_path / "inbox", "b1", ready=False)
    assert inbox_at(tmp_path).inbox_batches()[0].ready_since is None
    (batch / READY).touch()
    since = inbox_at(tmp_path).inbox_batches()[0].ready_since
    assert since.tzinfo == UTC
    assert abs(datetime.now(UTC) - since) < timedelta(minutes=1)


def test_the_digest_knows_paths_and_sizes_and_nothing_else(tmp_path):
    batch = send(tmp_path / "inbox", "b1")
    before = inbox_at(tmp_path).inbox_batches()[0]
    os.utime(batch / "cat" / "0.png", (0, 0))
    (batch / ".DS_Store").write_bytes(b"x")
    (batch / "cat" / "Thumbs.db").write_bytes(b"x")
    assert inbox_at(tmp_path).inbox_batches()[0] == before
    (batch / "cat" / "0.png").rename(batch / "cat" / "9.png")
    renamed = inbox_at(tmp_path).inbox_batches()[0]
    assert renamed.digest != before.digest
    with (batch / "cat" / "9.png").open("ab") as file:
        file.write(b"x")
    assert inbox_at(tmp_path).inbox_batches()[0].digest not in (before.digest, renamed.digest)


def test_a_class_is_one_however_its_accents_are_spelt(tmp_path):
    send(tmp_path / "inbox", "b1", (unicodedata.normalize("NFD", "café"),))
    (inbox_batch,) = inbox_at(tmp_path).inbox_batches()
    assert list(inbox_batch.classes) == ["café"]
    inbox_at(tmp_path).fetch(inbox_batch, tmp_path / "cut")
    assert below(tmp_path / "cut") == ["café/b1/0.png", "café/b1/1.png"]


def test_what_file_managers_leave_beside_the_batches_is_none(tmp_path):
    for name in (".tmp-upload/cat/1.png", "__MACOSX/cat/1.png", ".DS_Store"):
        (tmp_path / "inbox" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "inbox" / name).touch()
    assert inbox_at(tmp_path).inbox_batches() == ()


def test_an_inbox_may_be_a_link_an_absolute_path_or_a_file_address(tmp_path):
    send(tmp_path / "share", "b1")
    (tmp_path / "inbox").symlink_to(tmp_path / "share")
    for uri in ("inbox", tmp_path / "share", f"file://{tmp_path}/share"):
        inbox = inbox_at(tmp_path, uri)
        (inbox_batch,) = inbox.inbox_batches()
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert len(below(tmp_path / "cut")) == 4


def test_a_hundred_batches_of_fifty_files_are_listed_at_once(tmp_path):
    for batch in range(100):
        for label in ("cat", "dog"):
            (tmp_path / "inbox" / f"b{batch}" / label).mkdir(parents=True)
            for number in range(25):
                (tmp_path / "inbox" / f"b{batch}" / label / f"{number}.png").touch()
    began = time.process_time()
    assert sum(inbox_batch.images for inbox_batch in inbox_at(tmp_path).inbox_batches()) == 5000
    assert time.process_time() - began < 2  # of a processor; it takes 0.05


# --- what cannot be taken ---------------------------------------------------------------------------------------------


def test_files_beside_the_class_folders_are_a_problem(tmp_path):
    batch = send(tmp_path / "inbox", "b1")
    for name in ("b.png", "a.png"):
        (batch / name).touch()
    assert problems(tmp_path) == {"b1": "a.png lies beside the class folders; move it into one (and 1 more)"}


def test_a_batch_without_images_is_a_problem(tmp_path):
    (tmp_path / "inbox" / "b1" / "cat").mkdir(parents=True)
    (tmp_path / "inbox" / "b1" / READY).touch()
    assert problems(tmp_path) == {"b1": "holds no images"}


def test_a_file_beside_the_batches_is_no_batch(tmp_path):
    send(tmp_path / "inbox", "b1")
    (tmp_path / "inbox" / "cat.png").touch()
    assert problems(tmp_path)["cat.png"] == "is no folder; a batch is a folder of class folders"


@pytest.mark.parametrize("name", ["two words", "a;b", "café", "x" * 65, ".hidden", "__MACOSX", "[b-1]*"])
def test_a_batch_must_have_a_plain_name(tmp_path, name):
    send(tmp_path / "inbox", name)
    assert problems(tmp_path)[name].startswith("name it with at most 64 letters")


@pytest.mark.parametrize("name", ["2026-11-25", "Batch_1.2", "x" * 64, "7"])
def test_plain_names_are_no_problem(tmp_path, name):
    send(tmp_path / "inbox", name)
    assert problems(tmp_path) == {name: ""}


def test_names_that_are_not_utf8_are_a_problem_and_can_be_printed(tmp_path):
    send(tmp_path / "inbox", "b1")
    (tmp_path / "inbox" / "b1" / "cat" / os.fsdecode(b"caf\xe9.png")).touch()
    send(tmp_path / "inbox", os.fsdecode(b"b\xff"))
    found = problems(tmp_path)
    assert r"cat/caf\udce9.png has a name that is not UTF-8" in found["b1"]
    assert r"b\udcff" in found
    assert "".join(found).encode()


def test_control_characters_in_a_name_are_a_problem_and_do_not_reach_the_terminal(tmp_path):
    send(tmp_path / "inbox", "b1", ("cat\x1b[2J",))
    assert problems(tmp_path)["b1"].startswith(r"cat\x1b[2J/0.png has a name that is not UTF-8, or with control")
    assert inbox_at(tmp_path).inbox_batches()[0].classes == {}


def test_a_class_may_not_be_called_like_the_marker(tmp_path):
    send(tmp_path / "inbox", "b1", (READY,), ready=False)
    assert "lies in a folder _READY, but the marker is a file" in problems(tmp_path)["b1"]


def test_one_file_name_in_two_spellings_of_a_class_is_a_problem(tmp_path):
    send(tmp_path / "inbox", "b1", ("café", unicodedata.normalize("NFD", "café")))
    assert "is there twice, for two folders spell its class alike" in problems(tmp_path)["b1"]


def test_a_folder_that_cannot_be_listed_is_a_problem(tmp_path, monkeypatch):
    send(tmp_path / "inbox", "b1")
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "dog":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr("csd_core.retraining.storage.os.scandir", refuse)
    assert problems(tmp_path) == {"b1": "dog cannot be listed; let csd read it"}


def test_a_file_that_goes_while_it_is_listed_is_not_listed(tmp_path, monkeypatch):
    batch = send(tmp_path / "inbox", "b1", ("cat",))
    scandir = os.scandir

    @contextmanager
    def remove_after(path):
        with scandir(path) as listed:
            entries = list(listed)
        if entries[0].name.endswith(".png"):
            (batch / "cat" / "1.png").unlink()
        yield entries

    monkeypatch.setattr("csd_core.retraining.storage.os.scandir", remove_after)
    assert inbox_at(tmp_path).inbox_batches()[0].classes == {"cat": 1}


def test_an_inbox_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "inbox").touch()
    with pytest.raises(DataError, match=r"inbox: cannot be listed: Not a directory; make it a folder"):
        inbox_at(tmp_path).inbox_batches()


# --- links ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def secret(tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "shadow.png").write_text("root:x")
    return tmp_path / "secret"


def test_links_are_a_problem_wherever_they_stand(tmp_path, secret):
    for name in ("file", "folder", "dangling", "marker"):
        send(tmp_path / "inbox", name, ready=name != "marker")
    inbox = tmp_path / "inbox"
    (inbox / "file" / "cat" / "9.png").symlink_to(secret / "shadow.png")
    (inbox / "folder" / "owl").symlink_to(secret)
    (inbox / "dangling" / "cat" / "9.png").symlink_to(secret / "nothing")
    (inbox / "marker" / READY).symlink_to(secret / "shadow.png")
    (inbox / "batch").symlink_to(secret)
    followed = "is a link, which is not followed;"
    assert problems(tmp_path) == {
        "batch": f"{followed} copy the batch here",
        "dangling": f"cat/9.png {followed} copy what it leads to",
        "file": f"cat/9.png {followed} copy what it leads to",
        "folder": f"owl {followed} copy what it leads to",
        "marker": f"{READY} {followed} copy what it leads to",
    }
    for inbox_batch in inbox_at(tmp_path).inbox_batches():
        with pytest.raises(DataError, match="cannot be taken"):
            inbox_at(tmp_path).fetch(inbox_batch, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_pipe_is_a_problem(tmp_path):
    os.mkfifo(send(tmp_path / "inbox", "b1") / "cat" / "pipe.png")
    assert problems(tmp_path) == {"b1": "cat/pipe.png is no plain file; remove it"}


@pytest.mark.parametrize("swapped", ["file", "class", "batch"])
def test_what_becomes_a_link_between_listing_and_copying_is_not_followed(tmp_path, monkeypatch, swapped):
    batch = send(tmp_path / "inbox", "b1", ("cat",), count=1)
    inbox = inbox_at(tmp_path)
    (inbox_batch,) = inbox.inbox_batches()
    copy = inbox._storage.copy

    def swap_first(targets):
        place = {"file": batch / "cat" / "0.png", "class": batch / "cat", "batch": batch}[swapped]
        place.rename(tmp_path / "moved")
        place.symlink_to(tmp_path / "moved")
        copy(targets)

    monkeypatch.setattr(inbox._storage, "copy", swap_first)
    with pytest.raises(DataError, match=r"cannot be copied to .*: it is a link by now, or lies in one"):
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert below(tmp_path / "cut") == []


def test_what_becomes_a_pipe_between_listing_and_copying_blocks_nobody(tmp_path, monkeypatch):
    batch = send(tmp_path / "inbox", "b1", ("cat",), count=1)
    inbox = inbox_at(tmp_path)
    (inbox_batch,) = inbox.inbox_batches()
    copy = inbox._storage.copy

    def swap_first(targets):
        (batch / "cat" / "0.png").unlink()
        os.mkfifo(batch / "cat" / "0.png")
        copy(targets)

    monkeypatch.setattr(inbox._storage, "copy", swap_first)
    with pytest.raises(DataError, match="is no plain file any more"):
        inbox.fetch(inbox_batch, tmp_path / "cut")


# --- taking a batch ---------------------------------------------------------------------------------------------------


def test_a_batch_is_copied_class_first(tmp_path):
    batch = send(tmp_path / "inbox", "b1")
    (batch / "cat" / "deeper" / "still").mkdir(parents=True)
    (batch / "cat" / "0.png").rename(batch / "cat" / "deeper" / "still" / "0.png")
    (batch / "cat" / ".hidden").touch()
    (batch / "cat" / "desktop.ini").touch()
    inbox = inbox_at(tmp_path)
    inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")
    assert below(tmp_path / "cut") == [
        "cat/b1/1.png",
        "cat/b1/deeper/still/0.png",
        "dog/b1/0.png",
        "dog/b1/1.png",
    ]
    assert {file.label for file in open_folder(tmp_path / "cut", "classes").files} == {"cat", "dog"}


def test_a_copy_is_no_link_to_what_the_sender_may_still_write(tmp_path):
    batch = send(tmp_path / "inbox", "b1", ("cat",), count=1)
    inbox = inbox_at(tmp_path)
    inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")
    before = (tmp_path / "cut" / "cat" / "b1" / "0.png").read_bytes()
    (batch / "cat" / "0.png").write_bytes(b"")
    assert (tmp_path / "cut" / "cat" / "b1" / "0.png").read_bytes() == before != b""


def test_two_batches_with_the_same_file_names_do_not_meet(tmp_path):
    send(tmp_path / "inbox", "b1", ("cat",))
    send(tmp_path / "inbox", "b2", ("cat",))
    inbox = inbox_at(tmp_path)
    for inbox_batch in inbox.inbox_batches():
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert below(tmp_path / "cut") == ["cat/b1/0.png", "cat/b1/1.png", "cat/b2/0.png", "cat/b2/1.png"]


def test_a_batch_that_changed_since_it_was_listed_is_not_copied(tmp_path):
    batch = send(tmp_path / "inbox", "b1")
    inbox = inbox_at(tmp_path)
    (inbox_batch,) = inbox.inbox_batches()
    (batch / "cat" / "2.png").write_bytes(b"late")
    with pytest.raises(DataError, match=r"batch b1 in inbox changed while it was taken; its sender must write _READY"):
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert not (tmp_path / "cut").exists()


def test_a_batch_that_changes_while_it_is_copied_leaves_nothing(tmp_path, monkeypatch):
    batch = send(tmp_path / "inbox", "b1")
    send(tmp_path / "inbox", "b2")
    inbox = inbox_at(tmp_path)
    first, second = inbox.inbox_batches()
    inbox.fetch(second, tmp_path / "cut")
    copy = inbox._storage.copy

    def cut_short_first(targets):
        (batch / "cat" / "0.png").write_bytes(b"")
        copy(targets)

    monkeypatch.setattr(inbox._storage, "copy", cut_short_first)
    with pytest.raises(DataError, match="batch b1 in inbox changed while it was taken"):
        inbox.fetch(first, tmp_path / "cut")
    assert {path.split("/")[1] for path in below(tmp_path / "cut")} == {"b2"}


def test_a_file_that_goes_while_it_is_copied_is_one_line_and_leaves_nothing(tmp_path, monkeypatch):
    batch = send(tmp_path / "inbox", "b1")
    inbox = inbox_at(tmp_path)
    (inbox_batch,) = inbox.inbox_batches()
    copy = inbox._storage.copy

    def remove_first(targets):
        (batch / "dog" / "1.png").unlink()
        copy(targets)

    monkeypatch.setattr(inbox._storage, "copy", remove_first)
    with pytest.raises(DataError, match=r"dog/1.png: cannot be copied to .*: No such file"):
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert below(tmp_path / "cut") == []


def test_what_a_killed_run_left_of_a_batch_does_not_stay(tmp_path):
    send(tmp_path / "inbox", "b1", ("cat",), count=1)
    left = tmp_path / "cut" / "owl" / "b1" / "9.png"
    left.parent.mkdir(parents=True)
    left.touch()
    inbox = inbox_at(tmp_path)
    inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")
    assert below(tmp_path / "cut") == ["cat/b1/0.png"]


def test_a_half_written_batch_is_not_taken(tmp_path):
    send(tmp_path / "inbox", "b1", ready=False)
    inbox = inbox_at(tmp_path)
    with pytest.raises(DataError, match="batch b1 in inbox cannot be taken: it has no _READY yet"):
        inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")


# --- the marker -------------------------------------------------------------------------------------------------------


def test_a_batch_is_marked_ready_once(tmp_path):
    send(tmp_path / "inbox", "b1", ready=False)
    marked = inbox_at(tmp_path).mark_ready("b1")
    assert marked.ready_since is not None
    assert marked.problems == ()
    assert inbox_at(tmp_path).mark_ready("b1") == marked


def test_an_unusable_batch_is_not_marked_ready(tmp_path):
    batch = send(tmp_path / "inbox", "b1", ready=False)
    (batch / "a.png").touch()
    with pytest.raises(DataError, match=r"batch b1 in inbox cannot be taken: a.png lies beside the class folders"):
        inbox_at(tmp_path).mark_ready("b1")
    assert not (batch / READY).exists()


def test_an_empty_batch_is_not_marked_ready(tmp_path):
    (tmp_path / "inbox" / "b1" / "cat").mkdir(parents=True)
    with pytest.raises(ParamsError, match="batch b1: inbox holds no files of it; batches there: none"):
        inbox_at(tmp_path).mark_ready("b1")
    assert not (tmp_path / "inbox" / "b1" / READY).exists()


def test_a_folder_in_place_of_the_marker_is_one_line(tmp_path):
    (send(tmp_path / "inbox", "b1", ready=False) / READY).mkdir()
    with pytest.raises(DataError, match=r"b1/_READY: cannot be written: File exists; fix that and try again"):
        inbox_at(tmp_path).mark_ready("b1")


@pytest.mark.parametrize("name", ["..", "../outside", "/etc", "", "b1/cat"])
def test_nothing_but_a_batch_is_marked_ready(tmp_path, name):
    send(tmp_path / "inbox", "b1", ready=False)
    send(tmp_path, "outside", ready=False)
    with pytest.raises(ParamsError, match="holds no files of it; batches there: b1"):
        inbox_at(tmp_path).mark_ready(name)
    assert list(tmp_path.rglob(READY)) == []


# --- what the files turn out to be ------------------------------------------------------------------------------------


def test_every_file_of_a_cut_is_decoded(tmp_path):
    batch = send(tmp_path / "inbox", "b1", count=3)
    (batch / "cat" / "1.png").write_bytes(b"no image")
    (batch / "dog" / "9.png").touch()
    inbox = inbox_at(tmp_path)
    inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")
    found = examine(tmp_path / "cut", FORM, {})
    assert found.usable == {"cat": 2, "dog": 3}
    assert dict(found.rejected) == {
        "cat/b1/1.png": "is not an image of a known format",
        "dog/b1/9.png": "is empty (0 bytes)",
    }


def test_an_image_in_two_classes_is_left_out_where_it_comes_second_also_across_batches(tmp_path):
    batch = send(tmp_path / "inbox", "b1", count=3)
    (batch / "dog" / "9.png").write_bytes((batch / "cat" / "1.png").read_bytes())
    (batch / "cat" / "9.png").write_bytes((batch / "cat" / "1.png").read_bytes())
    inbox = inbox_at(tmp_path)
    inbox.fetch(inbox.inbox_batches()[0], tmp_path / "cut")
    found = examine(tmp_path / "cut", FORM, {})
    assert found.usable == {"cat": 4, "dog": 3}
    assert dict(found.rejected) == {"dog/b1/9.png": 'is also in class "cat": the same image cannot be in two classes'}
    again = examine(tmp_path / "cut", FORM, dict.fromkeys(found.labels, "bird"))
    assert (again.usable, len(again.rejected)) == ({}, 8)


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("cat /1.png", "cannot be a class: a class's name neither begins nor ends with a space"),
        ("cat/" + "d/" * 64 + "1.png", "lies more than 64 folders deep; move it up"),
    ],
)
def test_the_inbox_has_the_rule_of_folders(tmp_path, path, problem):
    batch = send(tmp_path / "inbox", "b1")
    (batch / path).parent.mkdir(parents=True)
    (batch / path).touch()
    (inbox_batch,) = inbox_at(tmp_path).inbox_batches()
    assert problem in inbox_batch.problems[0]
