"""Edits of params.yaml that keep its comments: a task is added, values are overridden, a person's decision is noted."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ruamel.yaml.comments import CommentedMap

from csd_core.params.file import load_params, merge, plain, trailing_comment, write_checked
from csd_core.params.production import Review
from csd_core.params.training import LATER
from csd_core.params.upgrade import Decision
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import dump, read_document


def add_task(
    params_file: Path,
    name: str,
    *,
    source: str,
    classes: list[str] | None,
    path: str | None = None,
    recipe: str = LATER,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Append a task and its default decision.

    Args:
        params_file: params.yaml, valid as it stands.
        name: The new task's.
        source: A key of sources.published or sources.folders, or, with `path`, of a new folder.
        classes: Class names in the order of learning; None takes the whole source.
        path: The new folder, with a folder of images for each class.
        recipe: `later`, or a key of training.recipes.
        changes: Keys in which the training of this task alone differs from that recipe, nested as there; they become a
            recipe of the task's name.

    Raises:
        ParamsError: if the result would not be valid; the file is then as it was.
    """
    params = load_params(params_file)
    if name in params.tasks:
        raise ParamsError(f"{params_file}: tasks.{name}: exists already; choose another name")
    previous = list(params.tasks)[-1]
    document = read_document(params_file)
    if changes:
        if name in params.training.recipes:
            raise ParamsError(f"{params_file}: training.recipes.{name}: exists already; choose another name")
        training = document["training"]
        if "recipes" not in training:
            training.insert(list(training).index("first"), "recipes", CommentedMap())
        recipes = training["recipes"]
        recipes.fa.set_block_style()
        _append(recipes, name, plain({"extends": recipe, **changes}))
        recipe = name
    named = recipe if recipe == LATER else f"recipes.{recipe}"
    task = CommentedMap(previous=previous, recipe=named, source=source, classes=classes)
    task.fa.set_flow_style()
    _append(document["tasks"], name, task)
    if path is not None:
        if source in params.sources.folders:
            raise ParamsError(f"{params_file}: sources.folders.{source}: exists already; leave the path out")
        folder = CommentedMap(path=path, layout="classes")
        folder.fa.set_flow_style()
        document["sources"]["folders"].fa.set_block_style()
        _append(document["sources"]["folders"], source, folder)
    _append(document["decisions"], name, "auto")
    document["report"]["after"] = name
    write_checked(params_file, dump(document))


def _append(block: CommentedMap, key: str, value: Any) -> None:
    comment = trailing_comment(block)
    if comment is not None:
        del block.ca.items[list(block)[-1]]
    block[key] = value
    if comment is not None:
        block.ca.items[key] = comment


def override(params_file: Path, changes: Mapping[str, Any]) -> None:
    """Change values of params.yaml, key by key.

    Args:
        params_file: params.yaml, valid as it stands.
        changes: Blocks with the keys that change, nested as in the file.

    Raises:
        ParamsError: if the result would not be valid; the file is then as it was.
    """
    if not changes:
        return
    document = read_document(params_file)
    merge(document, changes)
    write_checked(params_file, dump(document))


def decide(params_file: Path, task: str, decision: Decision, review: Review) -> None:
    """Note what a person decided about a task's candidate.

    Args:
        params_file: params.yaml, valid as it stands.
        task: Whose candidate.
        decision: As promotion is to take it.
        review: Who decided, and why.

    Raises:
        ParamsError: if there is no such task or the decision is not allowed; the file is then as it was.
    """
    load_params(params_file).task(task)
    document = read_document(params_file)
    document["decisions"][task] = decision
    noted = CommentedMap(review.model_dump(mode="json"))
    noted.fa.set_flow_style()
    document["reviews"].fa.set_block_style()
    if task in document["reviews"]:
        document["reviews"][task] = noted
    else:
        _append(document["reviews"], task, noted)
    write_checked(params_file, dump(document))
