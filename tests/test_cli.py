import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from csd_core import cli
from csd_core.data.canonical import write_source
from csd_core.data.sources.registry import open_source
from csd_core.params.file import load_params
from csd_core.records.stages import ImageForm
from csd_core.stages.ingest import main as ingest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "csd_core/project/profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "csd_core/project/profiles" / "digits.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    """Exit code of the command line."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(list(arguments))
    return stopped.value.code or 0


def test_valid_parameters_are_called_so(project, capsys):
    assert run("params", "check") == 0
    assert capsys.readouterr().out == "params.yaml: valid; 3 tasks: t1 -> t2 -> t3\n"


def test_wrong_parameters_give_one_line_and_exit_code_2(project, capsys):
    text = (project / "params.yaml").read_text().replace('"4", "5", "6"', '"3", "5", "6"')
    (project / "params.yaml").write_text(text)
    for command in (("params", "check"), ("run",), ("tasks", "list")):
        assert run(*command) == 2
        assert capsys.readouterr().err == (
            'params.yaml: tasks.t2.classes: "3": is already learned by task t1; a class belongs to one task\n'
        )


def test_the_schema_is_json_schema(project, capsys):
    assert run("params", "schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(schema["properties"])


def test_profiles_are_listed_with_what_they_are_for(project, capsys):
    assert run("profile", "list") == 0
    printed = capsys.readouterr().out
    for name in (
        "tiny",
        "digits",
        "fashion-mnist-2",
        "fashion-mnist-5",
        "glyphs-2",
        "glyphs-5",
        "glyphs-10",
        "imagefolder",
    ):
        assert name in printed
    assert "Fashion-MNIST in five tasks of two classes." in printed


def test_a_profile_is_used_and_edits_are_kept(project, capsys):
    assert run("profile", "use", "tiny") == 0
    assert load_params().training.network.depth == 8
    with (project / "params.yaml").open("a") as file:
        file.write("# mine\n")
    assert run("profile", "use", "digits") == 2
    assert "overwrite them with --force" in capsys.readouterr().err
    assert run("profile", "use", "digits", "--force") == 0
    assert load_params().training.network.depth == 20


def test_a_folder_that_is_not_there_is_named_before_anything_runs(project, capsys):
    assert run("profile", "use", "imagefolder") == 0
    assert run("run") == 3
    assert "sources.folders.photos.path: data/raw/photos: there is no such folder" in capsys.readouterr().err


def ingest_digits(project):
    params = load_params()
    write_source(
        project / "data" / "sources" / "digits",
        open_source(params.source("digits"), root=project),
        name="digits",
        form=ImageForm(size=8, channels=1, resize="squash"),
        max_rejected=0,
        complaints=project / "rejected.parquet",
    )


def shorten(project):
    """Leave the classes 7 to 9 to later tasks."""
    lines = (project / "params.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith("  t3: ")]
    (project / "params.yaml").write_text("".join(kept).replace("after: t3", "after: t2"))


def test_the_next_classes_are_written_down_in_natural_or_seeded_order(project, capsys):
    ingest_digits(project)
    shorten(project)
    assert run("tasks", "add", "t3", "--source", "digits", "--take", "2") == 0
    assert load_params().tasks["t3"].classes == ["7", "8"]
    assert run("tasks", "add", "t4", "--source", "digits", "--take", "2", "--order", "seeded") == 2
    assert "source digits has 1 classes that no task has yet" in capsys.readouterr().err
    assert run("tasks", "add", "t4", "--source", "digits", "--take", "1", "--order", "seeded") == 0
    assert load_params().tasks["t4"].classes == ["9"]


def test_named_classes_and_taken_ones_exclude_each_other(project, capsys):
    assert run("tasks", "add", "t4", "--source", "digits", "--take", "1", "--classes", "7") == 2
    assert "not both" in capsys.readouterr().err


def test_classes_can_only_be_taken_from_an_ingested_source(project, capsys):
    assert run("tasks", "add", "t4", "--source", "digits", "--take", "1") == 3
    assert "not ingested yet" in capsys.readouterr().err


def test_a_new_folder_becomes_source_and_task(project):
    assert run("tasks", "add", "t4", "--source", "more", "--path", "data/raw/more") == 3
    (project / "data" / "raw" / "more").mkdir(parents=True)
    assert run("tasks", "add", "t4", "--source", "more", "--path", "data/raw/more") == 0
    params = load_params()
    assert params.sources.folders["more"].path == "data/raw/more"
    assert params.tasks["t4"].classes is None
    assert run("tasks", "add", "t5", "--source", "more", "--path", "data/raw/more") == 2


def test_a_class_without_a_name_is_refused_and_changes_nothing(project, capsys):
    shorten(project)
    before = (project / "params.yaml").read_bytes()
    for classes, complaint in {
        "7,,8": 'tasks.t3.classes.1: "": a class needs a name',
        "7,": 'tasks.t3.classes.1: "": a class needs a name',
        "": 'tasks.t3.classes.0: "": a class needs a name',
        "7,8,7": 'tasks.t3.classes: "7": is there twice; name it once',
        "7\n8": 'tasks.t3.classes.0: "7\\n8": a class\'s name holds no control characters',
    }.items():
        assert run("tasks", "add", "t3", "--source", "digits", "--classes", classes) == 2
        assert capsys.readouterr().err.startswith(f"params.yaml: {complaint}")
        assert (project / "params.yaml").read_bytes() == before


def test_spaces_around_classes_do_not_count_and_accents_are_composed(project):
    shorten(project)
    assert run("tasks", "add", "t3", "--source", "digits", "--classes", " 7, cafe\u0301 ,shoe:left") == 0
    assert load_params().tasks["t3"].classes == ["7", "caf\xe9", "shoe:left"]


def test_a_home_folder_is_written_out_by_who_adds_it(project, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    before = (project / "params.yaml").read_bytes()
    assert run("tasks", "add", "t4", "--source", "more", "--path", "~/photos") == 2
    place = "params.yaml: sources.folders.more.path: ~/photos"
    assert capsys.readouterr().err == f"{place}: DVC does not know what ~ stands for; write /home/ada/photos\n"
    assert (project / "params.yaml").read_bytes() == before


@pytest.mark.parametrize("command", [("params", "check"), ("run",)])
def test_a_folder_in_the_wrong_place_is_one_line(project, capsys, command):
    assert run("profile", "use", "imagefolder") == 0
    text = (project / "params.yaml").read_text().replace("path: data/raw/photos", "path: data/sources")
    (project / "params.yaml").write_text(text)
    assert run(*command) == 3
    assert capsys.readouterr().err.startswith("params.yaml: sources.folders.photos.path: data/sources: lies in data/so")


@pytest.fixture
def busy_dvc(project, monkeypatch):
    """A DVC that another one keeps from answering."""
    program = project / "dvc"
    advice = "manually remove '/p/.dvc/tmp/rwlock' and try again."
    program.write_text(f"#!/bin/sh\necho \"ERROR: '/p/a' is busy, it is being blocked by: 7. {advice}\" >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("csd_core.commands.dvc.environment", lambda: {"PATH": f"{project}:/bin:/usr/bin"})


def test_tasks_are_listed_while_a_run_is_in_progress(busy_dvc, capsys):
    assert run("tasks", "list") == 0
    printed = capsys.readouterr().out
    assert printed.startswith("a run is in progress: which tasks are stale is not known until it has ended\n")
    assert printed.count("not run") == 3


def test_a_second_run_says_that_one_is_in_progress(busy_dvc, capsys):
    assert run("run") == 1
    assert capsys.readouterr().err == (
        "another run is in progress in this project; wait until it has ended, or end it where it was started\n"
    )


def test_what_a_source_could_not_use_is_listed(project, capsys):
    assert run("profile", "use", "imagefolder") == 0
    for path, content in {"cat/1.png": 1, "cat/2.png": 1, "dog/1.png": 1, "dog/2.png": 2, "dog/3.png": None}.items():
        file = project / "data" / "raw" / "photos" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), content).save(file) if content else file.touch()
    assert run("sources", "list") == 0
    assert "not ingested" in capsys.readouterr().out
    assert run("sources", "rejected", "photos") == 3
    assert "photos: not ingested yet" in capsys.readouterr().err
    ingest("photos")
    printed = capsys.readouterr().out
    twice = 'duplicate of cat/1.png, which is of class "cat": the same image cannot be in two classes'
    assert f"photos: dog/1.png is left out, {twice}; remove the one that is labelled wrongly\n" in printed
    assert "left out: 2 duplicates (1 in another class), 1 unusable files (`csd sources rejected photos`" in printed
    summary = (
        "photos: 1 unusable files and 1 copies in another class, of which data.max_rejected allows 100; "
        "1 copies within a class"
    )
    assert run("sources", "rejected", "photos") == 0
    assert capsys.readouterr().out.splitlines() == [
        "cat/2.png: duplicate of cat/1.png",
        f"dog/1.png: {twice}",
        "dog/3.png: is empty (0 bytes)",
        summary,
    ]
    assert run("sources", "rejected", "phots") == 2
    assert run("sources", "list") == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["photos", "2", "2", "2", "1"]
