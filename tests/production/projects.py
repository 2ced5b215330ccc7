"""Projects whose pipeline has run, made in a second: linear embedders, real shards, galleries, adapters and ledgers."""

import hashlib
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from ruamel.yaml import YAML

from csd_core.data.canonical import CanonicalSet
from csd_core.data.pool import ItemPool
from csd_core.data.shards import ShardItems, load_shard, write_shard
from csd_core.live.images import encode_png
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.live.search import Snapshot
from csd_core.records.adapters import AdapterFit, AdapterFits, AdapterOffer
from csd_core.records.check import CheckReport
from csd_core.records.ranking import GroupScoring, Logistic
from csd_core.records.stages import Champion, SeenShards, SourceRecord
from csd_core.records.verdict import Ledger, LedgerEntry, Promoted, Rejected, VerdictFile
from csd_core.releases.candidate import Production
from csd_core.releases.verify import verify
from csd_core.retrieval.adapter import AdapterMetadata
from csd_core.retrieval.embedder import Embedder, EmbedderMetadata, digest_of
from csd_core.retrieval.gallery import Gallery, Provenance, padded
from csd_core.retrieval.lineage import Lineage
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.mapping.fitted import write_adapter
from csd_core.upgrade.mapping.maps import PairSums
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named
from csd_core.workspace import Workspace

DIGITS = Path(__file__).parents[2] / "csd_core/project/profiles" / "digits.yaml"
SIZE = 8


def pixels_of(kind, count, seed):
    """(count, 8, 8, 1) uint8 images of one class."""
    prototype = np.random.default_rng(kind).integers(0, 256, (SIZE, SIZE, 1))
    noise = np.random.default_rng([kind, seed]).normal(0, 25, (count, SIZE, SIZE, 1))
    return np.clip(prototype + noise, 0, 255).astype(np.uint8)


def content_ids(images):
    return np.array([hashlib.sha256(np.ascontiguousarray(image).data).hexdigest() for image in images])


