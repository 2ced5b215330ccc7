import pytest
import torch

from csd_core.learning.networks.network import new_network
from csd_core.learning.seeding import keyed_generator
from csd_core.learning.teacher import FrozenTeacher

IMAGES = torch.randint(256, (16, 8, 8, 1), dtype=torch.uint8, generator=keyed_generator("images"))


@pytest.fixture
def model(network):
    built = new_network(network, channels=1, pixels=8, classes=4, generator=keyed_generator(1))
    built(IMAGES)  # statistics of its own
    return built


def test_an_eval_teacher_answers_as_the_network_does_in_eval_mode(model):
    teacher = FrozenTeacher(model.train())
    taught = teacher(IMAGES)
    features = model.eval()(IMAGES)
    assert torch.equal(taught.features, features)
    assert torch.equal(taught.logits, model.logits(features))
    assert teacher.classes == 4


def test_a_train_teacher_normalises_by_the_batch(model):
    taught = FrozenTeacher(model.eval(), mode="train")(IMAGES)
    torch.testing.assert_close(taught.features, model.train()(IMAGES).detach())


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_teaching_leaves_no_trace_on_the_network_or_the_next_batch(model, mode):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    teacher = FrozenTeacher(model, mode=mode)
    first, _, again = teacher(IMAGES), teacher(IMAGES.flip(0) // 2), teacher(IMAGES)
    assert torch.equal(first.features, again.features)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_what_happens_to_the_network_later_does_not_reach_the_teacher(model):
    teacher = FrozenTeacher(model)
    before = teacher(IMAGES)
    with torch.no_grad():
        for parameter in model.train().parameters():
            parameter.add_(1)
    assert torch.equal(teacher(IMAGES).features, before.features)


def test_its_answers_carry_no_gradient_but_may_enter_a_differentiated_graph(model):
    taught = FrozenTeacher(model)(IMAGES)
    assert not taught.features.requires_grad
    assert not taught.logits.requires_grad
    (model(IMAGES) * taught.features).sum().backward()
    assert model.backbone.conv1.weight.grad is not None


def test_it_offers_nothing_to_train(model):
    teacher = FrozenTeacher(model)
    assert not hasattr(teacher, "parameters")
    assert not hasattr(teacher, "train")
