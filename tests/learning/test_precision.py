import pytest
import torch
from torch import nn

from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.precision import pooled_features
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher
from csd_core.learning.training import train

IMAGES = torch.randint(256, (16, 8, 8, 1), dtype=torch.uint8, generator=keyed_generator("images"))


@pytest.fixture
def model(network):
    return new_network(network, channels=1, pixels=8, classes=4, generator=keyed_generator(1))


def seen_by_convolutions(model, compute):
    """The types of what convolutions give while `compute` runs."""
    types = set()
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output: types.add(output.dtype))
        for module in model.modules()
        if isinstance(module, nn.Conv2d)
    ]
    compute()
    for hook in hooks:
        hook.remove()
    return types


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_convolutions_have_the_precision_and_all_else_is_float32(model, precision):
    types = seen_by_convolutions(model, lambda: pooled_features(model, IMAGES, precision).square().sum().backward())
    assert types == {getattr(torch, precision)}
    assert pooled_features(model, IMAGES, precision).dtype == torch.float32
    assert {parameter.grad.dtype for parameter in model.backbone.parameters()} == {torch.float32}
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32, torch.int64}


def test_float32_is_the_network_as_it_is(model):
    assert torch.equal(pooled_features(model.eval(), IMAGES, "float32"), model.pooled(IMAGES))


def test_bfloat16_is_near_float32(model):
    exact = pooled_features(model.eval(), IMAGES, "float32")
    short = pooled_features(model, IMAGES, "bfloat16")
    assert not torch.equal(short, exact)
    torch.testing.assert_close(short, exact, rtol=0.05, atol=0.02)


def test_a_teacher_has_the_precision_too(model):
    short = FrozenTeacher(model, precision="bfloat16")(IMAGES)
    assert torch.equal(short.features, pooled_features(model.eval(), IMAGES, "bfloat16"))
    assert torch.equal(short.logits, model.logits(short.features))
    assert not torch.equal(short.features, FrozenTeacher(model)(IMAGES).features)


def test_a_stage_in_bfloat16_learns_real_digits(digits_shard, stage_data, training, cpu, tmp_path):
    shards = [digits_shard("t1", [0, 1, 2]), digits_shard("t2", [3, 4])]
    short = training.model_copy(update={"precision": "bfloat16"})
    recalls = {}
    for name, parameters in (("float32", training), ("bfloat16", short)):
        champion = None
        for task, data in (("t1", stage_data(shards[:1])), ("t2", stage_data(shards))):
            work = tmp_path / f"{name}-{task}"
            champion = train(data, parameters, champion=champion, device=cpu, work=work)
        recalls[name] = champion.record.select_recall
        assert {value.dtype for value in champion.network.state_dict().values()} == {torch.float32, torch.int64}
    assert recalls["bfloat16"] > 0.8
    assert recalls["bfloat16"] == pytest.approx(recalls["float32"], abs=0.1)