@dataclass
class Project:
    """A folder with params.yaml and the artefacts of its tasks, one class of images a task, or two."""

    root: Path
    tasks: tuple[str, ...] = ("t1", "t2", "t3")
    images: int = 24
    settings: dict[str, object] = field(default_factory=dict)

    def __post_init__(self):
        self.files = Workspace(self.root)
        if (self.root / "params.yaml").is_file():
            return  # a copy of a project
        self.root.mkdir(parents=True, exist_ok=True)
        values = YAML(typ="safe").load(DIGITS)
        values["compute"] |= {"threads": 1}
        values["runtime"] |= {"device": "cpu", "threads": 1}
        values["tasks"] = {
            task: {
                "previous": (["init", *self.tasks])[number],
                "recipe": "later" if number else "first",
                "source": "digits",
                "classes": [f"{task}-a", f"{task}-b"],
            }
            for number, task in enumerate(self.tasks)
        }
        values["decisions"] = dict.fromkeys(self.tasks, "auto")
        values["report"]["after"] = self.tasks[-1]
        values["live"] |= self.settings
        with (self.root / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        SeenShards(shards=()).save(self.files.seen("init"))
        Gallery.empty().save(self.files.gallery("init"))
        Lineage(models={}, adapters={}).save(self.files.lineage("init"))
        Champion(task=None, digest=None, parent=None, dimension=None, classes=()).save(
            self.files.champion_embedder("init") / "champion.json"
        )
        Ledger(entries=()).save(self.files.ledger("init"))

    @property
    def production(self):
        return Production.of(self.files)

    # --- the pipeline -------------------------------------------------------------------------------------------------

    def promote(self, task, strategy, *, dimension=16, drift=0.3):
        """The task's candidate becomes the champion; each candidate drifts from its predecessor."""
        previous = self._previous(task)
        before = Champion.load(self.files.champion_embedder(previous) / "champion.json")
        old = Gallery.load(self.files.gallery(previous))
        self._write_shard(task, previous)
        candidate = self.files.candidate_embedder(task)
        metadata = EmbedderMetadata(
            size=SIZE,
            channels=1,
            resize="squash",
            dimension=dimension,
            classes=tuple(f"{task}-{letter}" for letter in "ab"),
            parent=before.digest,
        )
        write_linear(candidate, _projection(self.tasks.index(task), dimension, drift), metadata)
        embedder = Embedder.load(candidate, device="cpu", threads=1)
        self._write_adapters(task, previous, old, embedder)
        adapters = CandidateAdapters.load(self.files.candidate_adapters(task))
        chosen = strategy_named(
            strategy,
            share=0.5 if strategy == "partial" else None,
            order="random",
            rest="keep",
        )
        situation = Situation(
            gallery=old,
            candidate=embedder.digest,
            dimension=dimension,
            adapters=adapters,
            settings=self.files.params().upgrade,
        )
        pool = self.pool(task)
        plan = chosen.plan(situation)
        if strategy == "merge":
            plan = plan.scored(_scores(plan, old, embedder))
        after = plan.apply(old, lambda ids: pool.embed(pool.positions(ids), embedder))
        gallery = self._joined(task, after, embedder, after.searchable_spaces)
        gallery.save(self.files.gallery(task))
        folder = self.files.champion_embedder(task)
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(candidate, folder / "embedder.onnx")
        champion = Champion(
            task=task,
            digest=embedder.digest,
            parent=before.digest,
            dimension=dimension,
            classes=metadata.classes,
        )
        champion.save(folder / "champion.json")
        lineage = Lineage.load(self.files.lineage(previous)).extended(models=[candidate], adapters=adapters.paths())
        lineage.needed_by(gallery.groups(), query_models=gallery.query_models).save(self.files.lineage(task))
        verdict = Promoted(
            task=task,
            candidate=champion.digest,
            champion=before.digest,
            decision="auto",
            ways=(),
            reasons=("it is better",),
            strategy=strategy,
            share=None,
        )
        self._conclude(task, previous, champion, gallery, verdict)
        return self

    def reject(self, task):
        """The champion stays and embeds the task's items."""
        previous = self._previous(task)
        champion = Champion.load(self.files.champion_embedder(previous) / "champion.json")
        self._write_shard(task, previous)
        shutil.copytree(self.files.champion_embedder(previous), self.files.champion_embedder(task))
        embedder = Embedder.load(self.files.champion_embedder(task) / "embedder.onnx", device="cpu", threads=1)
        before = Gallery.load(self.files.gallery(previous))
        gallery = self._joined(task, before, embedder, before.searchable_spaces)
        gallery.save(self.files.gallery(task))
        Lineage.load(self.files.lineage(previous)).save(self.files.lineage(task))
        verdict = Rejected(
            task=task,
            candidate="f" * 64,
            champion=champion.digest,
            decision="reject",
            ways=(),
            reasons=("it is worse",),
            inconclusive=False,
        )
        self._conclude(task, previous, champion, gallery, verdict)
        return self

    def pool(self, task):
        seen = SeenShards.load(self.files.seen(task)).tasks
        return ItemPool(shards=[load_shard(self.files.shard(name)) for name in seen])

    def model(self, task):
        return Embedder.load(self.files.champion_embedder(task) / "embedder.onnx", device="cpu", threads=1)

    # --- what production serves ---------------------------------------------------------------------------------------

    def active(self):
        return self.production.releases.active()

    def search(self, images, k=3):
        """Answers of the active release."""
        production, release = self.production, self.active()
        return Snapshot.load(production.live, release.table, release.rules).search(self.queries(images), k=k)

    def queries(self, images):
        """Query model of the active release -> the images as it embeds them."""
        release = self.active()
        return {
            model: Embedder.load(release.folder / release.queries_of(model)["fp32"].file, device="cpu", threads=1)(
                images
            )
            for model in (release.record.model, *release.older_models)
        }

    def findings(self):
        """Of a verification of all releases."""
        production = self.production
        with production.releases.reading() as releases:
            return verify(releases, production.live, which="all").findings

    def copied_to(self, root):
        """The same project somewhere else."""
        shutil.copytree(self.root, root)
        return Project(root, tasks=self.tasks, images=self.images)

    def commit(self):
        """Everything but artefacts in git, made a repository if it is none; returns the commit."""
        (self.root / ".gitignore").write_text("/data/\n/artifacts/\n/live/\n/releases/\n/operations/\n/.csd/\n")
        git = ["git", "-C", str(self.root), "-c", "user.name=Olga", "-c", "user.email=olga@example.org"]
        for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "as it is now"]):
            subprocess.run([*git, *command], check=True, capture_output=True)
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
        return head.stdout.strip()

    # --- what people do -----------------------------------------------------------------------------------------------

    def put(self, images, labels, *, ids=None, keep_images=True, refs=None, stored=None):
        """Write items live, as the active release embeds them; returns their ids."""
        production = self.production
        ids = content_ids(images) if ids is None else np.array(ids)
        images_of_rows = StoredImages(
            [encode_png(image) if keep_images and refs is None else None for image in images],
            [None] * len(images) if refs is None else refs,
            **(stored or {}),
        )
        with production.live.writing():
            release = production.releases.active()
            embedder = Embedder.load(release.embedder, device="cpu", threads=1)
            production.live.upsert(
                release.table,
                LiveItems(
                    ids=ids,
                    labels=np.full(len(ids), labels) if isinstance(labels, str) else np.array(labels),
                    vectors=padded(embedder(images), release.rules.width),
                    embedded_by=embedder.digest,
                    images=images_of_rows,
                ),
            )
        return ids.tolist()

    def delete(self, ids, why="a person asked"):
        production = self.production
        with production.live.writing():
            return production.live.delete(production.releases.active().table, ids, why=why)

    def rows(self):
        """Id -> row of the active table, as it is now."""
        production = self.production
        rows = production.live.rows(production.releases.active().table).to_pylist()
        return {row["id"]: row for row in rows}

    # --- writing ------------------------------------------------------------------------------------------------------

    def _previous(self, task):
        return (["init", *self.tasks])[self.tasks.index(task)]

    def _write_shard(self, task, previous):
        number = self.tasks.index(task)
        images = np.concatenate([pixels_of(2 * number + kind, self.images, seed=0) for kind in (0, 1)])
        labels = np.repeat([f"{task}-a", f"{task}-b"], self.images)
        ids = content_ids(images)
        classes = (f"{task}-a", f"{task}-b")
        source = CanonicalSet(
            record=SourceRecord(
                name="digits", kind="digits", images=len(images), rejected=0, duplicates=0, classes=classes
            ),
            images=images,
            ids=ids,
            labels=labels,
            source_splits=np.full(len(images), ""),
            paths=ids,
        )
        every = np.arange(len(images))
        splits = np.array(["train", "gate"])[every % 2]
        cut = ShardItems(classes=classes, rows=every, splits=splits, skipped=0, emptied=())
        record = write_shard(self.files.shard(task), source, cut, task=task)
        earlier = SeenShards.load(self.files.seen(previous))
        SeenShards(shards=(*earlier.shards, record)).save(self.files.seen(task))

    def _write_adapters(self, task, previous, old, embedder):
        """A linear map for each provenance of the old gallery."""
        folder = self.files.candidate_adapters(task)
        folder.mkdir(parents=True)
        lineage = Lineage.load(self.files.lineage(previous))
        images = load_shard(self.files.shard(task)).images
        fits = []
        for provenance, rows in old.groups().items():
            source, target = lineage.embed_as(provenance, device="cpu", threads=1)(images), embedder(images)
            metadata = AdapterMetadata(
                source=str(old.spaces[rows[0]]),
                target=embedder.digest,
                method="ridge",
                source_dimension=source.shape[1],
                dimension=target.shape[1],
            )
            write_adapter(PairSums.of(source, target).ridge(1e-4), folder / "new.onnx", metadata)
            digest = digest_of(folder / "new.onnx")
            (folder / "new.onnx").rename(folder / f"{digest}.onnx")
            np.save(folder / f"{digest}.anchors.npy", source)
            np.save(folder / f"{digest}.residuals.npy", np.zeros(len(source), np.float32))
            offer = AdapterOffer(method="ridge", digest=digest, select_recall=None, select_cosine=0.9)
            fits.append(
                AdapterFit(
                    embedded_by=provenance.embedded_by,
                    adapters=provenance.adapters,
                    images=len(images),
                    offers=(offer,),
                    chosen=digest,
                )
            )
        AdapterFits(fits=tuple(fits), why_not=None if fits else "there is no gallery to map").save(
            folder / "adapters.json"
        )

    def _joined(self, task, old, embedder, spaces):
        pool = self.pool(task)
        new = np.flatnonzero(pool.tasks == task)
        added = Gallery.embedded(
            ids=pool.ids[new],
            labels=pool.labels[new],
            tasks=pool.tasks[new],
            splits=pool.splits[new],
            vectors=pool.embed(new, embedder),
            model=embedder.digest,
        )
        return old.joined(added, query_model=embedder.digest, searchable_spaces=spaces or (embedder.digest,))

    def _conclude(self, task, previous, champion, gallery, verdict):
        VerdictFile(verdict=verdict).save(self.files.verdict(task))
        CheckReport(
            task=task,
            split="gate",
            candidate=verdict.candidate,
            champion=verdict.champion,
            pending=(),
            status_quo=None,
            cross_test=None,
            alternatives=(),
            rehearsal=None,
            partial=None,
            adapter_methods={},
            during_backfill=(),
            best_own_gallery={},
        ).save(self.files.check(task))
        entry = LedgerEntry(
            task=task,
            candidate=verdict.candidate,
            outcome=verdict.outcome,
            strategy=getattr(verdict, "strategy", None),
            share=None,
            champion=champion.digest,
            champion_task=champion.task,
            check=digest_of(self.files.check(task)),
            gallery=gallery.digest,
            served={},
        )
        Ledger(entries=(*Ledger.load(self.files.ledger(previous)).entries, entry)).save(self.files.ledger(task))


