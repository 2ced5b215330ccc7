import pytest
from senders import commit, git, new_project, taken

from csd_core.params.edits import add_task
from csd_core.retraining.manifests import TaskManifest, next_task, taken_at
from csd_core.system.errors import ArtifactError


def cut(files, task, *batches):
    TaskManifest(task=task, batches=tuple(batches)).save(files.batch_record(task))


def test_before_the_first_cut_nothing_is_taken(tmp_path):
    files = new_project(tmp_path)
    assert taken_at(tmp_path, "HEAD") == {}
    files.batch_record("t4").parent.mkdir()
    files.batch_record("t4").write_text("of a run that is not committed")
    assert taken_at(tmp_path, "HEAD") == {}


def test_a_commit_knows_the_batches_of_its_own_tasks(tmp_path):
    files = new_project(tmp_path)
    cut(files, "t4", taken("b1"), taken("b2", digest="d2"))
    (files.root / "batches" / "t4.dvc").write_text("outs: []\n")
    (files.batch("t4") / "cat").mkdir(parents=True)
    (files.batch("t4") / "cat" / "9.json").write_text("no record")
    before = commit(tmp_path)
    cut(files, "t5", taken("b3"))
    after = commit(tmp_path)
    files.batch_record("t4").write_text("edited here")
    of_t4 = {"b1": ("t4", taken("b1")), "b2": ("t4", taken("b2", digest="d2"))}
    assert taken_at(tmp_path, before) == of_t4
    assert taken_at(tmp_path, after) == of_t4 | {"b3": ("t5", taken("b3"))}


def test_the_project_may_be_a_folder_of_its_repository(tmp_path):
    files = new_project(tmp_path / "repository" / "search")
    (tmp_path / "repository" / "search" / ".git").rename(tmp_path / "repository" / ".git")
    cut(files, "t4", taken("b1"))
    assert taken_at(files.root, commit(tmp_path / "repository")) == {"b1": ("t4", taken("b1"))}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", r"not a Cut \(: Invalid JSON"),
        ('{"task": "t4"}', r"not a Cut \(batches: Field required\)"),
        ('{"task": "t5", "batches": []}', "is of task t5"),
    ],
)
def test_a_damaged_record_is_named_with_its_commit(tmp_path, text, problem):
    files = new_project(tmp_path)
    files.batch_record("t4").parent.mkdir()
    files.batch_record("t4").write_text(text)
    where = commit(tmp_path)
    with pytest.raises(ArtifactError, match=rf"^batches/t4.json at commit {where[:12]}: {problem}.*git's history$"):
        taken_at(tmp_path, where)


def test_a_commit_that_is_not_here_is_one_line(tmp_path):
    new_project(tmp_path)
    with pytest.raises(ArtifactError, match="commit 123456789012: cannot be read; choose one that this repository has"):
        taken_at(tmp_path, "1234567890123456789012345678901234567890")


def test_a_repository_that_lost_an_object_is_one_line(tmp_path):
    files = new_project(tmp_path)
    cut(files, "t4", taken("b1"))
    where = commit(tmp_path)
    lost = git(tmp_path, "rev-parse", "HEAD:batches/t4.json")
    (tmp_path / ".git" / "objects" / lost[:2] / lost[2:]).unlink()
    with pytest.raises(ArtifactError, match=r"^batches/t4.json at commit \w{12}: cannot be read;"):
        taken_at(tmp_path, where)


def test_the_next_task_counts_on(tmp_path):
    files = new_project(tmp_path)
    assert next_task(files.params()) == "t4"
    add_task(files.root / "params.yaml", "extra", source="extra", classes=None, path="data/raw/extra")
    assert next_task(files.params()) == "t4"
    add_task(files.root / "params.yaml", "t7", source="t8", classes=None, path="data/raw/t8")
    assert next_task(files.params()) == "t9"


def test_tasks_with_names_of_their_own_are_counted(tmp_path):
    files = new_project(tmp_path)
    text = (tmp_path / "params.yaml").read_text()
    for name in ("t1", "t2", "t3"):
        text = text.replace(f"{name}:", f"season{name[1]}:").replace(f": {name}", f": season{name[1]}")
    (tmp_path / "params.yaml").write_text(text)
    assert next_task(files.params()) == "t4"
