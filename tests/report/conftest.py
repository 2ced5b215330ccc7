"""Lines of tasks as real stages leave them, made in a second: linear embedders stand in for training.

The images are scikit-learn's digits; a candidate is a projection of pixels that drifts from task to task, and a
classifier that forgets old rows. Check and promotion are the real stages: galleries, verdicts and ledgers are real too.
"""

import contextlib
import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from sklearn.datasets import load_digits

from csd_core.data.canonical import CanonicalSet
from csd_core.data.shards import ShardItems, load_shard, write_shard
from csd_core.params.file import profile_text
from csd_core.params.rules import GENESIS
from csd_core.records.stages import Champion, ImageForm, ModelRecord, Pending, SeenShards, SourceRecord
from csd_core.report.charts.tasks import charts
from csd_core.report.collect import collect
from csd_core.report.data import ReportData
from csd_core.report.page import render
from csd_core.report.scores import Metrics, summarise
from csd_core.retrieval.embedder import EmbedderMetadata
from csd_core.stages import adapt, check, init, promote
from csd_core.workspace import Workspace

PROFILES = Path(__file__).parents[2] / "csd_core/project/profiles"
ROLES = ("train", "train", "train", "select", "gate", "gate", "test", "test")


@dataclass(frozen=True)
class InboxBatch:
    """A task of a line.

    Attributes:
        digits: What is drawn on its images.
        decision: Of the operator.
        names: Class names; the digits themselves where None.
        images: Of each class.
        drift: How far its candidate moves from its predecessor's; large drifts break compatibility.
        first: The first image of each digit to take, so that two tasks can show the same digit.
        roles: Splits that its images take in turn.
        dimensions: Of its candidate's vectors; no more than its predecessor's.
    """

    digits: tuple[int, ...]
    decision: str = "auto"
    names: tuple[str, ...] | None = None
    images: int = 64
    drift: float = 0.12
    first: int = 0
    roles: tuple[str, ...] = ROLES
    dimensions: int = 10

    @property
    def classes(self):
        return self.names or tuple(map(str, self.digits))


