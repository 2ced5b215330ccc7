import pytest
from senders import below, commit, inbox_at, new_project, retraining, send, taken
from test_inbox_command import lines, run

from csd_core.retraining.inbox import Inbox
from csd_core.retraining.manifests import TakenBatch
from csd_core.retraining.policy import batch_status
from csd_core.retraining.set_aside import notes, set_aside
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace

WHO = {"by": "Ada", "reason": "letters look wrong", "retraining": "2026-11-25-otter"}


@pytest.fixture
def files(tmp_path):
    return Workspace(tmp_path)


def listed(files):
    (found,) = inbox_at(files.root).inbox_batches()
    return found


def reject(files, *classes):
    """Set a batch aside as a task took it."""
    found = listed(files)
    batch = TakenBatch(name=found.name, digest=found.digest, images=found.images, left_out=found.left_out)
    set_aside(files, batch, classes or None, **WHO)


def status(files):
    found = batch_status(listed(files), taken={}, reviews=())
    return found.state, found.words.rsplit(" since 2", 1)[0]


def test_a_batch_that_was_rejected_waits_no_more_until_its_sender_changes_it(files):
    send(files.root / "inbox", "monday")
    reject(files)
    words = "set aside by Ada: letters look wrong; `csd inbox return monday` lets it wait again"
    assert status(files) == ("set aside", words)
    send(files.root / "inbox", "monday", ("owl",))
    assert status(files) == ("waits", "waits")


def test_of_classes_that_were_rejected_nothing_is_counted_or_copied_and_the_others_are_another_batch(files, tmp_path):
    send(files.root / "inbox", "monday", ("cat", "dog", "owl"))
    whole = listed(files)
    reject(files, "dog")
    rest = listed(files)
    assert (dict(rest.classes), rest.left_out) == ({"cat": 2, "owl": 2}, ("dog",))
    assert rest.digest != whole.digest  # a retraining that took the whole does not settle it
    state, words = batch_status(rest, taken={}, reviews=()).state, batch_status(rest, taken={}, reviews=()).words
    assert state == "waits"
    assert "; set aside of dog by Ada: letters look wrong; `csd inbox return monday`" in words
    inbox_at(files.root).fetch(rest, tmp_path / "copy")
    assert below(tmp_path / "copy") == [f"{label}/monday/{n}.png" for label in ("cat", "owl") for n in (0, 1)]
    reject(files, "owl")  # of what was taken without the dogs
    assert dict(listed(files).classes) == {"cat": 2}
    reject(files)
    assert status(files)[0] == "set aside"
    note = notes(files)["monday"]
    assert (note.digest, note.classes) == (whole.digest, None)


def test_what_a_task_took_stays_taken(files):
    send(files.root / "inbox", "monday")
    reject(files, "dog")
    found = listed(files)
    took = {"monday": ("t4", taken("monday", digest=found.digest, images=found.images))}
    assert batch_status(found, taken=took, reviews=()).words == "taken: task t4 took it"


def test_a_damaged_note_is_named(files):
    send(files.root / "inbox", "monday")
    reject(files)
    files.set_aside("monday").write_text("{")
    with pytest.raises(ArtifactError, match=r"aside/monday.json: not a SetAside"):
        inbox_at(files.root)


def test_the_command_returns_a_batch_and_names_those_that_it_could(tmp_path, monkeypatch, capsys):
    files = new_project(tmp_path / "project")
    monkeypatch.chdir(files.root)
    send(files.root / "data" / "inbox", "monday")
    (found,) = Inbox.of(files, files.params().inbox).inbox_batches()
    base = commit(files.root)
    batch = taken("monday", digest=found.digest, images=found.images)
    retraining("r1", base=base, batches=(batch,)).save_to(files)
    set_aside(files, batch, None, **WHO)
    assert run("status") == 0
    assert "set aside by Ada: letters look wrong" in " ".join(lines(capsys))
    assert run("return", "tuesday") == 2
    assert "batch tuesday: is not set aside; batches that are: monday" in capsys.readouterr().err
    assert run("return", "monday") == 0
    assert lines(capsys) == ["batch monday waits again; it was set aside by Ada: letters look wrong"]
    assert run("status") == 0
    assert "waits since" in " ".join(lines(capsys))
