"""What a run asks for beyond params.yaml: for its new task alone as far as that is possible, else for all tasks."""

from typing import Any

from csd_core.params.edits import override
from csd_core.params.model import Params
from csd_core.releases.contents.release import Release
from csd_core.system.errors import CompatibilityError
from csd_core.workspace import Workspace
from flows.forms import Retrain


def recipe_of(settings: Retrain) -> dict[str, Any]:
    """Return the keys of `training.later` that a run changes; they become the new task's own recipe."""
    changes: dict[str, Any] = settings.overrides.changes().get("training", {}).get("later", {})
    return changes


def apply_overrides(workspace: Workspace, settings: Retrain, release: Release | None, *, new_task: bool) -> None:
    """Write what a run asks for into the params.yaml of its checkout.

    Args:
        workspace: Of the checkout.
        settings: Of the run.
        release: The active one.
        new_task: Whether a task is cut, which then gets the changes of `training.later` (`recipe_of`); else they hold
            for all tasks.

    Raises:
        ParamsError: if params.yaml would not be valid.
        CompatibilityError: if nothing that comes of it could be published, and the run is to publish.
    """
    before = workspace.params()
    changes = settings.overrides.changes()
    if new_task and recipe_of(settings):
        training = {key: value for key, value in changes["training"].items() if key != "later"}
        changes = {key: value for key, value in (changes | {"training": training}).items() if value}
    override(workspace.root / "params.yaml", changes)
    if settings.publish and release:
        _refuse_other_models(before, workspace.params(), release, changes)


def _refuse_other_models(before: Params, after: Params, release: Release, changes: dict[str, Any]) -> None:
    """Refuse what would train the models again that led to the active release: others would come of it."""
    if release.record.after not in before.tasks:
        return  # whether it belongs to this line is found out where it is published
    again = [task for task in before.line(release.record.after) if _inputs(before, task) != _inputs(after, task)]
    if again:
        keys = ", ".join(sorted(_keys({name: changes.get(name, {}) for name in ("compute", "data", "training")})))
        raise CompatibilityError(
            f"other parameters: {keys}: would train {', '.join(again)} again, to other models than those of release "
            f"{release.name}, so nothing could be published. Change training.later in a run that cuts a task, which "
            "then trains it alone otherwise, or leave Publish out"
        )


def _inputs(params: Params, task: str) -> dict[str, Any]:
    """Return the parameters on which a task's model depends, of those that a run may override."""
    unused = {"recipes", "later"} if params.task(task).recipe == "first" else {"recipes"}
    return {
        "training": params.training_of(task).model_dump(exclude=unused),
        "compute": params.compute,
        "store": params.data.store,
    }


def _keys(block: dict[str, Any], at: str = "") -> list[str]:
    """Return the dotted names of the values in a block."""
    found = []
    for key, value in block.items():
        found += _keys(value, f"{at}{key}.") if isinstance(value, dict) else [f"{at}{key}"]
    return found
