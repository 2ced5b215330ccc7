"""What stages hand to each other, as frozen models written to JSON.

Digests are sha256 in hex; a model's digest is that of its ONNX file. Recalls are shares between 0 and 1. No record
holds a clock, a host name or a path of a machine, so equal inputs give equal bytes.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from csd_core.atomic import write_text
from csd_core.errors import ArtifactError
from csd_core.params import Decision, Order, ResizeRule, Rest, Strategy
from csd_core.params_training import Network

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


class ImageForm(Record):
    """The form an image must have before the model sees it."""

    size: int
    channels: int
    resize: ResizeRule


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
    best_epoch: int | None
    """Counted from 1; the first with the highest Recall@1 on `select`."""
    select_recall: float | None
    """That Recall@1, over all classes seen so far."""


class Champion(Record):
    """The model in force."""

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
    shipped: bool
    """The variant lies beside this record, and goes where the candidate goes."""
    why_not: str | None
    """Why one that was asked for does not ship."""


# --- adapters ---------------------------------------------------------------------------------------------------------


class AdapterOffer(Record):
    """One map from stored vectors to the candidate's space."""

    method: Literal["ridge", "mlp"]
    digest: Digest
    select_recall: float | None
    """Recall@1 of the candidate's queries of these rows' items on `select`, over the mapped rows and the candidate's
    own; None where `select` has no such rows."""
    select_cosine: float
    """Mean cosine between mapped and candidate's vectors of the current stage's `select` images."""


class AdapterFit(Record):
    """The maps for the rows of one provenance."""

    embedded_by: Digest
    adapters: str
    """The chain so far, joined by commas."""
    images: int
    """Training images of the current stage it was fitted on."""
    offers: tuple[AdapterOffer, ...]
    chosen: Digest
    """The better on `select`."""


class AdapterFits(Record):
    """adapters.json: one fit for each provenance in the old gallery that has a path to the candidate's space."""

    fits: tuple[AdapterFit, ...]
    why_not: str | None
    """Why there is none."""


# --- the check --------------------------------------------------------------------------------------------------------


class Paired(Record):
    """The same queries under two systems, at top 1; differences are second minus first."""

    queries: int
    lost: int
    """Hit under the first, miss under the second: negative flips where the first is the status quo."""
    gained: int

    @property
    def difference(self) -> float:
        """Change of Recall@1."""
        return (self.gained - self.lost) / self.queries if self.queries else 0.0


class Recalls(Record):
    """Recall of one group of queries."""

    queries: int
    excluded: int
    """Queries without a second item of their class: no hit is possible, so they do not count."""
    at: dict[int, float]
    """K -> Recall@K."""
    map_at_r: float


class Measurement(Record):
    """One way to serve, measured on the gate's queries over all rows it would search."""

    overall: Recalls
    old: Recalls | None
    """Queries of items that were in the gallery before; None for the first model."""
    new: Recalls | None
    per_task: dict[str, float]
    """Task -> Recall@1 of its queries over the whole gallery."""
    own_gallery: dict[str, float]
    """Task -> Recall@1 of its queries over its own rows."""


def strategy_name(strategy: Strategy, share: float | None) -> str:
    """A strategy as people read it, with the share of a partial backfill."""
    return strategy if share is None else f"{strategy} {100 * share:g} %"


class Alternative(Record):
    """A strategy as it would be served, against the status quo."""

    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill embeds anew."""
    possible: bool
    why_not: str | None
    """Why it cannot be served at all, such as another dimension."""
    rows_embedded: int
    """Old rows of the whole gallery that would have to be embedded anew: its cost."""
    rows_mapped: int
    """Old rows that an adapter would map."""
    measured: Measurement | None
    against_status_quo: dict[str, Paired]
    """`overall`, `old`, and `task:NAME` for each task with old rows."""

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)


class CrossTest(Record):
    """Old items only: queries by old and by new model on the rows as they are stored (BCT, Shen et al., CVPR 2020)."""

    self_test: float
    """C[k,k]: the champion's queries on the stored rows; Recall@1."""
    cross_test: float
    """C[t,k]: the candidate's queries on the same rows; Recall@1."""
    paired: Paired
    """First the self-test, second the cross-test."""
    adapted: Paired | None = None
    """First the self-test, second the candidate's queries on these rows as `adapt` would map them; None where no
    adapter can."""


class Rehearsal(Record):
    """The same measured on `select`, where the share of a partial backfill is chosen."""

    status_quo: Measurement
    alternatives: tuple[Alternative, ...]


