"""A small world: images of a few classes that come task by task, models that drift, and their gallery."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.params.upgrade import AdapterParams, Partial, Upgrade
from csd_core.records.stages import ShardRecord
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.mapping.adaptation import Lessons, fit_adapters
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import evaluation_data_of
from csd_core.upgrade.situation import Situation

SIZE, DIMENSION = 5, 8
TASKS = ("t1", "t2", "t3", "t4")
SPLITS = ("train", "select", "gate", "test")
ROLES = np.array(["train", "train", "select", "gate"])

UPGRADE = Upgrade(
    seed=1,
    max_query_models=2,
    max_queries=None,
    adapter=AdapterParams(
        max_images=1000,
        ridge=[1e-3],
        cca=[4],
        orthogonal=[0.2],
        drift=[0.1],
        drift_anchors=16,
        mlp_width=8,
        mlp_epochs=2,
        mlp_lr=1e-3,
    ),
    partial=Partial(shares=[0.25, 0.5], orders=["random", "class", "class-mean", "residual"], rest="adapt"),
)


def unit(values):
    """(N, D) float32 of unit length."""
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def unit_vectors(count, dimension, seed=0):
    """(count, dimension) random directions."""
    return unit(np.random.default_rng(seed).standard_normal((count, dimension)))


def rotation(dimension, seed=1):
    """(dimension, dimension) a random rotation."""
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((dimension, dimension)))[0]


def bent(source, dimension=None, seed=2):
    """A drift that no linear map undoes."""
    rng = np.random.default_rng(seed)
    old, new = source.shape[1], dimension or source.shape[1]
    hidden = np.maximum(source @ rng.standard_normal((old, 12)), 0)
    return unit(0.5 * source @ rotation(max(old, new))[:old, :new] + 0.5 * hidden @ rng.standard_normal((12, new)))


def mean_cosine(one, other):
    """Mean cosine of unit vectors, row by row."""
    return float(np.einsum("nd,nd->n", one, other).mean())


def upgrade_with(**partial):
    """UPGRADE with other settings of a partial backfill."""
    return UPGRADE.model_copy(update={"partial": UPGRADE.partial.model_copy(update=partial)})


@dataclass
class World:
    """Four tasks of two classes, 24 images of each class; model n drifts from model n - 1.

    `step` is one turn of the fold: the candidate of a task takes the gallery over under a strategy.
    """

    root: Path
    write: object
    images: int = 24
    drift: float = 0.25
    models: dict[int, Embedder] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=lambda: Lineage(models={}, adapters={}))
    gallery: Gallery = field(default_factory=Gallery.empty)

    def __post_init__(self):
        self.shards = [self._shard(number) for number in range(len(TASKS))]

    def _shard(self, number):
        parts = []
        for kind in (2 * number, 2 * number + 1):
            prototype = np.random.default_rng(kind).integers(0, 256, (SIZE, SIZE, 1))
            noise = np.random.default_rng([kind, 1]).normal(0, 40, (self.images, SIZE, SIZE, 1))
            parts.append(np.clip(prototype + noise, 0, 255).astype(np.uint8))
        count = 2 * self.images
        ids = np.array([f"{(number * count + row) * 7919 % 10_007:05}" for row in range(count)])
        labels = np.repeat([f"c{2 * number}", f"c{2 * number + 1}"], self.images)
        return Shard(
            record=ShardRecord(
                task=TASKS[number],
                source="s",
                classes=tuple(np.unique(labels).tolist()),
                counts={},
                skipped=0,
                digest="0",
            ),
            images=np.concatenate(parts),
            ids=ids,
            labels=labels,
            splits=ROLES[np.arange(count) % len(ROLES)],
        )

    def pool(self, task):
        """Every item up to a task."""
        return ItemPool(shards=self.shards[: TASKS.index(task) + 1])

    def model(self, number, *, dimension=DIMENSION):
        """Model `number`, counted from 1."""
        if (number, dimension) not in self.models:
            weights = np.random.default_rng(99).normal(size=(SIZE * SIZE, dimension))
            for each in range(1, number):
                weights = weights + self.drift * np.random.default_rng(each).normal(size=weights.shape)
            file = self.write(self.root / f"model-{number}-{dimension}.onnx", weights)
            self.models[number, dimension] = Embedder.load(file, device="cpu", threads=1)
        return self.models[number, dimension]

    def path(self, number, *, dimension=DIMENSION):
        self.model(number, dimension=dimension)
        return self.root / f"model-{number}-{dimension}.onnx"

    def adapters(self, task, candidate, *, settings=UPGRADE, folder="adapters", labelled=True):
        """What the stage `adapt` would leave for the candidate of a task."""
        pool = self.pool(task)
        learned = np.flatnonzero((pool.tasks == task) & (pool.splits == "train"))
        held_out = np.flatnonzero((pool.tasks == task) & (pool.splits == "select"))
        target = self.root / folder / candidate.digest
        fit_adapters(
            target,
            gallery=self.gallery,
            lineage=self.lineage,
            candidate=candidate,
            digest=candidate.digest,
            lessons=Lessons(
                train=lambda embed: pool.embed(learned, embed),
                held_out=lambda embed: pool.embed(held_out, embed),
                select=evaluation_data_of(pool, self.gallery, SPLITS, candidate=candidate, active={}).asked_by("select")
                if labelled
                else None,
            ),
            settings=settings.adapter,
            seed=settings.seed,
            device="cpu",
            threads=1,
        )
        return CandidateAdapters.load(target)

    def situation(self, candidate, adapters=None, *, settings=UPGRADE):
        return Situation(
            gallery=self.gallery,
            candidate=candidate.digest,
            dimension=candidate.metadata.dimension,
            adapters=adapters or CandidateAdapters.none(),
            settings=settings,
        )

    def evaluation(self, task, candidate, *, split="gate", splits=SPLITS):
        known = {model.digest: model for model in self.models.values()}
        active = {digest: known[digest] for digest in self.gallery.query_models}
        return evaluation_data_of(self.pool(task), self.gallery, splits, candidate=candidate, active=active).asked_by(
            split
        )

    def embed_by(self, embedder, task):
        """From ids to vectors."""
        pool = self.pool(task)
        return lambda ids: pool.embed(pool.positions(ids), embedder)

    def step(self, number, strategy, *, task=None, adapters=None, settings=UPGRADE):
        """Model `number` takes over under a strategy; its task's items join."""
        candidate = self.model(number)
        plan = strategy.plan(self.situation(candidate, adapters, settings=settings))
        return self.take_over(candidate, self.path(number), plan, task=task or TASKS[number - 1], adapters=adapters)

    def take_over(self, candidate, path, plan, *, task, adapters=None):
        """A model takes over as a plan says; its task's items join."""
        after = plan.apply(self.gallery, self.embed_by(candidate, task))
        pool = self.pool(task)
        new = np.flatnonzero(~np.isin(pool.ids, self.gallery.ids))
        added = Gallery.embedded(
            ids=pool.ids[new],
            labels=pool.labels[new],
            tasks=pool.tasks[new],
            splits=pool.splits[new],
            vectors=pool.embed(new, candidate),
            model=candidate.digest,
        )
        self.gallery = after.joined(added, query_model=candidate.digest, searchable_spaces=after.searchable_spaces)
        everything = self.lineage.extended(models=[path], adapters=adapters.paths() if adapters else [])
        self.lineage = everything.needed_by(self.gallery.groups(), query_models=self.gallery.query_models)
        return plan


