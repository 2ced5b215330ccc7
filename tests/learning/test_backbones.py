import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.data.shards import Shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.checkpoint import discard
from csd_core.learning.export.embedder import export_embedder
from csd_core.learning.export.quantization import quantize
from csd_core.learning.networks.device import prepare_torch
from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import TrainedModel, plain
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.training import train
from csd_core.params.model import Export
from csd_core.params.training import Network
from csd_core.records.stages import ImageForm, ModelRecord
from csd_core.retrieval.embedder import Embedder
from csd_core.system.errors import ParamsError

QUICK = ["mobilenet_v3_small", "timm/test_vit"]
SLOW = [
    "resnet18", "convnext_tiny", "efficientnet_b0", "vit_b_16", "swin_t", "mobilenet_v3_small",
    "timm/mobilenetv4_conv_small", "timm/vit_tiny_patch16_224", "timm/test_efficientnet",
]  # fmt: skip
LARGE = "vit_b_16"
"""A checkpoint of it is more than a gigabyte."""
PIXELS = 32
EXPORT = Export(
    opset=18, max_cosine_error=1e-4, parity_images=33, quantize="int8", max_recall_loss=0.005, calibration_images=16
)


@pytest.fixture(autouse=True)
def deterministic():
    """Operations without a deterministic form fail, as in a stage."""
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    prepare_torch(1)
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


def images(count=4, channels=3, pixels=PIXELS):
    shape = (count, pixels, pixels, channels)
    return torch.randint(256, shape, dtype=torch.uint8, generator=keyed_generator("images"))


def built(network, architecture, *, channels=3, pixels=PIXELS, **changes):
    changed = {"architecture": architecture, "mean": None, "std": None} | changes
    return new_network(
        Network.model_validate(network.model_dump() | changed),
        channels=channels,
        pixels=pixels,
        classes=3,
        generator=keyed_generator(1),
    ).eval()


@pytest.fixture(scope="module")
def photos(digits_shard, stage_data):
    """Stages of digits enlarged to 32 coloured pixels."""

    def enlarged(task, classes):
        shard = digits_shard(task, classes, per_class=16)
        large = shard.images.repeat(4, axis=1).repeat(4, axis=2).repeat(3, axis=3)
        return Shard(record=shard.record, images=large, ids=shard.ids, labels=shard.labels, splits=shard.splits)

    def of(*stages):
        data = stage_data([enlarged(f"t{number}", classes) for number, classes in enumerate(stages, 1)])
        return replace(data, form=ImageForm(size=PIXELS, channels=3, resize="pad"))

    return of


@pytest.mark.parametrize(
    ("architecture", "dimension", "mean"),
    [
        ("mobilenet_v3_small", 1024, [0.485, 0.456, 0.406]),
        ("shufflenet_v2_x0_5", 1024, [0.485, 0.456, 0.406]),
        ("squeezenet1_1", 512, [0.485, 0.456, 0.406]),
        ("timm/test_vit", 64, [0.5, 0.5, 0.5]),
        ("timm/test_efficientnet", 256, [0.485, 0.456, 0.406]),
    ],
)
def test_a_network_of_a_library_loses_its_classifier_and_brings_its_normalisation(
    network, architecture, dimension, mean
):
    model = built(network, architecture)
    assert model(images()).shape == (4, model.dimension) == (4, dimension)
    assert model.network.mean == mean
    grey = built(network, architecture, channels=1)
    assert grey(images(channels=1)).shape == (4, dimension)
    assert grey.network.mean == [pytest.approx(sum(mean) / 3)]
    assert built(network, architecture, mean=[0.1, 0.2, 0.3]).network.mean == [0.1, 0.2, 0.3]


