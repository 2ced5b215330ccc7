"""A cell of a comparison: one profile, one contender, one seed, and the params.yaml that stands for them."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from csd_core.comparison.running.presets import Overrides, preset
from csd_core.comparison.running.spec import Spec
from csd_core.params.file import explain, merge, profile_text
from csd_core.params.model import Params
from csd_core.params.training import DEFAULT
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import dump, parse_yaml

CELLS = "cells"
"""Below a comparison's folder: where its cells run."""

CHEAP: Overrides = {
    "export": {"quantize": "none"},
    "upgrade": {"partial": {"shares": []}},
    "report": {"example_queries": 0},
}
"""What no comparison measures is not computed; a profile or contender may ask for it."""


class Cell(NamedTuple):
    """One run of the pipeline.

    Attributes:
        profile: A profile of the comparison.
        contender: One of its contenders.
        seed: Of training and split.
    """

    profile: str
    contender: str
    seed: int

    def __str__(self) -> str:
        return f"{self.profile}/{self.contender}/{self.seed}"

    @property
    def path(self) -> Path:
        """Below the comparison's folder."""
        return Path(CELLS) / self.profile / self.contender / f"seed-{self.seed}"


@dataclass(frozen=True, slots=True)
class CellParams:
    """The parameters of a cell.

    Attributes:
        values: Plain values of its params.yaml.
        params: The same, checked.
        digest: sha256 of all but `runtime`, on which no artefact depends, and with paths as they are written, so that
            it does not depend on where the project lies.
    """

    values: dict[str, Any]
    params: Params
    digest: str

    def text(self) -> str:
        """Return its params.yaml."""
        return dump(self.values)


def cells_of(spec: Spec, only: Sequence[str] = ()) -> tuple[Cell, ...]:
    """Return every cell, those of the first seed first, so that a comparison that is stopped early has all contenders.

    Args:
        spec: The comparison.
        only: Patterns PROFILE/CONTENDER/SEED with * and ?; parts left out at the end mean all. None: every cell.

    Raises:
        ParamsError: if a pattern fits no cell.
    """
    every = tuple(_all(spec))
    if not only:
        return every
    chosen: set[Cell] = set()
    for pattern in only:
        parts = [*pattern.split("/"), "*", "*"][: max(3, pattern.count("/") + 1)]
        fitting = {cell for cell in every if fnmatchcase(str(cell), "/".join(parts))}
        if not fitting:
            raise ParamsError(f"--only {pattern}: fits no cell; give PROFILE/CONTENDER/SEED as in {every[0]}, with *")
        chosen |= fitting
    return tuple(cell for cell in every if cell in chosen)


def _all(spec: Spec) -> Iterator[Cell]:
    for seed in spec.seeds:
        for profile in spec.profiles:
            for name, contender in spec.contenders.items():
                here = contender.profiles is None or profile in contender.profiles
                if here and (contender.seeds is None or seed in contender.seeds):
                    yield Cell(profile, name, seed)


def params_of(spec: Spec, *, project: Path, where: str) -> dict[Cell, CellParams]:
    """The parameters of every cell: profile, its overrides, the method's preset, the contender's overrides, the seed.

    Every candidate is promoted, old rows re-embedded, whatever the gate says of it, so that all contenders are
    measured along the whole line of tasks; what the gate would have decided can be read from check.json.

    Args:
        spec: The comparison.
        project: Folder of the project, to which relative paths in its profiles refer.
        where: Name of the comparison's file, for messages.

    Raises:
        ParamsError: if a profile is unknown or the parameters of a cell are not valid.
    """
    profiles = {name: _profile(project, name, where) for name in spec.profiles}
    return {cell: _params(spec, cell, deepcopy(profiles[cell.profile]), project, where) for cell in cells_of(spec)}


def _profile(project: Path, name: str, where: str) -> dict[str, Any]:
    try:
        text = profile_text(project / "profiles", name)
    except ParamsError as error:
        raise ParamsError(f"{where}: profiles: {error}") from None
    values: dict[str, Any] = parse_yaml(text, where=f"profile {name}")
    return values


def _params(spec: Spec, cell: Cell, values: Any, project: Path, where: str) -> CellParams:
    method = spec.method_of(cell.contender)
    overrides = (
        CHEAP,
        spec.profiles[cell.profile],
        preset(method) if method else {},
        spec.contenders[cell.contender].overrides,
        {"training": {"seed": cell.seed}, "split": {"seed": cell.seed}},
    )
    for changes in overrides:
        merge(values, changes, top=False)
    _promote_every_candidate(values)
    try:
        digest = _digest(Params.model_validate(values))
        _anchor(values, project.absolute())
        return CellParams(values=values, params=Params.model_validate(values), digest=digest)
    except ValidationError as error:
        mistakes = [f"{where}: {_place(spec, cell, each['loc'])}{explain(each)}" for each in error.errors()]
        raise ParamsError("\n".join(mistakes)) from None


def _digest(params: Params) -> str:
    facts = params.model_dump(mode="json", exclude={"runtime"})
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _place(spec: Spec, cell: Cell, keys: tuple[int | str, ...]) -> str:
    """Return where in the comparison's file a wrong parameter stands, as the beginning of a message."""
    contender = spec.contenders[cell.contender].overrides
    places = {
        f"contenders.{cell.contender}.overrides": contender,
        f"profiles.{cell.profile}": spec.profiles[cell.profile],
    }
    for place, values in places.items():
        inner: Any = values
        for key in keys:
            if isinstance(inner, dict) and key in inner:
                inner = inner[key]
                if key == keys[-1]:
                    return f"{place}."
    return f"{cell.profile} with {cell.contender}: "


def _promote_every_candidate(values: dict[str, Any]) -> None:
    tasks, gate = values["tasks"], values["gate"]
    if not (isinstance(tasks, dict) and tasks and isinstance(gate, dict)):
        return  # an override broke them, as the validation will say
    first, *later = tasks
    values["decisions"] = {first: "none", **dict.fromkeys(later, "backfill")}
    values["reviews"] = {}
    gate["allowed"] = ["keep", "adapt", "merge", "partial", "backfill"]


def _anchor(values: dict[str, Any], project: Path) -> None:
    """Make relative paths absolute: a cell has a folder of its own."""
    sources = [*values["sources"]["published"].values(), *values["sources"]["folders"].values()]
    for source in sources:
        if "path" in source:
            source["path"] = str(project / source["path"])
    weights = values["training"]["network"]["weights"]
    if weights not in (None, DEFAULT):
        values["training"]["network"]["weights"] = str(project / weights)
