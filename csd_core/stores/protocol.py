"""What every vector store does for an upgrade: rows in batches, a second vector beside the first, switch, undo.

A store holds at most one upgrade at a time, known by its key: it is being written, or it is active and the vectors
before it are kept for an undo. What a killed process had written is there when it asks again.
"""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from importlib import import_module
from types import ModuleType
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

Strings = npt.NDArray[np.str_]
Floats = npt.NDArray[np.float32]

BATCH_ROWS = 8192
"""Rows that are read, and written, at a time."""


class Rows(NamedTuple):
    """Rows of a store.

    Attributes:
        ids: (n,) in the store's own words; numbers are written in decimal.
        vectors: (n, D) float32 as they are stored, of any length.
    """

    ids: Strings
    vectors: Floats


class Held(NamedTuple):
    """The upgrade that a store holds.

    Attributes:
        key: Of its plan.
        active: Whether searches see its vectors; the vectors before it are kept.
    """

    key: str
    active: bool


class Store(Protocol):
    """A table, collection or file of vectors.

    Attributes:
        name: For messages; a password is not part of it.
    """

    name: str

    def alone(self) -> AbstractContextManager[None]:
        """Keep other upgrades out of the store; a killed process keeps nobody out.

        Raises:
            BusyError: if another one is at work.
        """

    def count(self) -> int:
        """Return the number of rows, with those that have no vector."""

    def rows(self) -> Iterator[Rows]:
        """Yield the rows that have a vector, with the active one.

        Raises:
            CompatibilityError: if vectors have different dimensions.
        """

    def held(self) -> Held | None:
        """Return the upgrade that the store holds."""

    def begin(self, key: str, dimension: int) -> None:
        """Make room for second vectors of `dimension`, unless it is there."""

    def write(self, key: str, rows: Rows) -> None:
        """Write second vectors, whole or not at all; rows that are gone by now are passed over."""

    def beside(self, key: str) -> Iterator[Rows]:
        """Yield the second vectors that are written."""

    def discard(self, key: str, ids: Strings) -> None:
        """Remove the second vectors of some rows; rows that are gone or have none are passed over."""

    def switch(self, key: str) -> None:
        """Make the second vectors the active ones, in one step that searches cannot see half done."""

    def undo(self, key: str) -> None:
        """Make the vectors before the upgrade the active ones again, in one step; the second ones stay beside them."""

    def clean(self, key: str) -> None:
        """Remove what is not active: the vectors before the upgrade, or those of one that is not active."""

    def close(self) -> None:
        """Let go of connections."""


def stacked(ids: Iterable[object], vectors: list[npt.NDArray[np.float32]], where: str) -> Rows:
    """Return rows of single vectors.

    Raises:
        CompatibilityError: if they have different dimensions.
    """
    dimensions = sorted({len(each) for each in vectors})
    if len(dimensions) > 1:
        raise CompatibilityError(
            f"{where}: has vectors of {' and '.join(map(str, dimensions))} dimensions; keep rows of one model in a "
            "column or collection of their own"
        )
    names = np.array([str(each) for each in ids], np.str_)
    return Rows(names, np.array(vectors, np.float32).reshape(len(names), dimensions[0] if dimensions else 0))


def refuse_other(held: Held | None, key: str, where: str) -> None:
    """One upgrade at a time.

    Raises:
        ArtifactError: if the store holds another one.
    """
    if held is not None and held.key != key:
        what = "the vectors before upgrade" if held.active else "unfinished vectors of upgrade"
        raise ArtifactError(
            f"{where}: still holds {what} {held.key}; remove them with `csd upgrade clean` and that plan, then apply "
            "this one"
        )


def library(module: str, *, extra: str) -> ModuleType:
    """Return a module that only some stores need.

    Raises:
        ParamsError: if it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        raise ParamsError(f"{error.name} is not installed; pip install 'csd[{extra}]'") from None
