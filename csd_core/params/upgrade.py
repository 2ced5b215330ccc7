"""What becomes of the gallery under a new model: what is searchable, the ways to upgrade it, and the gate's limits."""

from typing import Annotated, Literal

from pydantic import Field

from csd_core.params.section import Positive, Section, Share, Split, Weight

Strategy = Literal["none", "keep", "adapt", "merge", "partial", "backfill"]
Decision = Literal["auto", "none", "keep", "adapt", "merge", "partial", "backfill", "reject"]
Choice = Literal[
    "approve",
    "first-model",
    "keep",
    "adapt",
    "merge",
    "partial",
    "backfill",
    "reject-model",
    "reject-data",
    "reject-classes",
    "reject",
]
FIRST_MODEL: Choice = "first-model"
"""The choice that accepts a first model; its decision is `none`, for there is no gallery to upgrade."""
Rest = Literal["adapt", "keep"]
Order = Literal["random", "class", "class-mean", "residual"]
AdapterMethod = Literal["procrustes", "ridge", "cca", "orthogonal", "drift", "mlp"]
"""Kinds of adapters, the simplest first."""


class GalleryParams(Section):
    """What is searchable."""

    splits: Annotated[list[Split], Field(min_length=1)]
    """Items of these splits enter the gallery; `gate` must be among them, for the gate judges stored rows."""


class AdapterParams(Section):
    """Maps stored vectors into the candidate's space; fitted on the current stage's training images."""

    max_images: Annotated[int, Field(ge=16)]
    """Training images it is fitted on, evenly drawn."""
    ridge: list[Weight]
    """Penalties of the linear map on offer, as shares of the vectors' mean square."""
    cca: list[Annotated[int, Field(ge=1)]]
    """Numbers of canonical directions on offer."""
    orthogonal: list[Positive]
    """Tolerances on offer: how far W^T W may be from I, as a share of the length of I."""
    drift: list[Positive]
    """Temperatures of the local map on offer: how far a neighbour's move reaches."""
    drift_anchors: Annotated[int, Field(ge=1, le=16384)]
    """Training images in a local map, evenly drawn; each takes 2 D numbers of its file."""
    mlp_width: Annotated[int, Field(ge=1, le=4096)]
    """Hidden units of the residual network."""
    mlp_epochs: Annotated[int, Field(ge=1)]
    mlp_lr: Positive


class Partial(Section):
    """A backfill of the most useful rows only."""

    shares: list[Annotated[float, Field(gt=0, lt=1)]]
    """Shares of the old rows on offer, ascending."""
    orders: Annotated[list[Order], Field(min_length=1)]
    """Which rows come first: at random, class by class, farthest from their class mean, or largest adapter residual on
    the nearest training images. The order with the largest area under its curve on `select` is taken."""
    rest: Rest
    """What becomes of the other rows."""


class Upgrade(Section):
    """Ways to serve a candidate that the check measures."""

    seed: Annotated[int, Field(ge=0)]
    max_query_models: Annotated[int, Field(ge=1)]
    """Models that may embed a query. Before one more would, the rows of the oldest are mapped or re-embedded."""
    max_queries: Annotated[int, Field(ge=1)] | None
    """Queries of a split that ask, evenly chosen where there are more; none for all. With fewer queries a verdict's
    bounds are wider; the check of a gallery of millions of rows takes time in proportion to them."""
    adapter: AdapterParams
    partial: Partial


class Policy(Section):
    """What an upgrade must satisfy; recalls and limits are shares (0.01 is one point)."""

    allowed: list[Literal["keep", "adapt", "merge", "partial", "backfill"]]
    """Strategies the gate may choose: the cheapest that passes on `select` is judged first (csd_core.upgrade.gate)."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Confidence of a verdict: `1 - confidence` is the risk that a way which breaks a limit passes by luck. The way
    that `select` chose and a full backfill share it, so what `allowed` lists beside them costs no confidence."""
    resamples: Annotated[int, Field(ge=100)]
    """Number of bootstrap resamples of the queries."""
    seed: Annotated[int, Field(ge=0)]
    max_regression: Share
    """How far old-class Recall@1 may fall below the status quo (lower bound)."""
    max_task_regression: Share
    """The same for each task alone (lower bound)."""
    max_total_regression: Share
    """How far a task's Recall@1 on its own gallery may fall below its best ever (point estimate)."""
    min_gain: Annotated[float, Field(ge=-1, le=1)]
    """The gain of Recall@1 over all queries must exceed this (lower bound); a value below 0 allows a loss."""
    max_excess_flips: Share
    """Share of queries that hit today and would miss, beyond those that a full backfill of the same candidate loses
    (bound)."""
    max_map_regression: Share
    """How far mAP@R of all queries may fall below the status quo (point estimate). On easy data Recall@1 hardly tells
    a trained network from a random one; mAP@R does."""
    require_ecc: bool
    """`keep` also needs the empirical compatibility criterion, its lower bound above zero."""
    min_recall: Share
    """Recall@1 the first model must reach."""
    min_map_at_r: Share
    """mAP@R the first model must reach; an untrained network stays far below a trained one."""
