"""params.yaml as frozen models: every knob is named once, here, with its bounds.

No knob has a default, so that params.yaml shows all of them and DVC sees every change. An unknown key is a typo, so it
is an error; what spans several keys is checked together (`csd_core.params.rules`).
"""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from csd_core.params.production import InboxParams, Live, Review, Serve
from csd_core.params.rules import contradictions
from csd_core.params.section import ClassName, GroupRule, Name, Positive, Section, Share
from csd_core.params.sources import FolderSource, PublishedSource, Sources
from csd_core.params.training import Training
from csd_core.params.upgrade import Decision, GalleryParams, Policy, Upgrade
from csd_core.system.errors import ParamsError
from csd_core.system.names import printable

ResizeRule = Literal["squash", "pad", "crop"]


def _background(text: str) -> str:
    if not re.fullmatch(r"black|white|grey|checker|#[0-9a-f]{6}", text):
        raise ValueError(f'{text}: no background; write black, white, grey, checker or a colour such as "#7c7468"')
    return text


Background = Annotated[str, AfterValidator(_background)]
"""A name, or a colour as in HTML; checker is dark and light grey squares, so that no single colour vanishes on it."""
CropShare = Annotated[float, Field(gt=0, le=1)]


def cluster_address(address: str) -> str:
    """Return the address of a Ray cluster if it is one.

    Raises:
        ValueError: if it is not, with what to write.
    """
    if address.startswith("ray://"):
        raise ValueError(
            f"{printable(address)}: is an address of Ray Client, which csd does not use: Ray itself warns of its "
            "limits; run csd on a machine of the cluster (`ray start --address HEAD:6379 --num-cpus 0` "
            "makes this one a machine that only asks) and write host:port"
        )
    if address != "auto" and not re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[\w.-]+):\d{1,5}", address):
        raise ValueError(
            f"{printable(address)}: is no address of a cluster; write host:port as `ray start --head` prints it, "
            "auto, or null"
        )
    return address


ClusterAddress = Annotated[str, AfterValidator(cluster_address)]


class Compute(Section):
    """The hardware of the stages.

    Other threads, processes or devices round sums differently, so weights differ and DVC runs the stages again.
    """

    device: Literal["auto", "cpu", "cuda"]
    """Where networks are trained; auto takes a GPU where there is one."""
    embedding_device: Literal["auto", "cpu", "cuda"]
    """Where onnxruntime embeds; cuda needs onnxruntime-gpu, auto takes it where it is."""
    threads: Annotated[int, Field(ge=1, le=1024)]
    """CPU threads of torch, BLAS and onnxruntime, in each process."""
    processes: Annotated[int, Field(ge=1, le=1024)]
    """Number of processes that train together, each on its share of every batch."""


class Runtime(Section):
    """The hardware of commands and the service, and the memory of stages. No artefact depends on it."""

    device: Literal["auto", "cpu", "cuda"]
    """auto takes a GPU where there is one."""
    threads: Annotated[int, Field(ge=0)]
    """CPU threads of onnxruntime in a process; 0 leaves the choice to it. Stages have `compute.threads`."""
    max_in_memory_mb: Annotated[int, Field(ge=0)]
    """Training images up to this size (MiB of uint8) are held in memory, by all processes of a machine together;
    larger sets stay memory-mapped."""
    engine: Literal["local", "ray"]
    """Who shares out large work: processes of this machine, or the machines of a Ray cluster."""
    address: ClusterAddress | None
    """host:port of the Ray cluster that this machine belongs to, or auto; null starts Ray on this machine."""


class Images(Section):
    """The form every image takes before a model sees it, in training as in serving."""

    pixels: Annotated[int, Field(ge=4, le=1024)]
    """Height and width in pixels."""
    channels: Literal[1, 3]
    """1 grey, 3 RGB."""
    resize: ResizeRule
    """squash ignores the aspect ratio, pad keeps it on the background, crop keeps it and cuts the longer side."""
    crop_share: CropShare
    """What crop keeps of the shorter side; 0.875 is the usual crop of 224 pixels out of 256. An image that has the
    right size already is taken as it is."""
    background: Background
    """What lies behind transparent pixels and around a padded image."""

    @model_validator(mode="after")
    def _share_is_of_a_crop(self) -> "Images":
        if self.crop_share < 1 and self.resize != "crop":
            raise ValueError(
                f"crop_share {self.crop_share:g}: resize {self.resize} crops nothing; write 1.0, or resize: crop"
            )
        return self