def _scores(plan, old, embedder):
    """Steep scores for what the candidate finds, and flat ones for what older models do."""
    native = Provenance(embedder.digest, "")
    return tuple(
        GroupScoring(
            embedded_by=provenance.embedded_by,
            adapters=provenance.adapters,
            query_model=plan.query_models.get(provenance, embedder.digest),
            dimension=old.dimension_of(provenance) if provenance in plan.query_models else embedder.metadata.dimension,
            score=Logistic(slope=3.0, offset=-2.0) if provenance == native else Logistic(slope=2.5, offset=-1.5),
        )
        for provenance in dict.fromkeys([*plan.provenances(old), native])
    )


def _projection(number, dimension, drift):
    """(64, D): the same random projection, drifting from task to task."""
    projection = np.random.default_rng(0).normal(size=(SIZE * SIZE, dimension))
    for step in range(1, number + 1):
        projection = projection + drift * np.random.default_rng(step).normal(size=projection.shape)
    return projection


def write_linear(path, projection, metadata):
    """ONNX: unit vectors of (pixels / 255 - 1/2) @ projection."""
    constants = {
        "shape": np.array([0, -1], np.int64),
        "scale": np.float32(255),
        "mean": np.float32(0.5),
        "projection": projection.astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["floats", "shape"], ["flat"]),
        helper.make_node("Div", ["flat", "scale"], ["scaled"]),
        helper.make_node("Sub", ["scaled", "mean"], ["centred"]),
        helper.make_node("MatMul", ["centred", "projection"], ["features"]),
        helper.make_node("LpNormalization", ["features"], ["embeddings"], axis=1, p=2),
    ]
    shape = ["n", metadata.size, metadata.size, metadata.channels]
    graph = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", projection.shape[1]])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
