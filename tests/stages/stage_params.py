"""params.yaml of a project that stages run in."""

from collections.abc import Callable
from pathlib import Path

from ruamel.yaml import YAML


def change_params(root: Path, change: Callable[[dict], None]) -> None:
    """Edit params.yaml in place."""
    values = YAML(typ="safe").load(root / "params.yaml")
    change(values)
    with (root / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(values, file)
