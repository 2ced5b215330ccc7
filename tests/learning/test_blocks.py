import pytest
import torch
import torchvision
from torch import nn

from csd_core.learning.networks.blocks import blocks_of, checkpointed, first_blocks, rate_shares
from csd_core.learning.networks.network import new_network
from csd_core.learning.schedules import SHARE, new_optimizer
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.training import train


@pytest.fixture
def backbone(network):
    return new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator(1)).backbone


@pytest.mark.parametrize(
    ("name", "count", "kind"),
    [
        ("resnet18", 9, "BasicBlock"),
        ("vit_b_16", 13, "EncoderBlock"),
        ("convnext_tiny", 22, "CNBlock"),
        ("swin_t", 16, "SwinTransformerBlock"),
    ],
)
def test_blocks_are_what_a_network_repeats(name, count, kind):
    with torch.device("meta"):
        blocks = blocks_of(getattr(torchvision.models, name)(weights=None))[:-1]  # the classifier
    assert len(blocks) == count
    assert type(blocks[-1][0]).__name__ == kind
    assert isinstance(blocks[0][0], nn.Conv2d)


def test_a_norm_belongs_to_the_block_before_it_and_no_parameter_to_two(backbone):
    blocks = blocks_of(backbone)
    assert [type(each).__name__ for each in blocks[0]] == ["Conv2d", "BatchNorm2d"]
    assert len(blocks) == 4
    held = [id(each) for block in blocks for module in block for each in module.parameters()]
    assert sorted(held) == sorted(map(id, backbone.parameters()))


def test_each_block_learns_at_a_share_of_the_rate_of_the_next(backbone):
    shares = rate_shares(backbone, 0.5)
    assert shares[backbone.blocks[2].conv1.weight] == 0.5
    assert shares[backbone.blocks[0].bn2.bias] == 0.125
    assert shares[backbone.conv1.weight] == shares[backbone.bn1.weight] == 0.0625


def test_a_parameter_outside_all_blocks_learns_as_the_first_one():
    with torch.device("meta"):
        vit = torchvision.models.vit_b_16(weights=None)
    shares = rate_shares(vit, 0.9)
    assert shares[vit.encoder.pos_embedding] == shares[vit.class_token] == shares[vit.conv_proj.weight] == 0.9**14


def test_the_first_group_of_the_optimiser_learns_at_the_full_rate(network, training):
    model = new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator(1))
    whole = new_optimizer(model, training.first).param_groups
    assert [group[SHARE] for group in whole] == [1.0]
    assert whole[0]["params"] == list(model.parameters())
    groups = new_optimizer(model, training.first.model_copy(update={"layer_decay": 0.5})).param_groups
    assert [group[SHARE] for group in groups] == [1.0, 0.0625, 0.125, 0.25, 0.5]
    assert groups[0]["params"] == [model.classifier.weight]


def with_recipe(training, **changes):
    return training.model_copy(
        update={
            "first": training.first.model_copy(update=changes),
            "later": training.later.model_copy(update=changes),
        }
    )


def weights_of(model):
    return model.network.state_dict()


@pytest.fixture(scope="module")
def champion(first_data, training, cpu, tmp_path_factory):
    return train(first_data, training, champion=None, device=cpu, work=tmp_path_factory.mktemp("champion"))


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_frozen_blocks_stay_as_they_are_with_their_statistics(later_data, training, champion, cpu, tmp_path, share):
    recipe = with_recipe(training, frozen=share)
    model = train(later_data, recipe, champion=champion, device=cpu, work=tmp_path)
    frozen = {id(each) for each in first_blocks(model.network.backbone, share)}
    for name, module in model.network.backbone.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            inside = any(id(part) in frozen for part in lineage(model.network.backbone, name))
            before = champion.network.backbone.get_submodule(name).state_dict()
            assert all(torch.equal(before[key], each) for key, each in module.state_dict().items()) == inside, name
    assert not torch.equal(model.network.classifier.weight[:3], champion.network.classifier.weight)


def lineage(backbone, name):
    """The module of a name, and those that hold it."""
    parts = name.split(".")
    return [backbone.get_submodule(".".join(parts[:length])) for length in range(1, len(parts) + 1)]


def test_decayed_layers_move_less(later_data, training, champion, cpu, tmp_path):
    recipe = with_recipe(training, layer_decay=0.1, epochs=1)
    slow = train(later_data, recipe, champion=champion, device=cpu, work=tmp_path / "slow")
    fast = train(later_data, with_recipe(training, epochs=1), champion=champion, device=cpu, work=tmp_path / "fast")
    before = weights_of(champion)
    for name, least in (("backbone.conv1.weight", 100), ("backbone.blocks.2.conv2.weight", 2)):
        moved = [(weights_of(each)[name] - before[name]).norm() for each in (slow, fast)]
        assert moved[0] * least < moved[1]


def test_blocks_computed_twice_give_the_same_weights_and_statistics(first_data, later_data, training, cpu, tmp_path):
    models = []
    for twice in (False, True):
        recipe = with_recipe(training, gradient_checkpointing=twice)
        first = train(first_data, recipe, champion=None, device=cpu, work=tmp_path / f"first-{twice}")
        models.append(train(later_data, recipe, champion=first, device=cpu, work=tmp_path / f"later-{twice}"))
    assert all(torch.equal(each, weights_of(models[1])[name]) for name, each in weights_of(models[0]).items())
    assert all("forward" not in module.__dict__ for module in models[1].network.modules())


def test_blocks_computed_twice_drop_the_same_paths(network):
    changed = network.model_copy(update={"architecture": "timm/test_convnext2", "mean": [0.5] * 3, "std": [0.2] * 3})
    model = new_network(changed, channels=3, pixels=32, classes=3, generator=keyed_generator(1)).train()
    for module in model.modules():
        if hasattr(module, "drop_path"):
            module.drop_path = torchvision.ops.StochasticDepth(0.5, "row")
    some = torch.randint(256, (4, 32, 32, 3), dtype=torch.uint8, generator=keyed_generator(2))
    gradients = []
    for twice in (False, True):
        torch.manual_seed(5)
        model.zero_grad()
        if twice:
            with checkpointed(model.backbone):
                features = model(some)
        else:
            features = model(some)
        features.square().sum().backward()
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
