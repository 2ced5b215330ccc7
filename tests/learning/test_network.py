import pytest
import torch
from safetensors.torch import save_file

from csd_core.learning.networks.classifiers import CosineClassifier
from csd_core.learning.networks.network import grow_classifier, new_network, unit
from csd_core.learning.networks.start_weights import read_weights
from csd_core.learning.networks.weights import plain
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import outputs_of
from csd_core.params.training import Network
from csd_core.system.errors import ArtifactError


def images(count=4, size=8, channels=1):
    return torch.randint(256, (count, size, size, channels), dtype=torch.uint8, generator=keyed_generator("images"))


def built(network, *, channels=1, classes=3, seed=1, **changes):
    changed = network.model_copy(update=changes)
    return new_network(changed, channels=channels, pixels=8, classes=classes, generator=keyed_generator(seed)).eval()


@pytest.mark.parametrize(("depth", "convolutions"), [(8, 7), (20, 19), (32, 31), (56, 55)])
def test_a_resnet_of_depth_6n_plus_2_has_so_many_layers(network, depth, convolutions):
    model = built(network, depth=depth)
    weighted = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | CosineClassifier)]
    assert len(weighted) == convolutions + 1 == depth


def test_resnet_32_has_the_papers_464_thousand_parameters(network):
    model = built(network, depth=32, width=16, mean=[0.5] * 3, std=[0.25] * 3, channels=3)
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 463_504
    assert model(images(channels=3)).shape == (4, 64)


def test_the_relu_head_gives_no_negative_features_and_the_linear_head_does(network):
    assert (built(network)(images()) >= 0).all()
    assert (built(network, head="linear")(images()) < 0).any()


def test_heads_differ_in_the_last_relu_alone(network):
    relu, linear = built(network), built(network, head="linear")
    features = []
    linear.backbone.blocks.register_forward_hook(lambda _module, _inputs, output: features.append(output))
    linear(images())
    torch.testing.assert_close(features[0].relu().mean(dim=(2, 3)), relu(images()))


def test_a_centred_head_subtracts_its_mean_and_the_classifier_reads_what_was_before(network):
    model = built(network, head="relu-centred")
    pooled = model.pooled(images())
    assert torch.equal(model(images()), pooled)  # no stage has ended yet
    model.head.mean.copy_(pooled.mean(dim=0))
    outputs = outputs_of(model, images(), "float32")
    torch.testing.assert_close(outputs.features.mean(dim=0), torch.zeros(32))
    assert torch.equal(outputs.features, model(images()))
    assert outputs.contrasted is outputs.features
    assert torch.equal(outputs.classified, pooled)
    assert torch.equal(outputs.logits, model.logits(pooled))


def test_a_neck_normalises_each_dimension_without_a_bias_and_triplets_come_before_it(network):
    model = built(network, head="bn-neck")
    with torch.no_grad():
        model.head.norm.weight.uniform_(0.5, 2, generator=keyed_generator("weight"))
    expected, some = torch.nn.BatchNorm1d(32), images(64)
    expected.load_state_dict(model.head.norm.state_dict())
    model.head.train()
    outputs = outputs_of(model, some, "float32")
    torch.testing.assert_close(outputs.features, expected(model.pooled(some)))
    assert torch.equal(outputs.contrasted, model.pooled(some))
    assert outputs.classified is outputs.features
    assert torch.equal(outputs.logits, model.logits(outputs.features))
    torch.testing.assert_close(model.head.norm.running_mean, expected.running_mean)
    trained = {name for name, parameter in model.head.named_parameters() if parameter.requires_grad}
    assert trained == {"norm.weight"}


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_scaled_and_normalised_inside(network, channels):
    mean, std = [0.5, 0.4, 0.3][:channels], [0.2, 0.3, 0.25][:channels]
    model = built(network, channels=channels, mean=mean, std=std)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0]))
    some = images(channels=channels)
    model(some)
    expected = torch.stack([(some[..., c] / 255 - mean[c]) / std[c] for c in range(channels)], dim=1)
    torch.testing.assert_close(seen[0], expected)


@pytest.mark.parametrize("channels", [1, 3])
def test_activations_are_channels_last(network, channels):
    model = built(network, channels=channels, mean=[0.5] * channels, std=[0.2] * channels)
    outputs = []
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    model(images(channels=channels))
    assert all(output.is_contiguous(memory_format=torch.channels_last) for output in outputs)
    assert not outputs[0].is_contiguous()


def test_a_shortcut_takes_every_other_pixel_and_pads_missing_channels_with_zeros(network):
    block = built(network).backbone.blocks[1]
    with torch.no_grad():
        block.bn2.weight.zero_()  # what is left is the shortcut
    x = torch.rand(2, 8, 6, 6)
    y = block(x)
    assert torch.equal(y[:, 4:12], x[:, :, ::2, ::2])
    assert not y[:, :4].any()
    assert not y[:, 12:].any()


