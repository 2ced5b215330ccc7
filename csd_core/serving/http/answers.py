"""What the service answers, as pydantic models: the OpenAPI document is made of them."""

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Message(BaseModel):
    """A JSON document of the service."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class _Answer(Message):
    release: int
    """Number of the release that answered."""
    model: str
    """Digest of its model that embedded the query."""


class EmbedAnswer(_Answer):
    """Vectors of images."""

    variant: Literal["fp32", "int8"]
    dimension: int
    vectors: list[list[float]]
    """One of unit length for each image."""
    others: dict[str, list[list[float]]] = {}
    """The same images by the other query models of the release, by their digests."""


class _Named(Message):
    """What people know an item by."""

    id: str
    label: str
    source: str | None = None
    """Where the pipeline has it from, a key of params.yaml; null if a person wrote it, or it is not known."""
    path: str | None = None
    """Its path in the source, or the name that the writer gave; null if there is none."""
    name: str | None = None
    """The last part of the path."""


class Hit(_Named):
    """A row of the gallery."""

    task: str
    score: float
    """What the ranking is by: the cosine, or what a map of the row's group makes of it."""
    cosine: float
    """Of the query's vector and the row's."""
    found_by: str
    """Digest of the model that embedded the query for this row."""
    embedded_by: str
    """Digest of the model that embedded it."""
    generation: int | None
    """The release that first served that model; null if it never was active."""
    space: str
    """Digest of the model whose space the vector is in; another than `embedded_by` if an adapter mapped it."""
    origin: str
    """pipeline or live."""


class SearchAnswer(_Answer):
    """Neighbours of a query, nearest first."""

    variant: Literal["fp32", "int8"]
    query_models: list[str]
    """Digests of all models that embedded the query; `model` is the first."""
    rows: int
    """Of the gallery."""
    exact: bool
    """Every row was compared; otherwise an index chose."""
    hits: list[Hit]


class PutAnswer(Message):
    """A written item."""

    id: str
    label: str
    release: int
    model: str
    """Digest of the model that embedded it."""
    replaced: bool
    """An item of this id was there."""


class ItemAnswer(_Named):
    """What is known of an item."""

    task: str
    split: str
    origin: str
    embedded_by: str
    generation: int | None
    space: str
    adapters: list[str]
    """Digests of what mapped its vector since."""
    written_at: datetime
    has_image: bool


class ItemName(_Named):
    """An item of the gallery."""


def named(source: str | None, path: str | None) -> dict[str, str | None]:
    """Return the fields of _Named that follow from a row's source and path; the empty text is none."""
    return {"source": source or None, "path": path or None, "name": (path or "").rpartition("/")[2] or None}


class ItemsAnswer(Message):
    """Some items, spread evenly over the gallery."""

    release: int
    items: list[ItemName]


class LabelCount(Message):
    """A class and its items."""

    label: str
    items: int


class LabelsAnswer(Message):
    """The classes of the gallery, ascending."""

    release: int
    labels: list[LabelCount]


class ReleaseAnswer(Message):
    """A release."""

    number: int
    kind: str
    task: str
    strategy: str
    model: str
    query_models: list[str]
    """Digests of the models whose queries search the rows; `model` is the first."""
    rows: int
    created: str
    by: str
    why: str
    retired: bool
    """Its model and rows are gone."""


class VerdictAnswer(Message):
    """What the gate decided about the release's model."""

    outcome: str
    strategy: str | None
    reasons: list[str]


class ReleaseWithVerdict(ReleaseAnswer):
    """A release and its verdict."""

    verdict: VerdictAnswer


class ReleasesAnswer(Message):
    """The releases, newest first."""

    active: int | None
    served: int | None
    """The one that this process answers from."""
    releases: list[ReleaseAnswer]


class RefusedAnswer(Message):
    """A release that is active but not served."""

    release: str
    reason: str


class ReadyAnswer(Message):
    """What this process serves."""

    status: Literal["ready", "degraded"]
    """degraded: the active release is not served yet, or was refused; or releases or gallery cannot be read."""
    release: int
    """The one that answers."""
    active: int
    """The one that was active at the last look; another one than `release` while this process lags behind."""
    seconds_since_look: float
    """Age of that look; it grows while the releases cannot be read."""
    model: str
    variant: str
    query_models: list[str]
    """Digests of all models that embed a query; `model` is the first."""
    rows: int
    refused: RefusedAnswer | None
    trouble: str | None
    """Why the rows may be old, and writes are refused."""


class AliveAnswer(Message):
    """The process answers."""

    status: Literal["alive"]
