import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning.batches import LabelledImages
from csd_core.learning.distributed.group import ALONE
from csd_core.learning.embedding import embed, mean_of_pooled
from csd_core.learning.export.embedder import export_embedder
from csd_core.learning.export.graph import IR_VERSION
from csd_core.learning.networks.heads import CentredHead
from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import TrainedModel, save_model
from csd_core.learning.seeding import keyed_generator
from csd_core.params.model import Export
from csd_core.records.stages import ImageForm, ModelRecord
from csd_core.retrieval.embedder import Embedder
from csd_core.system.errors import ArtifactError

EXPORT = Export(
    opset=18,
    max_cosine_error=1e-4,
    parity_images=40,
    quantize="none",
    max_recall_loss=0.005,
    calibration_images=40,
)
CLASSES = ("zero", "Ünü", "二")


def untrained(network, *, size=8, channels=1):
    """A model whose batch norm has statistics of its own, as after training."""
    changed = network.model_copy(update={"mean": [0.3] * channels, "std": [0.38] * channels})
    model = new_network(changed, channels=channels, pixels=8, classes=3, generator=keyed_generator(1)).train()
    for step in range(3):
        model(torch.randint(256, (16, size, size, channels), dtype=torch.uint8, generator=keyed_generator(step)))
    record = ModelRecord(
        task="t2",
        network=changed,
        images=ImageForm(size=size, channels=channels, resize="pad"),
        classes=CLASSES,
        trained_on=("t2",),
        best_epoch=1,
        select_recall=None,
    )
    return TrainedModel(record=record, network=model.eval())


@pytest.fixture(scope="module")
def select(digits_shard):
    shard = digits_shard("t1", [0, 1, 2])
    return LabelledImages.of(ItemPool(shards=[shard]), "select", classes=("0", "1", "2"), max_in_memory_mb=1)


@pytest.fixture(scope="module")
def exported(network, select, tmp_path_factory):
    """A model, its file, and the error it was accepted with."""
    model, target = untrained(network), tmp_path_factory.mktemp("export") / "embedder.onnx"
    error = export_embedder(model, target, export=EXPORT, parent="ab" * 32, validation=select)
    return model, target, error


def test_onnxruntime_embeds_as_torch_does(exported, select):
    model, target, error = exported
    images = select.take(torch.arange(len(select))).numpy()
    expected = embed(model.network, select)
    for batch in (1, 2, 33):
        np.testing.assert_allclose(Embedder.load(target)(images, batch=batch), expected, atol=1e-5)
    assert 0 <= error < 1e-6


def test_the_file_says_what_it_is(exported):
    model, target, _ = exported
    metadata = Embedder.load(target).metadata
    assert metadata.form == model.record.images
    assert (metadata.dimension, metadata.classes, metadata.parent) == (32, CLASSES, "ab" * 32)


def test_a_form_goes_with_the_model_and_the_usual_one_needs_no_word(exported, network, select, tmp_path):
    model = untrained(network)
    unusual = model.record.images.model_copy(update={"resize": "crop", "crop_share": 0.875, "background": "#102030"})
    changed = TrainedModel(record=model.record.model_copy(update={"images": unusual}), network=model.network)
    export_embedder(changed, tmp_path / "unusual.onnx", export=EXPORT, parent="ab" * 32, validation=select)
    found = Embedder.load(tmp_path / "unusual.onnx")
    assert found.metadata.form == unusual
    assert found.digest != Embedder.load(exported[1]).digest
    props = {each.key for each in onnx.load(exported[1]).metadata_props}
    assert not {"csd.image_crop_share", "csd.image_background"} & props  # so digests are those of before


@pytest.mark.parametrize(("key", "text"), [("csd.image_background", "red"), ("csd.image_crop_share", "2")])
def test_a_form_that_makes_no_sense_is_refused(exported, tmp_path, key, text):
    graph = onnx.load(exported[1])
    onnx.helper.set_model_props(graph, {each.key: each.value for each in graph.metadata_props} | {key: text})
    onnx.save(graph, tmp_path / "strange.onnx")
    with pytest.raises(ArtifactError, match="cannot load it"):
        Embedder.load(tmp_path / "strange.onnx")


