"""Inboxes in object stores, as fsspec shows them."""

import re
from datetime import UTC, datetime, timedelta

import fsspec
import pytest
from fsspec.registry import known_implementations
from senders import below, inbox_at, policy, problems, send, upload

from csd_core.records.stages import ImageForm
from csd_core.retraining.inbox import READY, Inbox, examine
from csd_core.system.errors import DataError, ParamsError
from csd_core.workspace import Workspace

FORM = ImageForm(size=4, channels=1, resize="squash")


def test_a_batch_has_the_same_digest_wherever_it_lies(tmp_path, memory):
    send(tmp_path / "inbox", "b1")
    upload(memory, tmp_path / "inbox", "/store")
    (here,), (there,) = inbox_at(tmp_path).inbox_batches(), inbox_at(tmp_path, "memory://store").inbox_batches()
    assert (here.classes, here.digest) == (there.classes, there.digest)


def test_a_batch_in_an_object_store_is_listed_and_fetched(tmp_path, memory):
    send(tmp_path / "sent", "b1")
    upload(memory, tmp_path / "sent", "/bucket/in")
    inbox = inbox_at(tmp_path, "memory://bucket/in/")
    (inbox_batch,) = inbox.inbox_batches()
    assert (inbox_batch.name, inbox_batch.images, inbox_batch.problems) == ("b1", 4, ())
    assert abs(datetime.now(UTC) - inbox_batch.ready_since) < timedelta(minutes=1)
    inbox.fetch(inbox_batch, tmp_path / "cut")
    assert examine(tmp_path / "cut", FORM, {}).usable == {"cat": 2, "dog": 2}


def test_a_missing_prefix_is_an_empty_inbox(tmp_path, memory):
    assert inbox_at(tmp_path, "memory://bucket/in").inbox_batches() == ()


def test_a_batch_in_an_object_store_is_marked_ready(tmp_path, memory):
    send(tmp_path / "sent", "b1", ready=False)
    upload(memory, tmp_path / "sent", "/bucket/in")
    assert inbox_at(tmp_path, "memory://bucket/in").mark_ready("b1").ready_since is not None
    assert memory.cat_file(f"/bucket/in/b1/{READY}") == b""


def test_keys_that_lead_elsewhere_are_a_problem_and_never_written(tmp_path, memory):
    keys = ("up/../../x/1.png", "deep/cat/../../../1.png", "gap//etc/1.png", "dot/./1.png", "../cat/1.png")
    for key in keys:
        memory.store[f"/bucket/{key}"] = memory.open("/other/1.png", "wb")
    for batch in ("up", "deep", "gap", "dot"):
        memory.pipe_file(f"/bucket/{batch}/{READY}", b"")
        memory.pipe_file(f"/bucket/{batch}/cat/1.png", b"x")
    found = problems(tmp_path, "memory://bucket")
    assert found.pop("..").startswith("name it with at most 64 letters")
    assert {name: " ".join(words.split()[1:]) for name, words in found.items()} == dict.fromkeys(
        ("up", "deep", "gap", "dot"), "has a path that leads elsewhere; rename it"
    )
    (tmp_path / "work" / "cut").mkdir(parents=True)
    inbox = inbox_at(tmp_path, "memory://bucket")
    for inbox_batch in inbox.inbox_batches():
        with pytest.raises(DataError, match="cannot be taken"):
            inbox.fetch(inbox_batch, tmp_path / "work" / "cut")
    assert below(tmp_path) == []


def test_an_object_that_changes_while_it_is_copied_leaves_nothing(tmp_path, memory, monkeypatch):
    send(tmp_path / "sent", "b1")
    upload(memory, tmp_path / "sent", "/bucket")
    inbox = inbox_at(tmp_path, "memory://bucket")
    (inbox_batch,) = inbox.inbox_batches()
    copy = inbox._storage.copy

    def overwrite_first(targets):
        memory.pipe_file("/bucket/b1/cat/0.png", b"another")
        copy(targets)

    monkeypatch.setattr(inbox._storage, "copy", overwrite_first)
    with pytest.raises(DataError, match="changed while it was taken"):
        inbox.fetch(inbox_batch, tmp_path / "cut")
    assert below(tmp_path / "cut") == []


def test_an_inbox_that_is_an_object_is_one_line(tmp_path, memory):
    memory.pipe_file("/bucket/in", b"x")
    with pytest.raises(DataError, match="memory://bucket/in: is a file; name the folder that batches arrive in"):
        inbox_at(tmp_path, "memory://bucket/in").inbox_batches()


