"""Parameters of what runs once models are trained: the live gallery, the service, reviews and the inbox."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.section import Location, Section
from csd_core.params.upgrade import Choice


class Live(Section):
    """The gallery that production searches, and its releases."""

    uri: Location
    """LanceDB: a folder, relative to params.yaml or absolute, or an object store (s3://bucket/prefix)."""
    releases: Location
    """A folder, relative to params.yaml or absolute, or an object store that machines share (s3://bucket/prefix)."""
    images: Literal["store", "reference"]
    """store keeps each item's pixels beside its vector; reference keeps where they can be fetched again."""
    thumbnails: Annotated[int, Field(ge=0, le=1024)] | None
    """Longer side, in pixels, of the picture of an original that is larger than its form; 0 or null keeps none."""
    exact_rows: Annotated[int, Field(ge=0)]
    """Galleries up to this number of rows are searched exactly, in memory; a larger one gets an index when it is
    published, and so does one that `csd items index` publishes again."""
    index_probes: Annotated[int, Field(ge=1)]
    """Cells of the index searched for a query; more find more and take longer."""
    keep_releases: Annotated[int, Field(ge=2)]
    """The newest releases that keep their gallery and model, so that they can be rolled back to."""


class Serve(Section):
    """How `csd serve` answers."""

    variant: Literal["auto", "fp32", "int8"]
    """The query model: auto takes int8 if the release has it."""
    max_batch: Annotated[int, Field(ge=1, le=1024)]
    """Largest number of images, of concurrent requests, that are embedded together."""
    max_wait_ms: Annotated[float, Field(ge=0, le=1000)]
    """Longest time that an image waits for others, to be embedded together."""
    max_waiting: Annotated[int, Field(ge=1)]
    """Length of each process's queue; further requests get 429. A larger one adds waiting, not throughput."""
    max_k: Annotated[int, Field(ge=1, le=10_000)]
    """Largest number of neighbours that one search may ask for."""
    max_body_mb: Annotated[float, Field(gt=0, le=1024)]
    """Largest request in MiB."""
    max_megapixels: Annotated[float, Field(gt=0, le=1000)]
    """Largest image that is decoded, in millions of pixels."""
    cache_images: Annotated[int, Field(ge=0)]
    """Number of query images whose vectors are remembered."""
    poll_seconds: Annotated[float, Field(gt=0, le=3600)]
    """Time between two looks at the active release and its rows."""


class Review(Section):
    """What a person decided about a task's candidate; `decisions` holds the outcome."""

    choice: Choice
    """approve takes what the gate decided; first-model accepts a first model. reject-model makes the images searchable
    under the champion, reject-data sets their batches aside, reject-classes some classes; else they wait again."""
    by: Annotated[str, Field(min_length=1, max_length=200)]
    """Who."""
    reason: Annotated[str, Field(min_length=1, max_length=2000)]
    """Why."""


class InboxParams(Section):
    """Where batches of new images arrive, and when they become a task; the flow `retrain` looks there."""

    uri: Location
    """A folder, relative to params.yaml or absolute, or an object store (s3://bucket/prefix)."""
    min_images: Annotated[int, Field(ge=1)]
    """Minimum number of waiting images that become a task."""
    min_new_classes: Annotated[int, Field(ge=0)]
    """Minimum number of classes among them that no task has yet."""
    max_wait_days: Annotated[float, Field(ge=0)] | None
    """A batch that has waited so long becomes a task in any case; null waits forever."""
