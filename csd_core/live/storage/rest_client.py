"""LanceDB's client of REST catalogues, which nothing here uses, is loaded only if something asks for it.

LanceDB needs its data classes alone. The rest takes half of the time that `import lancedb` takes.
"""

import sys
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any

PACKAGE = "lance_namespace_urllib3_client"


class _OnDemand(ModuleType):
    """A package that runs its own `__init__` when something is asked of it that it has not got yet."""

    def __getattr__(self, name: str) -> Any:
        if self.__spec__ is None or self.__spec__.loader is None or name.startswith("__"):
            raise AttributeError(name)
        self.__class__ = ModuleType  # type: ignore[assignment]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def defer_rest_client() -> None:
    """Let the client wait, unless it is loaded already; call it before LanceDB is imported."""
    spec = None if PACKAGE in sys.modules else find_spec(PACKAGE)
    if spec is not None:
        sys.modules[PACKAGE] = module_from_spec(spec)
        sys.modules[PACKAGE].__class__ = _OnDemand
