"""params.yaml on disk: reading and checking it, profiles, and the machinery of edits that keep its comments.

Profiles come with csd, and a project's own are in its folder `profiles`. A profile is a whole params.yaml, or names
another in `extends` and holds only what differs from it. `sources`, `tasks`,
`decisions` and `reviews` of a profile replace those they extend; all other blocks are merged key by key.
"""

import difflib
import itertools
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml.comments import CommentedMap

from csd_core.params.model import Params
from csd_core.system.atomic import atomic_file, write_text
from csd_core.system.errors import ParamsError
from csd_core.system.git import answer
from csd_core.system.yaml_file import dump, read_document, read_yaml

PROFILES = Path(__file__).parents[1] / "project" / "profiles"
"""Those that come with csd."""

REPLACED = frozenset({"sources", "tasks", "decisions", "reviews"})
"""Blocks whose keys are names of one's own: half of another profile's would make no sense."""

RENAMED = {
    "images.size": "images.pixels",
    "gate.max_negative_flips": "gate.max_excess_flips",
    "runtime.processes": "compute.processes",
}
"""Keys of previous versions, and what they are called now."""


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check params.yaml.

    Raises:
        ParamsError: one line for each mistake, naming file, key, value and remedy.
    """
    values = read_yaml(path)
    if not isinstance(values, dict):
        raise ParamsError(f"{path}: holds no parameters; run `csd profile use digits`")
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        raise ParamsError("\n".join(f"{path}: {line}" for line in _explained(error))) from None


def _explained(error: ValidationError) -> list[str]:
    """One line for each mistake; a key that has its previous name is not missing too."""
    mistakes = [(".".join(map(str, mistake["loc"])), mistake) for mistake in error.errors()]
    renamed = {RENAMED[where] for where, _ in mistakes if where in RENAMED}
    return [explain(mistake) for where, mistake in mistakes if where not in renamed]


def explain(mistake: Any) -> str:
    """One pydantic error as `key: value: what to do`."""
    if mistake["type"] == "value_error":
        where = ".".join(map(str, mistake["loc"])).removesuffix(".[key]")
        return f"{where}: {mistake['ctx']['error']}" if where else str(mistake["ctx"]["error"])
    keys = [str(key) for key in mistake["loc"]]
    if keys[:2] == ["sources", "published"] or keys[2:3] == ["schedule"]:
        del keys[3:4]  # pydantic names the union's member there; it is no key of the file
    where = ".".join(keys).removesuffix(".[key]")
    match mistake["type"]:
        case "extra_forbidden" if where in RENAMED:
            return f"{where}: is called {RENAMED[where]} now; rename it"
        case "extra_forbidden":
            near = difflib.get_close_matches(keys[-1], _keys(Params), n=1)
            return f"{where}: unknown key; " + (f"did you mean {near[0]}?" if near else "remove it")
        case "missing":
            return f"{where}: missing; add it (`csd profile show digits` shows every key)"
        case "string_type":
            return f"{where}: {mistake['input']!r}: is not text; put it in double quotes"
        case _:
            reason = mistake["msg"][0].lower() + mistake["msg"][1:]
            return f"{where}: {mistake['input']!r}: {reason}"


def _keys(section: type[BaseModel]) -> list[str]:
    """Return every key of params.yaml, at any depth."""
    schema = section.model_json_schema()
    blocks = [schema, *schema.get("$defs", {}).values()]
    return sorted({key for block in blocks for key in block.get("properties", {})})


def profile_names(folder: Path) -> list[str]:
    """Return the names of csd's profiles and of a project's own."""
    return sorted({path.stem for each in (PROFILES, folder) for path in each.glob("*.yaml")})


def profile_file(folder: Path, name: str) -> Path:
    """Return the file of a profile: the project's own, if it has one of that name.

    Raises:
        ParamsError: if there is no such profile.
    """
    for path in (folder / f"{name}.yaml", PROFILES / f"{name}.yaml"):
        if path.is_file():
            return path
    raise ParamsError(f"profile {name}: there is no such profile; known: {', '.join(profile_names(folder))}")


def profile_text(folder: Path, name: str) -> str:
    """Return the params.yaml that a profile stands for, with comments.

    Raises:
        ParamsError: if there is no such profile or one extends itself.
    """
    *overlays, whole = _chain(folder, name)
    if not overlays:
        return whole.read_text(encoding="utf-8")
    document = read_document(whole)
    for overlay in reversed(overlays):
        changes = read_document(overlay)
        del changes["extends"]
        merge(document, changes)
    return f"{_about(overlays[0])}{dump(document)}"


def _chain(folder: Path, name: str) -> list[Path]:
    """Return the profile's file, that which it extends, and so on to the one that is whole."""
    chain: list[Path] = []
    following: Any = name
    while following is not None:
        if not isinstance(following, str) or not _PROFILE.fullmatch(following):
            at = f"{chain[-1]}: extends" if chain else "profile"
            raise ParamsError(
                f"{at}: {following!r}: is no profile's name; write one of {', '.join(profile_names(folder))}"
            )
        path = profile_file(folder, following)
        if path in chain:
            raise ParamsError(f"{path}: extends itself; remove its `extends`")
        chain.append(path)
        values = read_yaml(path)
        following = values.get("extends") if isinstance(values, dict) else None
    return chain


_PROFILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")


def _about(profile: Path) -> str:
    """Return the comment that a profile begins with."""
    lines = profile.read_text(encoding="utf-8").removeprefix("\ufeff").splitlines(keepends=True)
    return "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


def merge(document: CommentedMap, changes: Mapping[str, Any], *, top: bool = True) -> None:
    """Put changes into a document, key by key; at the top, blocks in REPLACED are replaced whole."""
    for key, value in changes.items():
        whole = (top and key in REPLACED) or key == "schedule"  # half of another schedule's keys make none
        if isinstance(value, Mapping) and isinstance(document.get(key), Mapping) and not whole:
            merge(document[key], value, top=False)
        elif isinstance(document.get(key), CommentedMap) and isinstance(value, CommentedMap):
            _replace(document[key], value)
        else:
            document[key] = value


def _replace(block: CommentedMap, value: CommentedMap) -> None:
    """Fill a block again; the comment behind its key and the blank line after it stay."""
    after = trailing_comment(block)
    for key in list(block):
        del block[key]
    block.ca.items.clear()
    for key, item in value.items():
        block[key] = plain(item)
    block.fa.set_block_style()
    if after is not None:
        _set_trailing_comment(block, after)


def plain(item: Any) -> Any:
    """Return a value without the comments it had elsewhere; small maps on one line."""
    if isinstance(item, Mapping):
        copy = CommentedMap((key, plain(value)) for key, value in item.items())
        if not any(isinstance(value, Mapping) for value in item.values()):
            copy.fa.set_flow_style()
        return copy
    return item


def _last(block: CommentedMap) -> tuple[CommentedMap, Any] | None:
    """Return the map and key that end a block's text."""
    if not block:
        return None
    key = list(block)[-1]
    value = block[key]
    if isinstance(value, CommentedMap) and value and not value.fa.flow_style():
        return _last(value)
    return block, key


def trailing_comment(block: CommentedMap) -> Any:
    """Return the comment that ends a block's text."""
    last = _last(block)
    return last[0].ca.items.get(last[1]) if last else None


def _set_trailing_comment(block: CommentedMap, comment: Any) -> None:
    last = _last(block)
    if last:
        last[0].ca.items[last[1]] = comment


def use_profile(params_file: Path, folder: Path, name: str, *, force: bool = False) -> None:
    """Make params.yaml the one a profile stands for.

    Args:
        params_file: params.yaml; may be missing.
        folder: Where the project's own profiles lie.
        name: The profile.
        force: Overwrite edits that are saved nowhere else.

    Raises:
        ParamsError: if there is no such profile, or edits would be lost.
    """
    text = profile_text(folder, name)
    if params_file.is_file() and not force and not _saved_elsewhere(params_file, folder):
        raise ParamsError(
            f"{params_file}: has edits that are neither committed nor a profile; commit them, save them as "
            f"{folder}/NAME.yaml, or overwrite them with --force"
        )
    write_checked(params_file, text)


def _saved_elsewhere(params_file: Path, folder: Path) -> bool:
    now = params_file.read_text(encoding="utf-8")
    if not now.strip():
        return True  # an empty file has no edits to lose
    for name in profile_names(folder):
        with suppress(ParamsError, UnicodeDecodeError):  # a broken profile is none that it was saved as
            begins_alike = now.removeprefix("\ufeff").startswith(_about(profile_file(folder, name)))
            if begins_alike and now == profile_text(folder, name):  # the text takes a moment to make
                return True
    return answer(params_file.parent, "show", f"HEAD:./{params_file.name}") == now.rstrip("\n")


def write_checked(params_file: Path, text: str) -> None:
    """Write only what is valid.

    Raises:
        ParamsError: if it is not; the file is then as it was.
    """
    with atomic_file(params_file.with_name(f".{params_file.name}.checked")) as trial:
        trial.write_text(text, encoding="utf-8")
        try:
            load_params(trial)
        except ParamsError as error:
            raise ParamsError(str(error).replace(str(trial), str(params_file))) from None
    params_file.with_name(f".{params_file.name}.checked").unlink()
    write_text(params_file, text)