def test_logits_are_feature_length_times_cosine(network):
    model = built(network, classes=5)
    features = model(images())
    rows = model.classifier.weight
    expected = torch.stack(
        [torch.stack([f.norm() * torch.cosine_similarity(f, row, dim=0) for row in rows]) for f in features]
    )
    torch.testing.assert_close(model.logits(features), expected)


def test_a_grown_classifier_keeps_old_rows_to_the_bit_and_adds_unit_rows(network):
    model = built(network)
    with torch.no_grad():
        model.classifier.weight.mul_(3)
    old = model.classifier.weight.detach().clone()
    grow_classifier(model, 7, generator=keyed_generator("new"))
    assert model.classes == 7
    assert torch.equal(model.classifier.weight[:3], old)
    torch.testing.assert_close(model.classifier.weight[3:].norm(dim=1), torch.ones(4))
    assert model.classifier.weight.requires_grad


def test_growing_by_no_class_changes_nothing(network):
    model = built(network)
    before = model.logits(model(images()))
    grow_classifier(model, 3, generator=keyed_generator("new"))
    assert torch.equal(model.logits(model(images())), before)


def test_weights_depend_on_the_seed_alone(network):
    torch.manual_seed(5)
    first = built(network).state_dict()
    torch.manual_seed(6)
    again, other = built(network).state_dict(), built(network, seed=2).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["backbone.conv1.weight"], other["backbone.conv1.weight"])


def test_unit_vectors_are_of_length_one_and_a_zero_vector_gets_a_direction():
    found = unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [1e-20, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[0.6, 0.8], [0.5**0.5, 0.5**0.5], [0.5**0.5, 0.5**0.5]]))


@pytest.mark.parametrize(("architecture", "dimension"), [("resnet18", 512), ("resnet50", 2048)])
@pytest.mark.parametrize("head", ["relu", "linear", "relu-centred", "linear-centred", "bn-neck"])
def test_torchvisions_resnets_embed_grey_images(network, architecture, dimension, head):
    model = built(network, architecture=architecture, head=head)
    pooled = model.pooled(images(2, size=32))
    assert model(images(2, size=32)).shape == pooled.shape == (2, dimension)
    assert bool((pooled < 0).any()) == head.startswith("linear")


def start_weights(network, path, **changes):
    """Weights of torchvision's resnet18 for three channels, as published: with its classifier."""
    published = built(network, architecture="resnet18", channels=3, mean=[0.5] * 3, std=[0.2] * 3, seed=9)
    weights = published.backbone.state_dict() | {"fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    weights |= changes
    save_file(plain({name: tensor for name, tensor in weights.items() if tensor is not None}), path)
    return published


def started(network, path, *, channels=1, architecture="resnet18", mean=0.5, std=0.2):
    changed = network.model_copy(
        update={"architecture": architecture, "weights": str(path), "mean": [mean] * channels, "std": [std] * channels}
    )
    return new_network(
        changed, channels=channels, pixels=8, classes=3, generator=keyed_generator(1), weights=path
    ).eval()


def test_start_weights_of_three_channels_respond_to_grey_images_alike(network, tmp_path):
    published = start_weights(network, tmp_path / "start.safetensors")
    grey = images(2, size=32)
    expected = published(grey.expand(-1, -1, -1, 3))
    torch.testing.assert_close(started(network, tmp_path / "start.safetensors")(grey), expected, rtol=1e-4, atol=1e-5)
    same = started(network, tmp_path / "start.safetensors", channels=3)
    assert torch.equal(same(images(2, size=32, channels=3)), published(images(2, size=32, channels=3)))


@pytest.mark.parametrize("head", ["relu-centred", "bn-neck"])
def test_start_weights_fill_the_backbone_whatever_the_head(network, tmp_path, head):
    published, some = start_weights(network, tmp_path / "start.safetensors"), images(2, size=32, channels=3)
    changed = network.model_copy(update={"head": head})
    model = started(changed, tmp_path / "start.safetensors", channels=3)
    assert torch.equal(model.pooled(some), published(some))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layer1.0.conv1.weight": None}, r"layer1.0.conv1.weight should be \(64, 64, 3, 3\), found nothing"),
        ({"bn1.bias": torch.zeros(3)}, r"bn1.bias should be \(64,\), found \(3,\); give weights of resnet18"),
        ({"layer9.weight": torch.zeros(1)}, "layer9.weight is no weight of resnet18"),
    ],
)
def test_start_weights_of_another_network_are_refused(network, tmp_path, changes, message):
    start_weights(network, tmp_path / "start.safetensors", **changes)
    with pytest.raises(ArtifactError, match=message):
        started(network, tmp_path / "start.safetensors")


