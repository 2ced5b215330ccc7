"""What the service answers, as its client hands it on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

Answer = TypeVar("Answer")


class Embedded(NamedTuple):
    """Vectors of images."""

    vectors: npt.NDArray[np.float32]
    """(N, D) of unit length."""
    model: str
    """Digest of the model that made them; a search by a vector names it."""
    release: int
    others: Mapping[str, npt.NDArray[np.float32]] = MappingProxyType({})
    """Digest of each other query model of the release -> (N, D) of the same images."""

    def query(self, number: int) -> dict[str, npt.NDArray[np.float32]]:
        """Return the vectors of one image by every query model, for a search by `vectors`."""
        return {model: vectors[number] for model, vectors in {self.model: self.vectors, **self.others}.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A row of the gallery.

    Attributes:
        id: Its name.
        label: Its class.
        task: The task it came with.
        score: What the ranking is by: the cosine, or what a map of the row's group makes of it.
        embedded_by: Digest of the model that embedded it.
        generation: The release that first served that model.
        space: Digest of the model whose space the vector is in.
        origin: pipeline or live.
        cosine: Of the query's vector and the row's; None from an older service.
        found_by: Digest of the model that embedded the query for this row; None from an older service.
        source: Where the pipeline has the item from; None if a person wrote it, or nobody knows.
        path: Its path there, or the name that its writer gave; None if it has none.
        name: The last part of the path.
    """

    id: str
    label: str
    task: str
    score: float
    embedded_by: str
    generation: int | None
    space: str
    origin: str
    cosine: float | None = None
    found_by: str | None = None
    source: str | None = None
    path: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """Neighbours of a query, nearest first, all from one release.

    Attributes:
        hits: The neighbours.
        release: Number of the release that answered.
        model: Digest of its query model.
        variant: fp32 or int8.
        rows: Of the gallery.
        exact: Every row was compared.
        query_models: Digests of all models that embedded the query; empty from an older service.
    """

    hits: tuple[Neighbour, ...]
    release: int
    model: str
    variant: str
    rows: int
    exact: bool
    query_models: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """A written item.

    Attributes:
        id: Its name.
        label: Its class.
        release: In whose gallery it is.
        model: Digest of the model that embedded it.
        replaced: There was one of this name.
    """

    id: str
    label: str
    release: int
    model: str
    replaced: bool


def parsed(kind: type[Answer], values: Mapping[str, Any]) -> Answer:
    """Return the fields that this client knows; a newer service may send more, an older one fewer."""
    names = [field.name for field in fields(kind) if field.name in values]  # type: ignore[arg-type]  # dataclasses all
    return kind(**{name: values[name] for name in names})