class Data(Section):
    """What ingest tolerates."""

    max_rejected: Annotated[int, Field(ge=0)]
    """More unusable files than this stop the run; a copy of an image in another class counts as one, a copy within its
    class does not."""
    store: Literal["raw", "webp", "jpeg"]
    """How canonical sets and shards hold images. webp keeps every pixel; jpeg (quality 95) is smaller, but its pixels
    are not quite those that a query is decoded to."""


class SplitShares(Section):
    """Shares of a task's images by role; training gets the rest. A source's own test set stays test."""

    seed: Annotated[int, Field(ge=0)]
    select: Share
    """Chooses the epoch (and, later, strategies)."""
    gate: Share
    """Judges a candidate, once."""
    test: Share
    """Read once, by the report; used where the source has no test set of its own."""
    group: GroupRule | None
    """Which images of a class share one role. null: each is on its own; hash: near-duplicates, by perceptual hash; else
    a regular expression on an item's path, whose first group names the group, such as the person or the product. No
    measurement lets a query find its own group."""

    @model_validator(mode="after")
    def _leave_something_to_train_on(self) -> "SplitShares":
        if self.select + self.gate + self.test >= 1:
            raise ValueError("select + gate + test leave nothing to train on; make their sum less than 1")
        return self


class Task(Section):
    """One arrival of labelled data."""

    previous: Name
    """The task before this one; `init` for the first."""
    recipe: Annotated[str, Field(pattern=r"^(first|later|recipes\.[a-z0-9][a-z0-9_-]*)$")]
    """The block of `training` that this task's training depends on: `first` for the first task, `later` for all others,
    or recipes.NAME for one with a recipe of its own."""
    source: Name
    """A key of sources.published or sources.folders."""
    classes: list[ClassName] | None
    """Class names of the source, in the order in which the classifier learns them; null takes the whole source."""


class Export(Section):
    """The ONNX embedding model."""

    opset: Annotated[int, Field(ge=18, le=21)]
    """Version of the ONNX operators; onnxruntime 1.20 reads up to 21."""
    max_cosine_error: Positive
    """Largest 1 - cos between onnxruntime's and torch's embedding of a validation image."""
    parity_images: Annotated[int, Field(ge=33)]
    """Validation images on which they are compared."""
    quantize: Literal["none", "int8"]
    """int8 also makes a variant of the model in whole numbers, about twice as fast on a CPU; it embeds queries, never
    rows."""
    max_recall_loss: Share
    """Largest loss of Recall@1 on `gate` by which the variant may be shipped."""
    calibration_images: Annotated[int, Field(ge=1)]
    """Validation images from which the ranges of its activations are taken, evenly spread."""


class Report(Section):
    """The HTML page and metrics.json."""

    after: Name
    """The last task; the report tells the story up to it."""
    neighbours: Annotated[int, Field(ge=1, le=20)]
    """Neighbours shown for an example query."""
    example_queries: Annotated[int, Field(ge=0, le=100)]
    """Example queries shown for each upgrade."""


class Params(Section):
    """The whole of params.yaml."""

    compute: Compute
    runtime: Runtime
    images: Images
    sources: Sources
    data: Data
    split: SplitShares
    tasks: Annotated[dict[Name, Task], Field(min_length=1)]
    training: Training
    export: Export
    gallery: GalleryParams
    upgrade: Upgrade
    gate: Policy
    decisions: dict[Name, Decision]
    reviews: dict[Name, Review]
    """Who overruled the gate, and why; the flow `approve` writes it."""
    live: Live
    serve: Serve
    inbox: InboxParams
    report: Report

    @model_validator(mode="after")
    def _sections_agree(self) -> "Params":
        problem = next(contradictions(self), None)
        if problem:
            raise ValueError(problem)
        return self

    def line(self, up_to: str) -> tuple[str, ...]:
        """Return the tasks from the first to `up_to`, in their order."""
        names = list(self.tasks)
        return tuple(names[: names.index(up_to) + 1])

    def task(self, name: str) -> Task:
        """Return the task called `name`.

        Raises:
            ParamsError: if there is no such task.
        """
        if name not in self.tasks:
            raise ParamsError(f"task {name}: there is no such task; known: {', '.join(self.tasks)}")
        return self.tasks[name]

    def training_of(self, task: str) -> Training:
        """Return the parameters of a task's training: `later` is the recipe that it names.

        Raises:
            ParamsError: if there is no such task.
        """
        return self.training.of(self.task(task).recipe)

    def source(self, name: str) -> PublishedSource | FolderSource:
        """Return the source called `name`."""
        return self.sources.published.get(name) or self.sources.folders[name]
