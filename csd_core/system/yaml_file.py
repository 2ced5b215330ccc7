"""YAML that every reader reads alike.

csd edits params.yaml with ruamel's Python parser, for that one keeps comments; DVC reads the same file with the C
parser, where it is installed. The two disagree: `{a: shoe:left}` is a string to one and a mistake to the other. So
every file is read with both, and what is written is quoted unless it is plainly a word.
"""

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.representer import RoundTripRepresenter

from csd_core.system.errors import ParamsError

QUOTES = "put text with signs such as : # , ? [ ] { } in double quotes"
"""The remedy for most mistakes in a YAML file."""

_WORD = re.compile(r"[A-Za-z_/][A-Za-z0-9_/.+-]*(?: [A-Za-z0-9_/.+][A-Za-z0-9_/.+-]*)*")
_NO_WORD = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""Words that some YAML parser takes for a value of another type, in any case of letters."""


def read_yaml(path: Path) -> Any:
    """Return the plain values of a YAML file.

    Raises:
        ParamsError: if it is missing, is not YAML (a repeated key is not), or is read differently by DVC's parser.
    """
    return parse_yaml(_text_of(path), where=str(path))


def parse_yaml(text: str, *, where: str) -> Any:
    """Return the plain values of YAML text.

    Args:
        text: The text.
        where: What to call it in a message.

    Raises:
        ParamsError: if it is not YAML, or DVC's parser and the one that edits read different values.
    """
    ours, theirs = (_node(text, where, pure=pure) for pure in (True, False))
    place = _difference(ours, theirs, set())
    if place is not None:
        line, column = place.start_mark.line + 1, place.start_mark.column + 1
        raise ParamsError(f"{where}: line {line}, column {column}: YAML parsers read this differently; {QUOTES}")
    try:
        return YAML(typ="safe").load(text)
    except Exception as error:  # noqa: BLE001 - a constructor raises anything: 2026-13-45 is a ValueError
        raise ParamsError(f"{where}: {_explained(error)}") from None


def read_document(path: Path) -> CommentedMap:
    """Return a YAML file with its comments, to be edited and written by `dump`.

    Raises:
        ParamsError: if it cannot be read, or not so that an edit keeps what it says.
    """
    return document_of(_text_of(path), where=str(path))


def document_of(text: str, *, where: str) -> CommentedMap:
    """Return YAML text with its comments, as `read_document` does of a file.

    Raises:
        ParamsError: as there; `where` is what to call the text.
    """
    values = parse_yaml(text, where=where)
    if not isinstance(values, dict):
        raise ParamsError(f"{where}: holds no keys; write `key: value` lines")
    document = _editor().load(text)
    if not same_values(document, values):
        raise ParamsError(f"{where}: cannot be edited without changing other values; {QUOTES}")
    return document  # type: ignore[no-any-return]  # ruamel's loader is not typed


def dump(document: Mapping[str, Any]) -> str:
    """Return a document as text that every parser reads as the same values.

    Raises:
        ParamsError: if there is no such text, as for half of a surrogate pair.
    """
    text = io.StringIO()
    _editor().dump(document, text)
    if not same_values(document, parse_yaml(text.getvalue(), where="the file to be written")):
        raise ParamsError(f"the file to be written: would not be read back as it was meant; {QUOTES}")
    return text.getvalue()


def same_values(one: Any, other: Any) -> bool:
    """Return whether two YAML values are equal, types and the order of keys included."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return same_values(list(one), list(other)) and all(same_values(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same_values, one, other))
    for kind in (bool, int, float, str):
        if isinstance(one, kind) or isinstance(other, kind):
            alike = isinstance(one, kind) and isinstance(other, kind)
            return alike and (one == other or (one != one and other != other))  # noqa: PLR0124 - not a number
    return bool(one == other)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParamsError(
            f"{path}: there is no such file; run `csd profile use digits`, or go to the project"
        ) from None
    except UnicodeDecodeError:
        raise ParamsError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise ParamsError(f"{path}: cannot be read: {error.strerror}; make it a file that you may read") from None


def _node(text: str, where: str, *, pure: bool) -> Node | None:
    """Return the parsed tree. DVC calls `YAML(typ="safe")`, which takes the C parser if it is there."""
    try:
        return YAML(typ="safe", pure=pure).compose(text)  # type: ignore[no-any-return]  # ruamel is not typed
    except Exception as error:  # noqa: BLE001 - text that nests too deeply is a RecursionError
        raise ParamsError(f"{where}: {_explained(error)}") from None


def _explained(error: Exception) -> str:
    if isinstance(error, MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "somewhere"
        return f"{place}: {error.problem or error.context}; fix the YAML: {QUOTES}"
    if isinstance(error, RecursionError):
        return "nests too deeply; fix the YAML"
    lines = str(error).strip().splitlines()
    return f"{lines[0] if lines else type(error).__name__}; fix the YAML: {QUOTES}"


def _difference(ours: Node | None, theirs: Node | None, seen: set[tuple[int, int]]) -> Node | None:
    """Return the first node that two parsers of one text read differently; None where they agree."""
    if ours is None or theirs is None:
        return ours or theirs
    if (id(ours), id(theirs)) in seen:  # an alias leads back to its anchor
        return None
    seen.add((id(ours), id(theirs)))
    if type(ours) is not type(theirs) or ours.tag != theirs.tag:
        return ours
    if isinstance(ours, ScalarNode):
        return None if ours.value == theirs.value else ours
    inner = list(zip(_children(ours), _children(theirs), strict=False))
    if len(_children(ours)) != len(_children(theirs)):
        return ours
    return next((found for pair in inner if (found := _difference(*pair, seen)) is not None), None)


def _children(node: Node) -> list[Node]:
    if isinstance(node, MappingNode):
        return [each for pair in node.value for each in pair]
    return list(node.value) if isinstance(node, SequenceNode) else []


class _Representer(RoundTripRepresenter):
    """Writes `null` as such and quotes text; a class of its own, for ruamel keeps representers on the class."""


def _represent_text(representer: RoundTripRepresenter, text: str) -> ScalarNode:
    plain = _WORD.fullmatch(text) and text.casefold() not in _NO_WORD
    return representer.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')


_Representer.add_representer(
    type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
)
_Representer.add_representer(str, _represent_text)


def _editor() -> YAML:
    """Return a YAML that keeps comments and quotes."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = 200
    yaml.preserve_quotes = True
    return yaml
