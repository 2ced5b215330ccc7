"""Which method `training.later.method` names. A method's module is imported when it is asked for."""

from collections.abc import Iterator, Mapping
from importlib import import_module

from csd_core.learning.methods.protocol import Method
from csd_core.params import choices
from csd_core.params.methods import MethodName


class _Methods(Mapping[MethodName, type[Method]]):
    """Name -> class of a method."""

    def __getitem__(self, name: MethodName) -> type[Method]:
        module, _, method = choices.METHODS[name].partition(":")
        found: type[Method] = getattr(import_module(module), method)
        return found

    def __iter__(self) -> Iterator[MethodName]:
        return iter(choices.METHODS)

    def __len__(self) -> int:
        return len(choices.METHODS)


METHODS = _Methods()