def test_the_file_has_the_promised_signature(exported):
    graph = onnx.load(exported[1])
    onnx.checker.check_model(graph, full_check=True)
    (images,), (embeddings,) = graph.graph.input, graph.graph.output
    shapes = [
        [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (images, embeddings)
    ]
    assert (images.name, embeddings.name) == ("images", "embeddings")
    assert shapes == [["batch", 8, 8, 1], ["batch", 32]]
    assert images.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert embeddings.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert graph.ir_version == IR_VERSION
    assert [(opset.domain, opset.version) for opset in graph.opset_import] == [("", 18)]


def test_batch_norm_is_folded_into_the_convolutions(exported):
    kinds = [node.op_type for node in onnx.load(exported[1]).graph.node]
    assert kinds.count("Conv") == 7
    assert "BatchNormalization" not in kinds


def test_the_file_holds_no_path_trace_or_version(exported):
    content = exported[1].read_bytes()
    root = str(Path(__file__).parents[2])
    for trace in (root, str(Path.cwd()), ".py", "File ", "pkg.torch", "site-packages", torch.__version__):
        assert trace.encode() not in content
    graph = onnx.load(exported[1])
    assert {prop.key.partition(".")[0] for prop in graph.metadata_props} == {"csd"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"head": "linear"},
        {"head": "relu-centred"},
        {"head": "bn-neck"},
        *({"architecture": "resnet18", "head": head} for head in ("linear", "linear-centred", "bn-neck")),
    ],
    ids=str,
)
def test_every_network_can_be_exported(network, select, tmp_path, changes):
    model = untrained(network.model_copy(update=changes))
    if isinstance(model.network.head, CentredHead):
        model.network.head.mean.copy_(mean_of_pooled(model.network, select, ALONE))
    assert export_embedder(model, tmp_path / "m.onnx", export=EXPORT, parent=None, validation=select) < 1e-6
    assert Embedder.load(tmp_path / "m.onnx").metadata.parent is None


@pytest.mark.slow
def test_a_newer_opset_is_used_if_asked_for(network, select, tmp_path):
    export = EXPORT.model_copy(update={"opset": 21})
    export_embedder(untrained(network), tmp_path / "m.onnx", export=export, parent=None, validation=select)
    assert onnx.load(tmp_path / "m.onnx").opset_import[0].version == 21


@pytest.mark.parametrize("head", ["relu", "relu-centred", "bn-neck"])
def test_a_feature_without_direction_becomes_a_finite_unit_vector(network, select, tmp_path, head):
    model = untrained(network.model_copy(update={"head": head}))
    if head == "bn-neck":
        model.network.head.norm.reset_running_stats()  # so that 0 stays 0
    with torch.no_grad():
        model.network.backbone.blocks[-1].bn2.bias.fill_(-1e6)  # the last ReLU lets nothing through
    export_embedder(model, tmp_path / "m.onnx", export=EXPORT, parent=None, validation=select)
    found = Embedder.load(tmp_path / "m.onnx")(select.take(torch.arange(3)).numpy())
    np.testing.assert_allclose(found, np.full((3, 32), 32**-0.5), rtol=1e-6)


def test_an_export_that_differs_from_torch_is_refused_and_the_former_file_stays(network, select, tmp_path):
    target = tmp_path / "m.onnx"
    target.write_bytes(b"former")
    strict = EXPORT.model_copy(update={"max_cosine_error": 1e-30})
    with pytest.raises(ArtifactError, match=r"differ from torch's by 1 - cos = .*export.max_cosine_error = 1e-30"):
        export_embedder(untrained(network), target, export=strict, parent=None, validation=select)
    assert target.read_bytes() == b"former"
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_an_export_without_images_to_compare_on_is_refused(network, digits_shard, tmp_path):
    none = LabelledImages.of(ItemPool(shards=[digits_shard("t1", [0])]), "gate", classes=("0",), max_in_memory_mb=1)
    with pytest.raises(ArtifactError, match="compared on select images, found none"):
        export_embedder(untrained(network), tmp_path / "m.onnx", export=EXPORT, parent=None, validation=none)


SCRIPT = """
import sys
from pathlib import Path
import numpy as np, torch
from csd_core.learning.export.embedder import export_embedder
from csd_core.learning.networks.weights import load_model
from csd_core.params.model import Export

class Images:
    def __len__(self): return 33
    def take(self, positions): return torch.arange(33 * 64).view(33, 8, 8, 1).to(torch.uint8)[positions]

settings = {"opset": 18, "max_cosine_error": 1e-4, "parity_images": 33, "quantize": "none"}
export = Export(**settings, max_recall_loss=0.005, calibration_images=33)
export_embedder(load_model(Path(sys.argv[1])), Path("out.onnx"), export=export, parent=None, validation=Images())
"""


@pytest.mark.slow
def test_two_processes_with_other_hash_seeds_and_folders_write_the_same_bytes_and_no_chatter(network, tmp_path):
    save_model(untrained(network), tmp_path / "model")
    contents = []
    for seed in ("1", "2"):
        folder = tmp_path / f"run{seed}"
        folder.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "model")],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == ("", "")
        contents.append((folder / "out.onnx").read_bytes())
    assert contents[0] == contents[1]
    assert str(tmp_path).encode() not in contents[0]
