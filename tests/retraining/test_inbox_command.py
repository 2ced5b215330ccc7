import pytest
from senders import activate, commit, inbox_at, new_project, retraining, send, taken

from csd_core import cli
from csd_core.retraining.manifests import TaskManifest
from csd_core.workspace import Workspace

MISNAMED = "name it with at most 64 letters, digits, dots, - and _, with no dot in front"


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A project whose policy asks for ten images."""
    project = new_project(tmp_path / "project")
    text = (project.root / "params.yaml").read_text()
    (project.root / "params.yaml").write_text(text.replace("min_images: 200", "min_images: 10"))
    commit(project.root)
    monkeypatch.chdir(project.root)
    return project


@pytest.fixture
def inbox(files):
    return files.root / "data" / "inbox"


def run(*arguments):
    """Exit code of `csd inbox`."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(["inbox", *arguments])
    return stopped.value.code or 0


def lines(capsys):
    """What was printed, without the spaces of a table."""
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def as_taken(files, name):
    (found,) = [each for each in inbox_at(files.root, "data/inbox").inbox_batches() if each.name == name]
    return taken(name, digest=found.digest, images=found.images)


def test_an_empty_inbox_says_that_nothing_waits(files, capsys):
    assert run("status") == 0
    assert lines(capsys) == ["data/inbox: nothing waits"]


def test_every_batch_is_shown_with_how_it_stands(files, inbox, linear_embedder, capsys):
    for name in ("changed", "taken", "waits"):
        send(inbox, name, ("3", "fox"))
    send(inbox, "bad name[red]")
    send(inbox, "half", ready=False)
    send(inbox, "review")
    TaskManifest(task="t4", batches=(as_taken(files, "taken"), taken("changed"))).save(files.batch_record("t4"))
    activate(files, linear_embedder, sha=commit(files.root), classes=("cat",))
    commit(files.root, "later")
    retraining("r1", outcome="in review", batches=(as_taken(files, "review"),)).save_to(files)
    assert run("status") == 0
    header, *rows, policy = lines(capsys)
    assert header == "batch images classes (+ new) state (UTC)"
    assert [row.rsplit(" since 2", 1)[0] for row in rows] == [
        f"bad name[red] 4 +dog, cat unusable: {MISNAMED}",
        "changed 4 +fox, 3 changed since task t4 took it; put new images into a batch with a new name",
        "half 4 +dog, cat half-written: it has no _READY yet",
        "review 4 +dog, cat in review: retraining r1 took it",
        "taken 4 +fox, 3 taken: task t4 took it",
        "waits 4 +fox, 3 waits",
    ]
    assert policy.startswith("data/inbox: 4 of 10 images wait, 1 new class (fox); a task is cut on 2")


def test_a_due_task_says_so_and_what_came_of_the_same_batches(files, inbox, capsys):
    send(inbox, "b1", count=5)
    assert run("status") == 0
    due = "data/inbox: a task is due: 10 of 10 images wait, 2 new classes (cat, dog)"
    assert lines(capsys)[-1] == due
    base = commit(files.root)
    retraining("r1", base=base, batches=(as_taken(files, "b1"),)).save_to(files)
    assert run("status") == 0
    before = (
        "just these batches were rejected in retraining r1 (the gate rejected it); trying again would give the same, "
        "until another batch arrives or another commit is the start"
    )
    assert lines(capsys)[-2:] == [due, before]


def test_without_git_the_inbox_is_shown_with_a_note(files, inbox, capsys):
    send(inbox, "b1", ("3", "fox"))
    (files.root / ".git").rename(files.root / "elsewhere")
    assert run("status") == 0
    note, _, row, policy = lines(capsys)
    assert note.startswith("note: what tasks took already is not known: ")
    assert "is no git repository" in note
    assert row.startswith("b1 4 +fox, 3 waits since")
    assert policy.startswith("data/inbox: 4 of 10 images wait, 1 new class (fox)")


def test_a_batch_is_marked_ready(files, inbox, capsys):
    send(inbox, "b1", ready=False)
    assert run("ready", "b1") == 0
    assert capsys.readouterr().out.startswith("batch b1 is ready since 2")
    assert (inbox / "b1" / "_READY").is_file()
    assert run("ready", "b1") == 0
    assert capsys.readouterr().out.endswith("UTC: 4 images (cat 2, dog 2)\n")


@pytest.mark.parametrize("broken", [1, 101])
def test_marking_a_batch_looks_at_its_images_so_that_the_status_promises_no_task_of_files_that_are_none(
    files, inbox, capsys, broken
):
    send(inbox, "b1", count=10, ready=False)
    for number in range(broken):
        (inbox / "b1" / "cat" / f"{number}.txt").write_text("not a picture")
    assert run("ready", "b1") == (0 if broken == 1 else 3)
    told = capsys.readouterr()
    if broken == 1:
        assert (
            "UTC: 20 images (cat 10, dog 10)\n1 files are no usable images and are left out, such as cat/" in told.out
        )
        return
    assert told.err.startswith("batch b1: 101 of its 121 files are no usable images (cat/b1/0.txt: ")
    assert told.err.endswith("; data.max_rejected allows 100, so no task takes it. Send the images under a new name\n")
    assert run("status") == 0
    assert lines(capsys)[-1] == "data/inbox: nothing waits"


def test_a_batch_that_cannot_be_taken_gives_one_line_and_exit_code_3(files, inbox, capsys):
    (send(inbox, "b1", ready=False) / "a.png").touch()
    assert run("ready", "b1") == 3
    assert capsys.readouterr().err == (
        "batch b1 in data/inbox cannot be taken: a.png lies beside the class folders; move it into one\n"
    )


def test_a_batch_that_is_not_there_gives_one_line_and_exit_code_2(files, capsys):
    assert run("ready", "b1") == 2
    assert capsys.readouterr().err == "batch b1: data/inbox holds no files of it; batches there: none\n"


def test_a_damaged_record_gives_one_line_and_exit_code_4(files, inbox, capsys):
    send(inbox, "b1")
    retraining("r1").save_to(files)
    Workspace(files.root).retraining("r1").write_text("{")
    assert run("status") == 4
    assert "retrainings/r1.json: not a Retraining" in capsys.readouterr().err
