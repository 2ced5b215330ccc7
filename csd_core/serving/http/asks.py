"""What a client sends, as pydantic models: the OpenAPI document is made of them."""

import base64
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi.exceptions import RequestValidationError
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from starlette.datastructures import QueryParams

from csd_core.live.filters import Filters
from csd_core.live.text import LONGEST_ID
from csd_core.system.names import LONGEST_NAME, class_flaw, item_flaw

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNkEIAAJgGKGACOGAQAwSeVywAAAABJRU5ErkJggg=="
"""An 8 x 8 image as PNG in base64, for examples."""
LONGEST_VECTOR = 65_536
MOST_IMAGES = 1024
MOST_MODELS = 16
Text = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]+$")]


def _label(label: str) -> str:
    flaw = class_flaw(label)
    if flaw:
        raise ValueError(flaw)
    return label


def _name(name: str) -> str:
    flaw = item_flaw(name)
    if flaw:
        raise ValueError(flaw)
    return name


_PLAIN = Field(json_schema_extra={"pattern": r"^[^\x00-\x1f\x7f-\x9f]+$"})
"""In the document alone: what it refuses, `class_flaw` and `item_flaw` refuse with better words."""
Label = Annotated[Text, AfterValidator(_label), _PLAIN]
ItemNameText = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_NAME), AfterValidator(_name), _PLAIN]
Which = Literal["active", "before"]


def _from_base64(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("should be a string of base64")  # noqa: TRY004 - pydantic takes ValueError alone
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise ValueError("is not base64") from None


File = Annotated[
    bytes,
    BeforeValidator(_from_base64),
    WithJsonSchema({"type": "string", "contentEncoding": "base64", "examples": [PIXEL]}),
]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Asked(BaseModel):
    """A JSON document; an unknown key is a typo."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class EmbedAsk(_Asked):
    """Images to embed."""

    images: Annotated[list[File], Field(fail_fast=True, min_length=1, max_length=MOST_IMAGES)]
    """Image files (PNG, JPEG, ...) in base64."""


class FiltersAsk(_Asked):
    """Only rows for which all that is given holds."""

    label: Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=1000)] | None = None
    """Of one of these classes."""
    task: Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=1000)] | None = None
    """That came with one of these tasks."""
    origin: Annotated[list[Literal["pipeline", "live"]], Field(min_length=1, max_length=2)] | None = None
    """pipeline: published; live: written by people."""
    embedded_by: Annotated[list[Text], Field(fail_fast=True, min_length=1, max_length=100)] | None = None
    """Embedded by one of these models (digests)."""
    since: datetime | None = None
    """Written then or later; a time without a zone is UTC."""

    def filters(self) -> Filters:
        """Return them as the gallery takes them."""
        words = (self.label, self.task, self.origin, self.embedded_by)
        label, task, origin, embedded_by = (None if each is None else tuple(each) for each in words)
        return Filters(label=label, task=task, origin=origin, embedded_by=embedded_by, since=self.since)


class SearchParameters(FiltersAsk):
    """The query parameters of a search by a raw image; a JSON document has them itself."""

    k: Annotated[int, Field(ge=1)] = 10
    """Neighbours at most."""
    release: Which = "active"
    """The release that answers; `before` shows what the last upgrade changed."""

    @classmethod
    def of(cls, given: QueryParams) -> Self:
        """Return the parameters of an address.

        Raises:
            RequestValidationError: naming each that is wrong, as FastAPI does. Its own way of reading parameters takes
                longer than the search.
        """
        values = {name: given.getlist(name) if name in _LISTS else given[name] for name in given}
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise RequestValidationError(
                [{**each, "loc": ("query", *each["loc"])} for each in error.errors()]
            ) from None

    def ask(self, image: bytes) -> "SearchAsk":
        """Return the search by an image."""
        return SearchAsk.model_construct(image=image, k=self.k, filters=self, release=self.release)


_LISTS = frozenset({"label", "task", "origin", "embedded_by"})


class SearchAsk(_Asked):
    """A search by an image, by its vectors, or by an item of the gallery."""

    image: File | None = None
    """An image file in base64."""
    vector: Annotated[list[Finite], Field(fail_fast=True, min_length=1, max_length=LONGEST_VECTOR)] | None = None
    """Of unit length, as /v1/embed gives it; for a release with one query model."""
    model: Text | None = None
    """Digest of the model that made the vector, as /v1/embed gives it."""
    vectors: (
        Annotated[
            list[Annotated[list[Finite], Field(fail_fast=True, min_length=1, max_length=LONGEST_VECTOR)]],
            Field(min_length=1, max_length=MOST_MODELS),
        ]
        | None
    ) = None
    """Of one image by each query model of the release, in the order of `models`."""
    models: Annotated[list[Text], Field(max_length=MOST_MODELS)] | None = None
    """Digests of the models that made `vectors`."""
    item: Text | None = None
    """Id of an item of the gallery; it is left out of the answer."""
    k: Annotated[int, Field(ge=1)] = 10
    """Neighbours at most."""
    filters: FiltersAsk = FiltersAsk()
    release: Which = "active"
    """The release that answers; `before` shows what the last upgrade changed."""

    @model_validator(mode="after")
    def _one_query(self) -> "SearchAsk":
        if sum(each is not None for each in (self.image, self.vector, self.vectors, self.item)) != 1:
            raise ValueError("give one of image, vector, vectors and item")
        if (self.vector is None) != (self.model is None):
            raise ValueError("a vector comes with the digest of the model that made it, and only a vector")
        if len(self.vectors or ()) != len(set(self.models or ())) or len(self.models or ()) > len(self.vectors or ()):
            raise ValueError("vectors come with models, the digest of one for each")
        return self


class PutAsk(_Asked):
    """An item to write."""

    label: Label
    """Its class."""
    image: File
    """An image file in base64."""
    name: ItemNameText | None = None
    """What people know it by, such as the file's name."""