@pytest.mark.slow
@pytest.mark.parametrize(
    "architecture",
    [
        "alexnet", "vgg11", "densenet121", "googlenet", "inception_v3",
        "regnet_y_400mf", "mnasnet0_5", "maxvit_t", "swin_v2_t",
    ],
)  # fmt: skip
def test_every_family_of_torchvision_embeds(network, architecture):
    model = built(network, architecture, pixels=224)
    assert model(images(2, pixels=224)).shape == (2, model.dimension)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ("convnext_tin", "torchvision has no classification network of this name; did you mean convnext_tiny"),
        ("resnet-cifra", "did you mean resnet-cifar"),
        ("timm/vit_tiny_patch16_24", "timm has no .*; did you mean timm/vit_tiny_patch16_224"),
        ("timm/vit_tiny_patch16_224.none", "timm has no weights of this tag; choose augreg_in21k or augreg_in21k_ft"),
        ("zzzz", "torchvision has no classification network of this name; choose resnet-cifar or one"),
    ],
)  # fmt: skip
def test_an_unknown_name_is_answered_with_close_ones(network, architecture, message):
    with pytest.raises(ParamsError, match=rf"^training\.network\.architecture: .*{message}"):
        built(network, architecture)


@pytest.mark.parametrize(
    ("architecture", "pixels"), [("vit_b_16", 40), ("maxvit_t", 64), ("alexnet", 32), ("timm/test_vit", 40)]
)
def test_a_size_that_a_network_cannot_take_is_one_line(network, architecture, pixels):
    with pytest.raises(
        ParamsError, match=rf"^images\.pixels: {pixels}: {architecture} cannot take .*choose a mult"
    ) as found:
        built(network, architecture, pixels=pixels)
    assert "\n" not in str(found.value)


def test_timm_is_asked_for_where_it_is_missing(network, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ParamsError, match=r"timm is not installed here; pip install 'csd\[timm\]'"):
        built(network, "timm/test_vit")


@pytest.mark.parametrize("architecture", QUICK)
def test_the_head_says_whether_an_embedding_can_be_negative(network, architecture):
    linear, relu = built(network, architecture, head="linear"), built(network, architecture)
    assert (linear(images()) < 0).any()
    assert torch.equal(relu(images()), linear(images()).relu())
    centred = built(network, architecture, head="linear-centred")
    assert torch.equal(centred(images()), linear(images()))


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        *(("resnet-cifar", head) for head in ("relu", "linear", "relu-centred", "bn-neck")),
        *(("timm/test_efficientnet", head) for head in ("relu", "linear", "linear-centred", "bn-neck")),
        ("resnet18", "linear"),
    ],
)
def test_a_projection_gives_the_embedding_its_dimension(network, architecture, head):
    model = built(network, architecture, head=head, dimension=12, mean=[0.5] * 3, std=[0.2] * 3)
    features, projected = model.backbone(torch.rand(4, 3, PIXELS, PIXELS)), model.pooled(images())
    assert model(images()).shape == projected.shape == (4, 12)
    assert model.classifier.weight.shape == (3, 12)
    assert bool((projected >= 0).all()) == head.startswith("relu")
    assert architecture.startswith("timm") or bool((features >= 0).all())  # a ResNet keeps its last ReLU
    rows = model.projection.weight.detach()
    torch.testing.assert_close(rows @ rows.T, torch.eye(12))
    assert model.projection.bias is None


def trained(data, training, network, work, champion=None, **recipe):
    cpu = torch.device("cpu")
    changed = training.model_copy(
        update={
            "network": network,
            "first": training.first.model_copy(update={"epochs": 1, **recipe}),
            "later": training.later.model_copy(
                update={"epochs": 1, "method": "csd_plus", "teacher_mode": "train", **recipe}
            ),
        }
    )
    model = train(data, changed, champion=champion, device=cpu, work=work)
    discard(work)  # a checkpoint is large
    return model


def same(first, second):
    return all(
        torch.equal(tensor, second.network.state_dict()[name]) for name, tensor in first.network.state_dict().items()
    )