def test_missing_start_weights_are_named(network, tmp_path):
    with pytest.raises(ArtifactError, match=r"nowhere.safetensors: no such start weights"):
        started(network, tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize("wrapped", [lambda w: w, lambda w: {"epoch": 3, "state_dict": w}, lambda w: {"model": w}])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_pth_file_of_a_training_script_is_read(tmp_path, wrapped, prefix):
    torch.save(wrapped({f"{prefix}fc.bias": torch.arange(3)}), tmp_path / "start.pth")
    (found,) = read_weights(tmp_path / "start.pth").items()
    assert found[0] == "fc.bias"
    assert torch.equal(found[1], torch.arange(3))


def test_a_pth_file_starts_a_network(network, tmp_path):
    published, some = start_weights(network, tmp_path / "start.safetensors"), images(2, size=32, channels=3)
    names = {f"module.{name}": tensor for name, tensor in published.backbone.state_dict().items()}
    torch.save({"state_dict": names, "best": 0.5}, tmp_path / "start.pth")
    assert torch.equal(started(network, tmp_path / "start.pth", channels=3)(some), published(some))


class Payload:
    """What a hostile file would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight": torch.zeros(1), "more": Payload()}, "not a file of plain tensors"),
        ({"epoch": 3}, "holds no dictionary of tensors, not under state_dict or model or model_state_dict either"),
        ([torch.zeros(1)], "holds no dictionary of tensors"),
    ],
)
def test_no_other_pickle_is_start_weights(tmp_path, content, message):
    torch.save(content, tmp_path / "start.pt")
    with pytest.raises(ArtifactError, match=rf"start.pt: {message}") as found:
        read_weights(tmp_path / "start.pt")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("name", ["start.pth", "start.safetensors"])
def test_a_damaged_file_is_no_start_weights(tmp_path, name):
    (tmp_path / name).write_bytes(b"no weights at all")
    with pytest.raises(ArtifactError, match=rf"{name}: not a "):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(("head", "dimension"), [("relu", None), ("bn-neck", 16), ("linear-centred", None)])
def test_a_model_of_csd_starts_a_network_with_its_projection_and_head(network, tmp_path, head, dimension):
    former = built(network, head=head, dimension=dimension, classes=7, seed=5)
    for name, buffer in former.head.named_buffers():
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 1, generator=keyed_generator(name))
    save_file(plain(former.state_dict()), tmp_path / "weights.safetensors")
    changed = network.model_copy(update={"head": head, "dimension": dimension})
    model = started(changed, tmp_path / "weights.safetensors", architecture="resnet-cifar", mean=0.3, std=0.38)
    assert torch.equal(model(images()), former(images()))
    assert model.classes == 3


@pytest.mark.parametrize(
    ("former", "message"),
    [
        ({"head": "linear-centred"}, r"mean is no weight of the network's head \(head: relu, dimension: None\)"),
        ({"dimension": 16}, r"weight is no weight of the network's projection \(head: relu, dimension: None\)"),
        ({"width": 4}, r"conv1.weight should be \(8, 1, 3, 3\), found \(4, 1, 3, 3\); give weights of resnet-cifar"),
    ],
)
def test_a_model_of_csd_that_is_another_network_is_refused(network, tmp_path, former, message):
    save_file(plain(built(network, **former).state_dict()), tmp_path / "weights.safetensors")
    with pytest.raises(ArtifactError, match=message):
        started(network, tmp_path / "weights.safetensors", architecture="resnet-cifar")


@pytest.mark.parametrize(
    ("architecture", "name"),
    [pytest.param("vit_b_32", "encoder.pos_embedding", marks=pytest.mark.slow), ("timm/test_vit", "pos_embed")],
)
def test_the_position_embedding_of_a_vit_is_interpolated(network, tmp_path, architecture, name):
    def of(pixels, weights=None):
        changed = {"architecture": architecture, "mean": None, "std": None, "weights": weights and str(weights)}
        generator = keyed_generator(pixels)
        settings = network.model_copy(update=changed)
        made = new_network(settings, channels=3, pixels=pixels, classes=3, generator=generator, weights=weights)
        return made.backbone.state_dict()

    before, file = of(96), tmp_path / "start.safetensors"
    save_file(plain(before), file)
    fitted = of(64, file)
    assert fitted[name].shape == of(64)[name].shape != before[name].shape
    torch.testing.assert_close(fitted[name].mean(), before[name].mean(), atol=0.02, rtol=0)
    others = [each for each in before if each != name]
    assert all(torch.equal(fitted[each], before[each]) for each in others)


def test_timms_weights_that_cannot_be_fetched_are_a_clear_error(network, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    changed = network.model_copy(
        update={"architecture": "timm/test_vit", "weights": "default", "mean": None, "std": None}
    )
    with pytest.raises(
        ArtifactError, match="timm's weights of timm/test_vit cannot be fetched .*; name a file of them"
    ) as found:
        new_network(changed, channels=1, pixels=32, classes=3, generator=keyed_generator(1))
    assert "\n" not in str(found.value)


def test_weights_that_cannot_be_fetched_are_a_clear_error(network, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(
        "torchvision.models.ResNet18_Weights.DEFAULT.value.url",
        "file:///nowhere/resnet18-00000000.pth",
        raising=True,
    )
    changed = Network.model_validate(network.model_dump() | {"architecture": "resnet18", "weights": "default"})
    with pytest.raises(ArtifactError, match="resnet18 weights cannot be fetched from file:///nowhere"):
        new_network(changed, channels=1, pixels=8, classes=3, generator=keyed_generator(1))
