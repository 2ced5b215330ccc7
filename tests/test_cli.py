import json
import shutil
from pathlib import Path

import pytest

from csd_core import cli
from csd_core.data.canonical import write_source
from csd_core.data.sources.registry import open_source
from csd_core.params_file import load_params
from csd_core.records import ImageForm

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, monkeypatch):
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copy(ROOT / "profiles" / "digits.yaml", tmp_path / "params.yaml")
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
    assert run("tasks", "add", "t4", "--source", "more", "--path", "data/raw/more") == 0
    params = load_params()
    assert params.sources.folders["more"].path == "data/raw/more"
    assert params.tasks["t4"].classes is None
    assert run("tasks", "add", "t5", "--source", "more", "--path", "data/raw/more") == 2