class Foreign(fsspec.AbstractFileSystem):
    """An object store that is out of reach, or says little of its files."""

    protocol = "foreign"
    cachable = False
    listing: dict[str, dict[str, object]] | None = None

    def find(self, *_, **__):
        if self.listing is None:
            raise RuntimeError("Unable to locate credentials\nsee the manual")
        return self.listing

    def pipe_file(self, *_, **__):
        raise TimeoutError("the network is down")

    def get(self, *_, **__):
        raise TimeoutError("the network is down")


@pytest.fixture
def foreign(monkeypatch):
    fsspec.register_implementation("foreign", Foreign, clobber=True)
    monkeypatch.setattr(Foreign, "listing", None)
    return Foreign


def test_storage_that_cannot_be_reached_is_one_line_with_a_remedy(tmp_path, foreign):
    expected = (
        "foreign://bucket: cannot be listed: RuntimeError: Unable to locate credentials see the manual; check "
        "inbox.uri in params.yaml, the bucket, the network, and AWS_ENDPOINT_URL, AWS_REGION and the keys"
    )
    with pytest.raises(DataError, match=f"^{re.escape(expected)}$"):
        inbox_at(tmp_path, "foreign://bucket").inbox_batches()


def test_storage_that_fails_later_is_one_line_too(tmp_path, foreign, monkeypatch):
    new = {"bucket/b1/cat/1.png": {"size": 1, "type": "file", "LastModified": datetime(2026, 11, 20, tzinfo=UTC)}}
    monkeypatch.setattr(foreign, "listing", new)
    inbox = inbox_at(tmp_path, "foreign://bucket")
    with pytest.raises(DataError, match="b1/_READY: cannot be written: TimeoutError: the network is down; check"):
        inbox.mark_ready("b1")
    marker = {f"bucket/b1/{READY}": {"size": 0, "type": "file", "LastModified": datetime(2026, 11, 20)}}  # noqa: DTZ001
    monkeypatch.setattr(foreign, "listing", new | marker)
    (inbox_batch,) = inbox.inbox_batches()
    assert inbox_batch.ready_since == datetime(2026, 11, 20, tzinfo=UTC)
    with pytest.raises(DataError, match="cannot be copied: TimeoutError: the network is down"):
        inbox.fetch(inbox_batch, tmp_path / "cut")


def test_a_store_of_folders_links_and_missing_times_is_understood(tmp_path, foreign, monkeypatch):
    about = {"size": 1, "type": "file"}
    monkeypatch.setattr(
        foreign,
        "listing",
        {
            "bucket/b1/cat": {"size": 0, "type": "directory"},
            "bucket/b1/cat/": {"size": 0, "type": "file"},
            "bucket/b1/cat/1.png": about,
            "bucket/b1/cat/2.png": {"size": 1, "type": "link"},
            "bucket/b1/cat/3.png": {"size": None, "type": "other"},
            f"bucket/b1/{READY}": about,
        },
    )
    (inbox_batch,) = inbox_at(tmp_path, "foreign://bucket").inbox_batches()
    assert (inbox_batch.classes, inbox_batch.ready_since) == ({"cat": 1}, None)
    assert inbox_batch.problems == (
        "cat/2.png is a link, which is not followed; copy what it leads to",
        "cat/3.png is no plain file; remove it",
        "_READY has no time of writing in this storage",
    )


def test_an_address_that_nothing_knows_is_named(tmp_path):
    with pytest.raises(ParamsError, match=r"params.yaml: inbox.uri: nowhere://x: Protocol not known: nowhere; name a"):
        inbox_at(tmp_path, "nowhere://x")


def test_a_store_whose_library_is_missing_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(known_implementations, "gone", {"class": "gone.Store", "err": "Install gone to access Gone"})
    with pytest.raises(DataError, match="gone://x: Install gone to access Gone; install what opens such addresses"):
        inbox_at(tmp_path, "gone://x")


def test_a_store_that_cannot_be_opened_is_one_line(tmp_path, foreign, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no such profile")

    monkeypatch.setattr(foreign, "__init__", refuse)
    with pytest.raises(DataError, match="foreign://x: cannot be opened: RuntimeError: no such profile; check"):
        Inbox.of(Workspace(tmp_path), policy(uri="foreign://x"))