class PartialCurve(Record):
    """Recall against the share of old rows embedded anew, most useful first; measured on `select`."""

    order: Order
    shares: tuple[float, ...]
    """From 0 (nothing but what has no other path) to 1."""
    recalls: tuple[float, ...]
    """Recall@1 of all queries."""
    area: float


class PartialCurves(Record):
    """How far a partial backfill would get."""

    order: Order
    """The one with the largest area."""
    rest: Rest
    """What becomes of the other rows."""
    curves: tuple[PartialCurve, ...]


class ServingPoint(Record):
    """What users see while a backfill runs: Recall@1 when a share of the old rows is done."""

    share: float
    naive: float | None
    """The candidate's queries over the mixture; None where the dimensions differ."""
    merged: float
    """Each generation searched in its own space, merged by calibrated similarity (Seo et al., 2023)."""


class CheckReport(Record):
    """What promoting the candidate would do to search; measured on one split's rows, judged elsewhere."""

    task: str
    split: Literal["gate"]
    candidate: Digest
    champion: Digest | None
    pending: tuple[str, ...]
    """Tasks whose data the candidate also trained on."""
    status_quo: Measurement | None
    cross_test: CrossTest | None
    alternatives: tuple[Alternative, ...]
    """Cheapest first."""
    rehearsal: Rehearsal | None
    """None for a first model, and where the gallery holds no `select` rows."""
    partial: PartialCurves | None
    adapter_methods: dict[str, float]
    """Method of the adapters -> Recall@1 of all queries under `adapt` with it; the choice between them is not made
    here."""
    during_backfill: tuple[ServingPoint, ...]
    best_own_gallery: dict[str, float]
    """Task -> best Recall@1 on its own gallery that was ever served (the ratchet's reference)."""


# --- the verdict ------------------------------------------------------------------------------------------------------


class Condition(Record):
    """One condition of the policy on one strategy."""

    name: str
    figure: float
    """The point estimate."""
    bound: float | None
    """The one-sided bound that is compared, where there is one."""
    limit: float
    passed: bool
    words: str
    """The condition as a sentence, with figures."""
    needs_queries: int | None
    """About how many queries would decide it, where it is the interval and not the estimate that fails."""


class Judged(Record):
    """A strategy with the outcome of every condition."""

    strategy: Strategy
    share: float | None
    """Of a partial backfill: the smallest that passes on `select`."""
    passed: bool
    conditions: tuple[Condition, ...]
    why_not: str | None

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)


class _Verdict(Record):
    task: str
    candidate: Digest
    champion: Digest | None
    """The champion before."""
    decision: Decision
    """`auto`, or what an operator chose."""
    judged: tuple[Judged, ...]
    reasons: tuple[str, ...]
    """In words."""


class Promoted(_Verdict):
    """The candidate becomes the champion."""

    outcome: Literal["promoted"] = "promoted"
    strategy: Strategy
    share: float | None
    """Of the old rows that a partial backfill embeds anew."""

    @property
    def name(self) -> str:
        """The strategy, with its share."""
        return strategy_name(self.strategy, self.share)


class Rejected(_Verdict):
    """The champion stays."""

    outcome: Literal["rejected"] = "rejected"
    inconclusive: bool
    """More queries could turn it."""


Verdict = Annotated[Promoted | Rejected, Field(discriminator="outcome")]


class VerdictFile(Record):
    """verdict.json."""

    verdict: Verdict


class LedgerEntry(Record):
    """What became of one task."""

    task: str
    candidate: Digest
    outcome: Literal["promoted", "rejected"]
    strategy: Strategy | None
    share: float | None
    """Of the old rows that a partial backfill embedded anew."""
    champion: Digest | None
    """In force after the task."""
    champion_task: str | None
    """Whose candidate that is."""
    check: Digest
    """sha256 of check.json."""
    gallery: Digest
    """Of the gallery after the task."""
    served: dict[str, float]
    """Task -> Recall@1 on its own gallery as served after the task, on gate queries."""


class Ledger(Record):
    """The fold so far, oldest first; the report and the ratchet read it."""

    entries: tuple[LedgerEntry, ...]

    @property
    def best_own_gallery(self) -> dict[str, float]:
        """Task -> best own-gallery Recall@1 ever served."""
        best: dict[str, float] = {}
        for entry in self.entries:
            for task, recall in entry.served.items():
                best[task] = max(recall, best.get(task, 0.0))
        return best


class Pending(Record):
    """Tasks whose candidate was rejected since the last promotion; their data waits for the next stage."""

    tasks: tuple[str, ...]
