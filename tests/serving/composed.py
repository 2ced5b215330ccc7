"""A compose file as compose reads it."""

import re
from pathlib import Path

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]


def interpolated(text, given):
    """As compose does it; KeyError carries the message of a variable that must be set."""

    def value(match):
        name, kind, rest = match["name"], match["kind"], match["rest"]
        if given.get(name):
            return given[name]
        if kind == ":?":
            raise KeyError(rest)
        return rest or ""

    return re.sub(r"\$\{(?P<name>\w+)(?:(?P<kind>:[?-])(?P<rest>[^}]*))?\}", value, text)


def composed(file, given):
    """What a file says where these variables are set."""
    return YAML(typ="safe", pure=True).load(interpolated((ROOT / file).read_text(), given))
