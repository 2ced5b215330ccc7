"""What a stage's outcome depends on of the code: the modules it may import, and a digest of what they compute.

Imports are read from the source, those inside functions too. Modules among which a parameter chooses count only where
they are chosen (`csd_core.params.choices`).
"""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Self

from csd_core.code_digest.form import form_of, imports_of

PACKAGE = "csd_core"

FRAME = frozenset(
    f"{PACKAGE}.{name}"
    for name in (
        "params",
        "params.choices",
        "params.edits",
        "params.file",
        "params.methods",
        "params.model",
        "params.rules",
        "params.section",
        "params.sources",
        "params.training",
        "params.upgrade",
        "stages.entry",
        "system",
        "system.atomic",
        "system.children",
        "system.console",
        "system.endings",
        "system.errors",
        "system.git",
        "system.locks",
        "system.output",
        "system.parent",
        "system.processes",
        "system.programs",
        "system.yaml_file",
        "workspace",
    )
)
"""Modules that compute nothing: parameters, which DVC sees by their values, names of files, messages, starts and ends.
A change in them makes no artefact stale."""

BASIS = (f"{PACKAGE}.stages.environment",)
"""Modules that every stage depends on, though the frame imports them."""

REGISTRIES = frozenset(f"{PACKAGE}.{name}" for name in ("data.sources.registry", "stages.ingest"))
"""Modules that import inside functions what a parameter chooses: followed only where it is chosen."""

CHILDREN = {f"{PACKAGE}.data.decoder_processes": (f"{PACKAGE}.data.decoder_child",)}
"""Modules that a module starts as processes of their own, so that no import names them."""


class CodeTree:
    """The modules of csd below a folder.

    Attributes:
        root: Folder that holds the package.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = cache(self._file)
        self.imports = cache(self._imports)
        self._of_module = cache(self._module_form)

    @classmethod
    def of(cls, project: Path) -> Self:
        """Return the code that a project's stages run: the installed csd, or a checkout's own."""
        beside = (project / PACKAGE / "stages" / "code.py").is_file()
        return cls(project if beside else Path(__file__).parents[2])

    def closure(self, module: str, *chosen: str) -> frozenset[str]:
        """Return the modules that a stage may load, but for those reached through the frame alone.

        Args:
            module: The stage's.
            chosen: Modules that its parameters choose.
        """
        found: set[str] = set()
        waiting = [each for name in (module, *chosen, *BASIS) for each in self._known(name)]
        while waiting:
            name = waiting.pop()
            if name not in found and name not in FRAME:
                found.add(name)
                waiting.extend((*self.imports(name), *CHILDREN.get(name, ())))
        return frozenset(found)

    def digest(self, modules: Iterable[str], *facts: str) -> str:
        """Return sha256 over what modules compute, the data files of the package they name, and further facts."""
        seen = sorted(modules)
        code = {name: self._of_module(name) for name in seen}
        data = {path.relative_to(self.root).as_posix(): _sha256(path) for path in self.data_files(seen)}
        whole = json.dumps([code, data, facts], sort_keys=True)
        return hashlib.sha256(whole.encode()).hexdigest()

    def data_files(self, modules: Iterable[str]) -> list[Path]:
        """Return the files beside modules, other than code, that these name, or that such files name in turn."""
        found: set[Path] = set()
        for folder in {self.file(name).parent for name in modules}:
            here = [path for path in folder.iterdir() if path.is_file() and path.suffix not in {".py", ".pyc"}]
            names = [file for file in map(self.file, modules) if file.parent == folder]
            while True:
                texts = "".join(file.read_text(encoding="utf-8") for file in names)
                named = [path for path in here if path.name in texts and path not in names]
                if not named:
                    break
                names += named
            found.update(path for path in names if path.suffix != ".py")
        return sorted(found)

    def _file(self, module: str) -> Path:
        path = self.root.joinpath(*module.split("."))
        return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")

    def _tree(self, module: str) -> ast.Module:
        return ast.parse(self.file(module).read_text(encoding="utf-8"))

    def _module_form(self, module: str) -> str:
        return hashlib.sha256(json.dumps(form_of(self._tree(module))).encode()).hexdigest()

    def _imports(self, module: str) -> frozenset[str]:
        """Modules of the package that a module imports, and the packages they lie in."""
        found: set[str] = set()
        for node in imports_of(self._tree(module), inside_functions=module not in REGISTRIES):
            for name in _names(node, module, is_package=self.file(module).name == "__init__.py"):
                found.update(self._known(name))
        return frozenset(found - {module})

    def _known(self, name: str) -> Iterator[str]:
        """Yield the part of a dotted name that is a module of the package, and every package it lies in."""
        parts = name.split(".")
        if parts[0] != PACKAGE:
            return
        for length in range(1, len(parts) + 1):
            module = ".".join(parts[:length])
            if not self.file(module).is_file():
                return
            yield module


def _names(node: ast.Import | ast.ImportFrom, module: str, *, is_package: bool) -> Iterator[str]:
    """Dotted names that an import may load, some of which are no modules but what these hold."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    start = node.module or ""
    if node.level:
        parts = module.split(".")
        base = parts[: len(parts) - node.level + is_package]
        start = ".".join([*base, *([start] if start else [])])
    yield from (f"{start}.{alias.name}" for alias in node.names)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
