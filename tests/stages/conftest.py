"""A folder with a params.yaml, as DVC runs stages in it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from stage_params import change_params

from csd_core.records.stages import Champion, Pending
from csd_core.retrieval.embedder import digest_of
from csd_core.stages import adapt, check, export, ingest, init, promote, split, train
from csd_core.workspace import Workspace

DIGITS = Path(__file__).parents[2] / "csd_core/project/profiles" / "digits.yaml"


@pytest.fixture
def configure(tmp_path, monkeypatch) -> Callable[..., Workspace]:
    """Write params.yaml with these sources and tasks, and go there.

    Tasks are given as name -> (source, classes), in their order.
    """
    monkeypatch.chdir(tmp_path)

    def write(*, published=(), folders=(), tasks, max_rejected=0, size=8) -> Workspace:
        values = YAML(typ="safe").load(DIGITS)
        names = list(tasks)
        values["images"]["pixels"] = size
        values["sources"] = {"published": dict(published), "folders": dict(folders)}
        values["data"]["max_rejected"] = max_rejected
        values["tasks"] = {
            name: {
                "previous": names[number - 1] if number else "init",
                "recipe": "later" if number else "first",
                "source": source,
                "classes": classes,
            }
            for number, (name, (source, classes)) in enumerate(tasks.items())
        }
        values["decisions"] = dict.fromkeys(names, "auto")
        values["report"]["after"] = names[-1]
        with (tmp_path / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        return Workspace()

    return write


@pytest.fixture(scope="session")
def split_digits(once) -> Path:
    """A folder with two small tasks of real digits, ingested and split; copy it before changing anything."""
    return once("split-digits", _split)


def _split(root: Path) -> None:
    root.mkdir()
    values = YAML(typ="safe").load(DIGITS)
    values["compute"] |= {"threads": 1}
    values["sources"]["published"]["digits"]["limit_per_class"] = 40
    values["tasks"] = {
        "t1": {"previous": "init", "recipe": "first", "source": "digits", "classes": ["0", "1", "2"]},
        "t2": {"previous": "t1", "recipe": "later", "source": "digits", "classes": ["3", "4"]},
    }
    values["training"]["network"] |= {"depth": 8, "width": 32}
    for recipe in ("first", "later"):
        values["training"][recipe] |= {"epochs": 12, "batch_size": 16}
    values["training"]["later"]["memory"]["images"] = 0
    values["export"]["parity_images"] = 33
    values["decisions"] = {"t1": "auto", "t2": "auto"}
    values["report"]["after"] = "t2"
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        init.main()
        ingest.main("digits")
        split.main("t1")
        split.main("t2")


@pytest.fixture(scope="session")
def learned_digits(split_digits, once) -> Path:
    """The same with the first task's candidate trained, exported and active; copy it before changing anything."""
    return once("learned-digits", lambda root: _learn(shutil.copytree(split_digits, root)))


def _learn(root: Path) -> None:
    files = Workspace(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        train.main("t1")
        export.main("t1")
    shutil.copytree(files.candidate_model("t1"), files.champion_model("t1"))
    files.champion_embedder("t1").mkdir()
    embedder = shutil.copy2(files.candidate_embedder("t1"), files.champion_embedder("t1") / "embedder.onnx")
    Champion(task="t1", digest=digest_of(embedder), parent=None, dimension=128, classes=("0", "1", "2")).save(
        files.champion_embedder("t1") / "champion.json"
    )
    Pending(tasks=()).save(files.pending("t1"))


@pytest.fixture
def decide(monkeypatch) -> Callable[..., Workspace]:
    """Promote a task's candidate in a project, by an operator's decision or by the gate."""

    def promoted(root: Path, task: str, decision: str) -> Workspace:
        change_params(root, lambda values: values["decisions"].update({task: decision}))
        monkeypatch.chdir(root)
        promote.main(task)
        return Workspace(root)

    return promoted


@pytest.fixture(scope="session")
def checked_digits(learned_digits, once) -> Path:
    """The first task promoted by the gate, the second trained for two epochs, adapted and checked; copy it."""
    return once("checked-digits", lambda root: _check(shutil.copytree(learned_digits, root)))


def _check(root: Path) -> None:
    def longer(values):
        values["tasks"]["t3"] = {"previous": "t2", "recipe": "later", "source": "digits", "classes": ["5", "6"]}
        values["decisions"] = dict.fromkeys(("t1", "t2", "t3"), "auto")
        values["report"]["after"] = "t3"
        values["training"]["later"]["epochs"] = 2
        values["upgrade"]["adapter"] |= {"mlp_epochs": 5, "mlp_width": 16}

    change_params(root, longer)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        split.main("t3")
        for stage in (adapt, check, promote):
            stage.main("t1")
        for stage in (train, export, adapt, check):
            stage.main("t2")


@pytest.fixture(scope="session")
def checked_after_adapt(checked_digits, once) -> Path:
    """The same with the second task promoted under `adapt`, and the third trained, adapted and checked; copy it."""
    return once("checked-after-adapt", lambda root: _check_third(shutil.copytree(checked_digits, root)))


def _check_third(root: Path) -> None:
    change_params(root, lambda values: values["decisions"].update({"t2": "adapt"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        promote.main("t2")
        for stage in (train, export, adapt, check):
            stage.main("t3")
