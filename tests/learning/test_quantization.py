import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn import functional

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.export.embedder import export_embedder
from csd_core.learning.export.graph import IR_VERSION
from csd_core.learning.export.quantization import judge, quantize, quantized
from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import TrainedModel
from csd_core.learning.seeding import keyed_generator
from csd_core.params.model import Export
from csd_core.records.stages import ImageForm, ModelRecord, ShardRecord
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.system.errors import ArtifactError

EXPORT = Export(
    opset=18,
    max_cosine_error=1e-4,
    parity_images=33,
    quantize="int8",
    max_recall_loss=0.02,
    calibration_images=64,
)


def pool_of(splits):
    """Real digits, their roles repeating in the order of `splits`."""
    bunch = load_digits()
    count = 800
    shard = Shard(
        record=ShardRecord(
            task="t1", source="digits", classes=tuple("0123456789"), counts={}, skipped=0, digest="0" * 64
        ),
        images=np.round(bunch.images[:count] * (255 / 16)).astype(np.uint8)[..., None],
        ids=np.array([f"{row:04}" for row in range(count)]),
        labels=bunch.target[:count].astype(str),
        splits=np.resize(np.array(splits), count),
    )
    return ItemPool(shards=[shard])


@pytest.fixture(scope="module")
def pool():
    return pool_of(["train", "gate", "train", "gate", "train", "gate", "train", "select"])


@pytest.fixture(scope="module")
def model(network, pool, tmp_path_factory):
    """The embedder of a network that has learned digits."""
    torch.manual_seed(1)
    learned = new_network(network, channels=1, pixels=8, classes=10, generator=keyed_generator(1)).train()
    classifier = torch.nn.Linear(learned.dimension, 10)
    optimizer = torch.optim.Adam([*learned.parameters(), *classifier.parameters()], lr=0.005)
    train = pool.rows("train")
    images, labels = torch.from_numpy(pool.images(train)), torch.from_numpy(pool.labels[train].astype(int))
    for epoch in range(6):
        for some in torch.randperm(len(train), generator=keyed_generator(epoch)).split(50):
            loss = functional.cross_entropy(classifier(learned(images[some])), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    record = ModelRecord(
        task="t1",
        network=network,
        images=ImageForm(size=8, channels=1, resize="pad"),
        classes=tuple("0123456789"),
        trained_on=("t1",),
        best_epoch=6,
        select_recall=None,
    )
    target = tmp_path_factory.mktemp("model") / "embedder.onnx"
    select = LabelledImages.of(pool, "select", classes=record.classes, max_in_memory_mb=1)
    export_embedder(
        TrainedModel(record=record, network=learned.eval()), target, export=EXPORT, parent="ab" * 32, validation=select
    )
    return target


@pytest.fixture(scope="module")
def calibration(pool):
    return pool.images(pool.rows("select")[:64])


@pytest.fixture(scope="module")
def variant(model, calibration, tmp_path_factory):
    target = tmp_path_factory.mktemp("variant") / "embedder.int8.onnx"
    quantize(model, target, calibration=calibration, threads=1)
    return target


def test_the_variant_says_of_itself_what_the_model_says(model, variant):
    assert Embedder.load(variant).metadata == Embedder.load(model).metadata
    assert digest_of(variant) != digest_of(model)
    assert variant.stat().st_size < model.stat().st_size


def test_its_vectors_are_of_unit_length_and_near_the_models(model, variant, pool):
    images = pool.images(pool.rows("gate"))
    expected, found = Embedder.load(model)(images), Embedder.load(variant)(images)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    cosines = (expected * found).sum(axis=1)
    assert cosines.min() > 0.97
    assert cosines.mean() < 1 - 1e-7  # it is not the model itself


def test_every_convolution_has_whole_numbers_with_a_range_a_channel_and_a_bit_to_spare(variant):
    graph = onnx.load(variant).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    made_by = {node.output[0]: node for node in graph.node}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 7
    assert "Relu" not in {node.op_type for node in graph.node}  # a range from zero does its work
    for node in convolutions:
        image, weight = (made_by[name] for name in node.input[:2])
        assert (image.op_type, weight.op_type) == ("DequantizeLinear", "DequantizeLinear")
        whole, scales = (constants[name] for name in weight.input[:2])
        assert (whole.dtype, scales.shape) == (np.int8, (len(whole),))
        assert abs(whole.astype(int)).max() <= 64


def test_normalisation_and_unit_length_stay_in_float(variant):
    graph = onnx.load(variant).graph
    made_by = {node.output[0]: node.op_type for node in graph.node}
    for kind in ("Mul", "Transpose", "Sqrt", "Div"):
        (node,) = (node for node in graph.node if node.op_type == kind)
        assert "DequantizeLinear" not in {made_by.get(name) for name in node.input}


def test_the_file_holds_no_path_trace_or_version(variant):
    content = variant.read_bytes()
    for trace in (str(Path.cwd()), str(variant.parent), "onnx.quantize", "onnx.infer", onnxruntime.__version__):
        assert trace.encode() not in content
    graph = onnx.load(variant)
    onnx.checker.check_model(graph, full_check=True)
    assert {prop.key.partition(".")[0] for prop in graph.metadata_props} == {"csd"}
    assert (graph.producer_name, graph.producer_version, graph.ir_version) == ("csd", "", IR_VERSION)
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]


SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from csd_core.learning.export.quantization import quantize

quantize(Path(sys.argv[1]), Path("out.onnx"), calibration=np.load(sys.argv[2]), threads=int(sys.argv[3]))
assert "torch" not in sys.modules
"""


def test_another_process_in_another_folder_writes_the_same_bytes_and_no_chatter(model, variant, calibration, tmp_path):
    np.save(tmp_path / "images.npy", calibration)
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(model), str(tmp_path / "images.npy"), "1"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("", "")
    assert (tmp_path / "out.onnx").read_bytes() == variant.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images.npy", "out.onnx"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_the_bytes_do_not_depend_on_the_number_of_cores(model, calibration, tmp_path):
    np.save(tmp_path / "images.npy", calibration)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    two = sorted(os.sched_getaffinity(0))[:2]
    written = []
    for cores in (two[:1], two):
        pinned = ["taskset", "-c", ",".join(map(str, cores)), sys.executable, "-c", SCRIPT]
        subprocess.run(
            [*pinned, str(model), str(tmp_path / "images.npy"), "2"], cwd=tmp_path, env=environment, check=True
        )
        written.append((tmp_path / "out.onnx").read_bytes())
    assert written[0] == written[1]


class CountingThreads:
    """Images that count the threads of this process whenever some are taken."""

    def __init__(self, images):
        self.images, self.threads = images, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, some):
        self.threads = len(list(Path("/proc/self/task").iterdir()))
        return self.images[some]


def test_calibration_runs_with_the_threads_that_it_is_given(model, calibration, tmp_path):
    threads = []
    for wanted in (1, 4):
        images = CountingThreads(calibration)
        quantize(model, tmp_path / "int8.onnx", calibration=images, threads=wanted)
        threads.append(images.threads)
    assert threads[1] - threads[0] == 3


def test_other_images_give_other_ranges(variant, model, calibration, tmp_path):
    quantize(model, tmp_path / "dark.onnx", calibration=calibration // 4, threads=1)
    assert digest_of(tmp_path / "dark.onnx") != digest_of(variant)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "head"), [("resnet18", "linear"), ("resnet-cifar", "relu-centred"), ("resnet-cifar", "bn-neck")]
)
def test_every_network_can_be_quantised(network, pool, calibration, tmp_path, architecture, head):
    changed = network.model_copy(update={"architecture": architecture, "head": head})
    untrained = new_network(changed, channels=1, pixels=8, classes=2, generator=keyed_generator(1)).eval()
    record = ModelRecord(
        task="t1",
        network=changed,
        images=ImageForm(size=8, channels=1, resize="pad"),
        classes=("a", "b"),
        trained_on=("t1",),
        best_epoch=1,
        select_recall=None,
    )
    select = LabelledImages.of(pool, "select", classes=tuple("0123456789"), max_in_memory_mb=1)
    model = TrainedModel(record=record, network=untrained)
    export_embedder(model, tmp_path / "m.onnx", export=EXPORT, parent=None, validation=select)
    quantize(tmp_path / "m.onnx", tmp_path / "int8.onnx", calibration=calibration, threads=1)
    expected, found = (Embedder.load(tmp_path / name)(calibration) for name in ("m.onnx", "int8.onnx"))
    assert (expected * found).sum(axis=1).min() > 0.95


def test_a_calibration_without_images_is_refused_and_the_previous_file_stays(model, tmp_path):
    target = tmp_path / "int8.onnx"
    target.write_bytes(b"previous")
    with pytest.raises(ArtifactError, match="calibrated on select images, found none"):
        quantize(model, target, calibration=np.empty((0, 8, 8, 1), np.uint8), threads=1)
    assert target.read_bytes() == b"previous"


def recall_by_hand(queries, rows, labels):
    hits = 0
    for position, query in enumerate(queries):
        similar = rows @ query
        similar[position] = -np.inf
        hits += labels[similar.argmax()] == labels[position]
    return hits / len(queries)


def test_both_are_judged_on_the_models_rows_of_gate_images_without_the_own_row(model, variant, pool):
    fp32, int8 = judge(pool, model=Embedder.load(model), variant=Embedder.load(variant))
    gate = pool.rows("gate")
    rows, queries = (Embedder.load(path)(pool.images(gate)) for path in (model, variant))
    assert fp32.at(1) == recall_by_hand(rows, rows, pool.labels[gate])
    assert int8.at(1) == recall_by_hand(queries, rows, pool.labels[gate])
    assert 0.9 < fp32.at(1) < 1
    assert abs(fp32.at(1) - int8.at(1)) <= 0.02


def test_a_variant_that_is_as_good_ships(model, pool, tmp_path):
    target = tmp_path / "int8.onnx"
    record = quantized(model, target, pool=pool, export=EXPORT, threads=1)
    assert (record.asked, record.shipped, record.why_not, record.calibrated_on) == ("int8", True, None, 64)
    assert record.digest == digest_of(target)
    fp32, int8 = judge(pool, model=Embedder.load(model), variant=Embedder.load(target))
    assert (record.recall_fp32, record.recall_int8) == (fp32.at(1), int8.at(1))


def test_calibration_images_are_spread_over_all_of_select(model, pool, tmp_path):
    select = pool.images(pool.rows("select"))
    few = EXPORT.model_copy(update={"calibration_images": 3})
    record = quantized(model, tmp_path / "three.onnx", pool=pool, export=few, threads=1)
    chosen = select[[0, round((len(select) - 1) / 2), len(select) - 1]]
    quantize(model, tmp_path / "same.onnx", calibration=chosen, threads=1)
    assert (record.digest, record.calibrated_on) == (digest_of(tmp_path / "same.onnx"), 3)
    many = EXPORT.model_copy(update={"calibration_images": 10_000})
    record = quantized(model, tmp_path / "all.onnx", pool=pool, export=many, threads=1)
    assert record.calibrated_on == len(select)


def test_a_variant_that_loses_more_than_allowed_does_not_ship_and_leaves_no_file(model, pool, tmp_path, monkeypatch):
    def from_darkness(model, target, *, calibration, threads):
        dark = np.zeros_like(calibration)  # its ranges do not fit digits
        quantize(model, target, calibration=dark, threads=threads)

    monkeypatch.setattr("csd_core.learning.export.quantization.quantize", from_darkness)
    record = quantized(model, tmp_path / "int8.onnx", pool=pool, export=EXPORT, threads=1)
    lost = 100 * (record.recall_fp32 - record.recall_int8)
    assert lost > 2
    assert record.why_not == (
        f"it loses {lost:.2f} points of Recall@1 ({record.queries} queries), at most export.max_recall_loss = 2 are "
        "allowed"
    )
    assert (record.shipped, len(record.digest)) == (False, 64)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_of_just_what_is_allowed_ships(model, pool, tmp_path, monkeypatch):
    fp32 = judge(pool, model=Embedder.load(model), variant=Embedder.load(model))[0]
    worse = type(fp32)(k=fp32.k, rank=fp32.rank.copy(), possible=fp32.possible)
    worse.rank[np.flatnonzero(fp32.rank == 0)[:3]] = 1
    monkeypatch.setattr("csd_core.learning.export.quantization.judge", lambda *_, **__: (fp32, worse))
    shipped = [
        quantized(
            model,
            tmp_path / "int8.onnx",
            pool=pool,
            export=EXPORT.model_copy(update={"max_recall_loss": lost / fp32.queries}),
            threads=1,
        ).shipped
        for lost in (2, 3)
    ]
    assert shipped == [False, True]


def test_a_variant_that_cannot_be_judged_does_not_ship(model, tmp_path):
    record = quantized(model, tmp_path / "int8.onnx", pool=pool_of(["train", "select"]), export=EXPORT, threads=1)
    assert (record.shipped, record.recall_fp32, record.recall_int8) == (False, None, None)
    assert record.why_not == "no gate image has a second one of its class, so its recall cannot be measured"
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_made_unless_it_is_asked_for(model, pool, tmp_path):
    none = EXPORT.model_copy(update={"quantize": "none"})
    record = quantized(model, tmp_path / "int8.onnx", pool=pool, export=none, threads=1)
    assert (record.asked, record.digest, record.shipped, record.why_not) == ("none", None, False, None)
    assert list(tmp_path.iterdir()) == []