def synthetic_evidence(*, candidate_dimension=6, champion=True, seed=0, rows=80, noise=0.5):
    """Evidence of random vectors round five class centres; tasks t1 (old) and t2 (new); a gallery of old rows alone."""
    rng = np.random.default_rng(seed)
    labels = np.array([str(number % 5) for number in range(rows)])
    tasks = np.where(labels < "3", "t1", "t2")
    old = tasks == "t1"
    centres = rng.standard_normal((5, 6))[labels.astype(int)]
    by_champion = unit(centres + 0.7 * rng.standard_normal((rows, 6)))
    drifted = centres + noise * rng.standard_normal((rows, 6))
    by_candidate = unit(np.resize(drifted.T, (candidate_dimension, rows)).T)
    ids = np.array([f"i{number:04}" for number in range(rows)])
    gallery = Gallery.embedded(
        ids=ids[old],
        labels=labels[old],
        tasks=tasks[old],
        splits=np.full(old.sum(), "gate"),
        vectors=by_champion[old],
        model="m1",
    )
    if not champion:
        gallery, old = Gallery.empty(), np.zeros(rows, np.bool_)
    return EvaluationData(
        labels=labels,
        tasks=tasks,
        splits=np.full(rows, "gate"),
        old=old,
        stored=gallery,
        positions=np.arange(len(gallery)),
        active={"m1": by_champion} if champion else {},
        model="m2",
        candidate=by_candidate,
        asked=np.arange(rows),
    )


def situation_of(evaluation, *, adapters=None, settings=UPGRADE, candidate="m2"):
    """The situation in which the evidence's stored rows are the whole gallery."""
    return Situation(
        gallery=evaluation.stored,
        candidate=candidate,
        dimension=evaluation.candidate.shape[1],
        adapters=adapters or CandidateAdapters.none(),
        settings=settings,
    )