@dataclass
class Line:
    """Builds a workspace, task after task."""

    files: Workspace
    arrivals: dict[str, InboxBatch]
    policy: dict[str, object] = field(default_factory=dict)
    searchable: tuple[str, ...] = ("train", "select", "gate", "test")
    partial: dict[str, object] = field(default_factory=dict)
    state: dict[str, tuple] = field(default_factory=dict)

    def build(self):
        digits = load_digits()
        self.pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
        self.digits = digits.target
        self.write_params()
        with contextlib.chdir(self.files.root):
            init.main()
            previous = GENESIS
            for task, arrival in self.arrivals.items():
                self.write_shard(task, arrival, previous)
                self.write_candidate(task, previous)
                adapt.main(task)
                check.main(task)
                promote.main(task)
                previous = task
        return self.files

    def write_params(self):
        values = YAML(typ="safe").load(profile_text(PROFILES, "tiny"))
        names = list(self.arrivals)
        values["tasks"] = {
            task: {
                "previous": ([GENESIS, *names])[number],
                "recipe": "later" if number else "first",
                "source": "digits",
                "classes": list(arrival.classes),
            }
            for number, (task, arrival) in enumerate(self.arrivals.items())
        }
        values["decisions"] = {task: arrival.decision for task, arrival in self.arrivals.items()}
        values["gate"] |= {"allowed": ["keep", "backfill"], "min_recall": 0.3, **LENIENT, **self.policy}
        values["gallery"] = {"splits": list(self.searchable)}
        values["upgrade"]["adapter"] |= {"mlp_epochs": 2, "mlp_width": 8}
        values["upgrade"]["partial"] |= self.partial
        values["report"] = {"after": names[-1], "neighbours": 5, "example_queries": 6}
        with (self.files.root / "params.yaml").open("w", encoding="utf-8") as file:
            YAML().dump(values, file)

    def write_shard(self, task, arrival, previous):
        rows, labels, splits = [], [], []
        for digit, name in zip(arrival.digits, arrival.classes, strict=True):
            chosen = np.flatnonzero(self.digits == digit)[arrival.first : arrival.first + arrival.images]
            rows += chosen.tolist()
            labels += [name] * len(chosen)
            splits += [arrival.roles[place % len(arrival.roles)] for place in range(len(chosen))]
        images = self.pixels[rows]
        ids = np.array([hashlib.sha256(f"{task}-{row}".encode()).hexdigest() for row in rows])
        source = CanonicalSet(
            record=SourceRecord(
                name="digits", kind="digits", images=len(rows), rejected=0, duplicates=0, classes=arrival.classes
            ),
            images=images,
            ids=ids,
            labels=np.array(labels),
            source_splits=np.full(len(rows), ""),
            paths=ids,
        )
        every = np.arange(len(rows))
        cut = ShardItems(classes=arrival.classes, rows=every, splits=np.array(splits), skipped=0, emptied=())
        record = write_shard(self.files.shard(task), source, cut, task=task)
        earlier = SeenShards.load(self.files.seen(previous))
        SeenShards(shards=(*earlier.shards, record)).save(self.files.seen(task))

    def write_candidate(self, task, previous):
        """A drifting projection; old rows of the classifier fade into noise."""
        champion = Champion.load(self.files.champion_embedder(previous) / "champion.json")
        random = np.random.default_rng(list(self.arrivals).index(task))
        mean, projection, rows = self.state.get(champion.task, (None, None, None))
        waiting = Pending.load(self.files.pending(previous)).tasks
        arrivals = {name: self.arrivals[name] for name in (*waiting, task)}
        pixels, labels = self.training_images(arrivals)
        width = arrivals[task].dimensions
        if projection is None:
            mean = pixels.mean(axis=0)
            _, _, axes = np.linalg.svd(pixels - mean, full_matrices=False)
            projection = axes[:width].T.copy()
        else:
            noise = random.normal(size=projection.shape) / np.sqrt(len(projection))
            projection = (projection + 3 * arrivals[task].drift * noise)[:, :width]
            rows = rows[:, :width]
        vectors = (pixels - mean) @ projection
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        faded = (
            {}
            if rows is None
            else dict(zip(champion.classes, rows + 0.35 * random.normal(size=rows.shape), strict=True))
        )
        fresh = {name: vectors[labels == name].mean(axis=0) for name in dict.fromkeys(labels.tolist())}
        known = faded | fresh
        classes, rows = tuple(known), np.array(list(known.values()))
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        self.state[task] = (mean, projection, rows)
        self.write_model(task, rows, classes, trained_on=tuple(arrivals))
        metadata = EmbedderMetadata(
            size=8, channels=1, resize="squash", dimension=width, classes=classes, parent=champion.digest
        )
        write_embedder(self.files.candidate_embedder(task), mean, projection, metadata)
        self.write_curves(task, random)

    def training_images(self, arrivals):
        pixels, labels = [], []
        for name in arrivals:
            shard = load_shard(self.files.shard(name))
            train = shard.rows("train")
            pixels.append(shard.images[train].reshape(len(train), -1) / 255)
            labels.append(shard.labels[train])
        return np.concatenate(pixels), np.concatenate(labels)

    def write_model(self, task, rows, classes, trained_on):
        folder = self.files.candidate_model(task)
        folder.mkdir(parents=True)
        save_file({"classifier.weight": rows.astype(np.float32)}, folder / "weights.safetensors")
        ModelRecord(
            task=task,
            network=None,
            images=ImageForm(size=8, channels=1, resize="squash"),
            classes=classes,
            trained_on=trained_on,
            best_epoch=1,
            select_recall=0.9,
        ).save(folder / "model.json")

    def write_curves(self, task, random, epochs=12):
        falling = np.exp(-np.arange(epochs) / 4)
        terms = {"train/ce": 2.0, "train/triplet": 0.9, "train/total": 3.2}
        if self.state and task != next(iter(self.arrivals)):
            terms |= {"train/kd": 0.2, "train/csd": 3.0}
        for name, start in terms.items():
            self.write_curve(task, name, start * (0.15 + falling) + random.normal(size=epochs) * 0.03 * start)
        self.write_curve(task, "train/lr", 0.001 * falling)
        self.write_curve(task, "select/recall_at_1", 0.97 - 0.2 * falling)

    def write_curve(self, task, name, values):
        path = self.files.curves(task) / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"step\t{path.stem}", *(f"{step}\t{value:.6f}" for step, value in enumerate(values))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


LENIENT = {
    "max_regression": 0.15,  # what so few queries can prove
    "max_task_regression": 0.2,
    "max_total_regression": 0.2,
    "min_gain": -0.15,
    "max_excess_flips": 0.2,
    "require_ecc": False,
    "resamples": 200,
}


