"""The folder of one cell: a small DVC project of its own, whose cache it shares with all others of the comparison.

cells/<profile>/<contender>/seed-<n>/
    csd_core/ dvc.yaml .dvcignore     the code and the project's stages, copied when they change
    params.yaml                       the cell's
    .dvc/config                       no git; cache in <comparison>/cache
    .csd/                             checkpoints of unfinished stages
    cell.log                          all that DVC and the stages printed, run after run
    timings.json                      Timings
    measures.json                     CellMeasures, once the cell is finished
"""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from csd_core.code_digest.digest import CodeTree as Installed
from csd_core.comparison.running.runs import Cell
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import DataError

SINGLE_FILES = ("dvc.yaml", ".dvcignore")
PACKAGE = "csd_core"
LEFT_OUT = frozenset({"__pycache__", ".mypy_cache", ".ruff_cache"})


@dataclass(frozen=True, slots=True)
class Code:
    """The code that a project's stages run, as it was when the comparison started, so that all cells have the same.

    Attributes:
        files: Path below a cell's folder -> content.
    """

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """sha256 over names and content."""
        found = hashlib.sha256()
        for name, content in sorted(self.files.items()):
            found.update(f"{name} {len(content)}\n".encode() + content)
        return found.hexdigest()

    @classmethod
    def of(cls, project: Path) -> Self:
        """Read it.

        Raises:
            DataError: if this is no project.
        """
        for path in (project / name for name in SINGLE_FILES):
            if not path.exists():
                raise DataError(f"{path}: there is no such file; go to the project's folder, or run `csd init`")
        files = {name: (project / name).read_bytes() for name in SINGLE_FILES}
        root = Installed.of(project).root
        for path in sorted((root / PACKAGE).rglob("*")):
            name = path.relative_to(root)
            if path.is_file() and not LEFT_OUT & set(name.parts):
                files[name.as_posix()] = path.read_bytes()
        return cls(files=files)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where one cell is run.

    Attributes:
        root: Its folder.
        comparison: The comparison's folder.
    """

    root: Path
    comparison: Path

    @classmethod
    def of(cls, cell: Cell, comparison: Path) -> Self:
        """Return the cell's place below a comparison's folder."""
        return cls(root=comparison / cell.path, comparison=comparison)

    @property
    def log(self) -> Path:
        """All that DVC and the stages printed."""
        return self.root / "cell.log"

    @property
    def timings(self) -> Path:
        """Seconds of the stages that ran."""
        return self.root / "timings.json"

    @property
    def measures(self) -> Path:
        """What the finished cell measured."""
        return self.root / "measures.json"

    def set_up(self, code: Code, params: str) -> None:
        """Bring code, parameters and DVC's configuration up to date; what is equal is not touched."""
        cache = os.path.relpath(self.comparison / "cache", self.root / ".dvc")
        config = (
            "[core]\n    analytics = false\n    check_update = false\n    no_scm = true\n"
            f'[cache]\n    dir = {Path(cache).as_posix()}\n    type = "reflink,hardlink,symlink,copy"\n'
        )
        wanted = {**code.files, "params.yaml": params.encode(), ".dvc/config": config.encode()}
        for name, content in wanted.items():
            path = self.root / name
            if not path.is_file() or path.read_bytes() != content:
                with atomic_file(path) as partial:
                    partial.write_bytes(content)
        for path in (self.root / PACKAGE).rglob("*"):
            known = path.relative_to(self.root).as_posix() in code.files
            if path.is_file() and not known and not LEFT_OUT & set(path.parts):
                path.unlink()
