"""What stages hand to each other, as frozen models written to JSON.

Digests are sha256 in hex; a model's digest is that of its ONNX file. Recalls are shares between 0 and 1. No record
holds a clock, a host name or a path of a machine, so equal inputs give equal bytes.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from csd_core.params.model import Background, CropShare, Images, ResizeRule
from csd_core.params.training import DEFAULT, Network
from csd_core.system.atomic import write_text
from csd_core.system.errors import ArtifactError

Digest = str


class Record(BaseModel):
    """A frozen JSON document."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    def save(self, path: Path) -> None:
        """Write as indented JSON, whole or not at all."""
        write_text(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            ArtifactError: if the file is missing or is not such a record.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            raise ArtifactError(f"{path}: missing; run `csd run` to make it") from None
        except ValidationError as error:
            mistake = error.errors()[0]
            where = ".".join(map(str, mistake["loc"]))
            raise ArtifactError(f"{path}: not a {cls.__name__} ({where}: {mistake['msg']}); make it again") from None


# --- data -------------------------------------------------------------------------------------------------------------


class SourceRecord(Record):
    """A canonical set: `images.npy` (uint8, N x H x W x C) and `items.parquet`, row by row the same items."""

    name: str
    kind: str
    images: int
    rejected: int
    """Unusable files."""
    duplicates: int
    """Files left out because another has the same pixels."""
    classes: tuple[str, ...]
    """In natural order ("2" before "10")."""


class ShardRecord(Record):
    """One task's own images and items, split by role."""

    task: str
    source: str
    classes: tuple[str, ...]
    """In the order in which the classifier learns them; frozen when the shard is cut."""
    counts: dict[str, int]
    """Images of each split."""
    skipped: int
    """Images an earlier task already has (a duplicate keeps its first split)."""
    digest: Digest
    """Over ids, splits, classes and pixels."""


class SeenShards(Record):
    """The shards up to a task: whoever reads older shards depends on this list of their digests."""

    shards: tuple[ShardRecord, ...]

    @property
    def tasks(self) -> tuple[str, ...]:
        """Task names, oldest first."""
        return tuple(shard.task for shard in self.shards)

    @property
    def classes(self) -> tuple[str, ...]:
        """All class names in order of arrival."""
        return tuple(dict.fromkeys(label for shard in self.shards for label in shard.classes))


# --- models -----------------------------------------------------------------------------------------------------------


Resampling = Literal["bicubic", "bilinear", "area", "nearest", "opencv-bilinear"]
"""Filters by which images are resized: Pillow's, which widen with the reduction, but for nearest, and OpenCV's."""


class ImageForm(Record):
    """The form an image must have before the model sees it."""

    size: int
    channels: int
    resize: ResizeRule
    crop_share: CropShare = 1.0
    """What crop keeps of the shorter side."""
    background: Background = "black"
    """What lies behind transparent pixels and around a padded image."""
    resampling: Resampling = "bicubic"
    shorter_side: Annotated[int, Field(ge=1)] | None = None
    """Crop: the shorter side is resized to so many pixels before the middle is cut out; None crops first."""

    @model_validator(mode="after")
    def _is_cut_from_what_is_there(self) -> Self:
        if self.shorter_side is not None and self.shorter_side < self.size:
            raise ValueError(
                f"shorter_side {self.shorter_side}: is below the size of {self.size} pixels; make it larger"
            )
        return self

    @classmethod
    def of(cls, images: Images) -> Self:
        """Return the form that params.yaml asks for."""
        return cls(
            size=images.pixels,
            channels=images.channels,
            resize=images.resize,
            crop_share=images.crop_share,
            background=images.background,
        )


class ModelRecord(Record):
    """What the weights beside it belong to."""

    task: str | None
    """Whose stage trained it; None at genesis, where there are no weights."""
    network: Network | None
    images: ImageForm | None
    classes: tuple[str, ...]
    """The classifier's columns."""
    trained_on: tuple[str, ...]
    """The tasks of this stage's training images: its own and those that were pending."""
    remembered: tuple[Digest, ...] = ()
    """Ids of the training images of older tasks that it trained on again."""
    best_epoch: int | None
    """Counted from 1; the first with the highest Recall@1 on `select`. 0: the start weights as they are."""
    select_recall: float | None
    """That Recall@1, over all classes seen so far."""

    @field_validator("network", mode="before")
    @classmethod
    def _as_written_before(cls, network: Any) -> Any:
        """Read records of csd before backbones had a projection."""
        if not isinstance(network, dict):
            return network
        weights = DEFAULT if network.get("weights") == "torchvision" else network.get("weights")
        return {"dimension": None, **network, "weights": weights}


class Pending(Record):
    """Tasks whose candidate was rejected since the last promotion; their data waits for the next stage."""

    tasks: tuple[str, ...]


class Champion(Record):
    """The active model."""

    task: str | None
    """Whose candidate it was; None while there is no model."""
    digest: Digest | None
    parent: Digest | None
    """The champion it was trained from."""
    dimension: int | None
    classes: tuple[str, ...]


class Quantization(Record):
    """quantization.json: what became of the candidate's int8 variant."""

    asked: Literal["none", "int8"]
    digest: Digest | None
    """Of the variant, whether or not it ships."""
    calibrated_on: int
    """`select` images from which the ranges of its activations were taken."""
    recall_fp32: float | None
    """Recall@1 of the candidate's own queries on its rows of all seen `gate` images; None where no query counts."""
    recall_int8: float | None
    """The same of the variant's queries, on the same rows."""
    queries: int = 0
    """That count; with few of them the loss is known roughly."""
    shipped: bool
    """The variant lies beside this record, and goes where the candidate goes."""
    why_not: str | None
    """Why one that was asked for does not ship."""