def write_embedder(path, mean, projection, metadata):
    """ONNX: unit vectors of (pixels / 255 - mean) @ projection."""
    constants = {
        "shape": np.array([0, -1], np.int64),
        "scale": np.float32(255),
        "mean": mean.astype(np.float32),
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
    graph = helper.make_graph(
        nodes,
        "embedder",
        [
            helper.make_tensor_value_info(
                "images", TensorProto.UINT8, ["n", metadata.size, metadata.size, metadata.channels]
            )
        ],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", projection.shape[1]])],
        [numpy_helper.from_array(np.asarray(values), name) for name, values in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


SCRIPT = "<script>alert(1)</script>"
"""A class name from a folder of someone who means no good."""


@dataclass(frozen=True)
class Told:
    """A line of tasks with everything the report makes of it."""

    files: Workspace
    report_data: ReportData
    metrics: Metrics
    page: str


def tell(files):
    report_data = collect(files, files.params())
    metrics = summarise(report_data)
    return Told(files, report_data, metrics, render(report_data, metrics, charts(report_data, metrics)))


@pytest.fixture(scope="session")
def make_line(tmp_path_factory):
    """Builds a line of tasks: `make_line(t1=Arrival(...), ...)`."""

    def make(*, policy=None, searchable=ROLES, partial=None, **arrivals):
        splits = tuple(dict.fromkeys(searchable))
        return Line(Workspace(tmp_path_factory.mktemp("line")), arrivals, policy or {}, splits, partial or {}).build()

    return make


@pytest.fixture(scope="session")
def arrival():
    """The class of a line's tasks."""
    return InboxBatch


@pytest.fixture(scope="session")
def promoted(make_line):
    """Three tasks, every candidate promoted under keep."""
    return tell(make_line(t1=InboxBatch((0, 1, 2, 3)), t2=InboxBatch((4, 5, 6)), t3=InboxBatch((7, 8, 9), drift=0.08)))


@pytest.fixture(scope="session")
def alone(make_line):
    """One task."""
    return tell(make_line(t1=InboxBatch((0, 1, 2, 3))))


@pytest.fixture(scope="session")
def refused(make_line):
    """Two tasks, no candidate promoted."""
    return tell(make_line(policy={"min_map_at_r": 1.0}, t1=InboxBatch((0, 1, 2, 3)), t2=InboxBatch((4, 5, 6))))


@pytest.fixture(scope="session")
def carried(make_line):
    """The second of four candidates is rejected; a backfill follows, and a class with a hostile name."""
    return tell(
        make_line(
            t1=InboxBatch((0, 1, 2, 3)),
            t2=InboxBatch((4, 5, 6), decision="reject"),
            t3=InboxBatch((7, 8, 9), decision="backfill"),
            t4=InboxBatch((0, 1), names=("zero & co", SCRIPT), first=100),
        )
    )


@pytest.fixture(scope="session")
def unmeasured(make_line):
    """The second of two tasks has no test images."""
    return tell(make_line(t1=InboxBatch((0, 1, 2, 3)), t2=InboxBatch((4, 5, 6), roles=("train", "select", "gate"))))


@pytest.fixture(scope="session")
def untested(make_line):
    """A task without test images."""
    return tell(make_line(t1=InboxBatch((0, 1), roles=("train", "select", "gate"))))


@pytest.fixture(scope="session")
def late(make_line):
    """The first candidate is rejected, so that the second is the first model."""
    return tell(
        make_line(t1=InboxBatch((0, 1, 2, 3), decision="reject"), t2=InboxBatch((4, 5, 6)), t3=InboxBatch((7, 8, 9)))
    )


@pytest.fixture(scope="session")
def mixed(make_line):
    """A partial backfill, then a map for every stored vector, then a rejection: rows of many provenances."""
    return tell(
        make_line(
            policy={"allowed": ["keep", "adapt", "partial", "backfill"], "min_gain": 0.5},
            t1=InboxBatch((0, 1, 2, 3)),
            t2=InboxBatch((4, 5, 6), decision="partial"),
            t3=InboxBatch((7, 8, 9), decision="adapt"),
            t4=InboxBatch((0, 1), names=("zero", "one"), first=100, decision="reject"),
        )
    )


@pytest.fixture(scope="session")
def unstored(make_line):
    """Test images are not in the gallery."""
    return tell(
        make_line(searchable=("train", "select", "gate"), t1=InboxBatch((0, 1, 2, 3)), t2=InboxBatch((4, 5, 6)))
    )


@pytest.fixture(scope="session")
def narrowed(make_line):
    """The second candidate's vectors have fewer dimensions, so that only a backfill can serve it."""
    return tell(make_line(t1=InboxBatch((0, 1, 2, 3)), t2=InboxBatch((4, 5, 6), dimensions=8)))