def stages_of_two(photos, training, network, architecture, tmp_path):
    """Two stages, of which the later distils the first: trained twice, with torch's own generator in another state."""
    changed = Network.model_validate(
        network.model_dump()
        | {"architecture": architecture, "mean": None, "std": None, "dimension": 16, "head": "bn-neck"}
    )
    runs = []
    for run in range(2):
        torch.manual_seed(run)
        first = trained(photos([0, 1, 2]), training, changed, tmp_path / f"{run}-first")
        torch.manual_seed(run + 7)
        runs.append((first, trained(photos([0, 1, 2], [3, 4]), training, changed, tmp_path / f"{run}", champion=first)))
    (first, later), (first_again, later_again) = runs
    assert same(first, first_again)
    assert same(later, later_again)
    name, moved = next(iter(first.network.backbone.named_parameters()))
    assert not torch.equal(moved, later.network.backbone.get_parameter(name))
    assert later.record.network.mean is not None
    assert later.network.classes == 5


@pytest.mark.parametrize("architecture", ["timm/test_efficientnet"])
def test_two_trainings_give_the_same_bytes_and_a_later_stage_distils_the_first(
    photos, training, network, architecture, tmp_path
):
    stages_of_two(photos, training, network, architecture, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", [each for each in SLOW if each != LARGE])
def test_trainings_of_every_family_give_the_same_bytes(photos, training, network, architecture, tmp_path):
    stages_of_two(photos, training, network, architecture, tmp_path)


@pytest.mark.slow
def test_gradients_of_a_large_network_are_the_same_twice(network):
    model = built(network, LARGE).train()
    gradients = []
    for _ in range(2):
        model.zero_grad()
        model(images()).square().sum().backward()
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    assert len(gradients[0]) > 100
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


def exported(network, architecture, tmp_path, digits_shard, *, pixels=PIXELS):
    """Export a network, compare it with torch, and make its int8 variant."""
    model = built(network, architecture, head="linear", pixels=pixels).train()
    for step in range(3):
        shape = (16, pixels, pixels, 3)
        model(torch.randint(256, shape, dtype=torch.uint8, generator=keyed_generator(step)))
    record = ModelRecord(
        task="t1",
        network=model.network,
        images=ImageForm(size=pixels, channels=3, resize="pad"),
        classes=("0", "1", "2"),
        trained_on=("t1",),
        best_epoch=1,
        select_recall=None,
    )
    shard = digits_shard("t1", [0, 1, 2], per_class=16)
    large = shard.images.repeat(pixels // 8, axis=1).repeat(pixels // 8, axis=2).repeat(3, axis=3)
    pool = ItemPool(
        shards=[Shard(record=shard.record, images=large, ids=shard.ids, labels=shard.labels, splits=shard.splits)]
    )
    select = LabelledImages.of(pool, "select", classes=record.classes, max_in_memory_mb=10)
    target, variant = tmp_path / "embedder.onnx", tmp_path / "embedder.int8.onnx"
    trained_model = TrainedModel(record=record, network=model.eval())
    assert export_embedder(trained_model, target, export=EXPORT, parent=None, validation=select) < 1e-6
    before = target.read_bytes()
    export_embedder(trained_model, target, export=EXPORT, parent=None, validation=select)
    assert target.read_bytes() == before
    quantize(target, variant, calibration=large[:16], threads=1)
    float32, int8 = (Embedder.load(file, threads=1)(large[:20]) for file in (target, variant))
    assert float32.shape == int8.shape == (20, model.dimension)
    np.testing.assert_allclose(np.linalg.norm(int8, axis=1), 1, atol=1e-5)
    assert (float32 * int8).sum(axis=1).min() > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("architecture", SLOW)
def test_every_family_is_exported(network, architecture, tmp_path, digits_shard):
    exported(network, architecture, tmp_path, digits_shard)


def test_fresh_weights_depend_on_the_seed_alone(network):
    torch.manual_seed(3)
    first = plain(built(network, "timm/test_vit").state_dict())
    state = torch.random.get_rng_state()
    again = plain(built(network, "timm/test_vit").state_dict())
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert torch.equal(torch.random.get_rng_state(), state)
