import pytest
import torch

from csd_core.learning.checkpoint import FILE, Checkpoint, TrainingState, discard, optimizer_state, restore_optimizer
from csd_core.learning.networks.network import new_network
from csd_core.learning.schedules import new_optimizer
from csd_core.learning.seeding import keyed_generator
from csd_core.params.training import Optimizer

IMAGES = torch.randint(256, (16, 8, 8, 1), dtype=torch.uint8, generator=keyed_generator("images"))
OPTIMIZERS = [
    Optimizer(name="adam", lr=0.01, weight_decay=0.001, momentum=0.0),
    Optimizer(name="sgd", lr=0.01, weight_decay=0.001, momentum=0.9),
    Optimizer(name="sgd", lr=0.01, weight_decay=0.0, momentum=0.0),
]


def step(model, optimizer):
    optimizer.zero_grad()
    model.logits(model(IMAGES)).square().sum().backward()
    optimizer.step()


def checkpoint(**changes):
    values = {
        "progress": TrainingState(history=({"train/ce": 0.1, "train/lr": 1e-3},), best_epoch=1, best_recall=1 / 3),
        "student": {"a/b": torch.rand(3, 4).T, "count": torch.tensor(7)},
        "optimizer": {"a:step": torch.tensor(2.0)},
        "best": {"a/b": torch.rand(4, 3)},
    }
    return Checkpoint(**(values | changes))


def test_what_is_saved_is_loaded(tmp_path):
    saved = checkpoint()
    saved.save(tmp_path)
    loaded = Checkpoint.load(tmp_path)
    assert loaded.progress == saved.progress
    for part in ("student", "optimizer", "best"):
        before, after = getattr(saved, part), getattr(loaded, part)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)


def test_there_is_one_file_and_nothing_half_written(tmp_path):
    checkpoint().save(tmp_path)
    checkpoint().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_where_there_is_no_checkpoint_there_is_none(tmp_path):
    assert Checkpoint.load(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda _: b"", lambda _: b"x" * 500])
def test_a_damaged_checkpoint_is_discarded_and_said(tmp_path, capsys, damage):
    checkpoint().save(tmp_path)
    (tmp_path / FILE).write_bytes(damage((tmp_path / FILE).read_bytes()))
    assert Checkpoint.load(tmp_path) is None
    assert "damaged checkpoint discarded" in capsys.readouterr().out
    assert not tmp_path.exists()


def test_discarding_what_is_not_there_is_no_error(tmp_path):
    discard(tmp_path / "nowhere")


def recipe_of(training, optimizer):
    return training.first.model_copy(update={"optimizer": optimizer})


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=["adam", "momentum", "sgd"])
def test_a_restored_optimiser_goes_on_to_the_bit(network, training, settings):
    models = [new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator(1)) for _ in range(2)]
    names = [name for name, _ in models[0].named_parameters()]
    whole = new_optimizer(models[0], recipe_of(training, settings))
    for _ in range(3):
        step(models[0], whole)
    state = {key: value.clone() for key, value in optimizer_state(whole, names).items()}
    models[1].load_state_dict(models[0].state_dict())
    resumed = new_optimizer(models[1], recipe_of(training, settings))
    restore_optimizer(resumed, names, state)
    for _ in range(2):
        step(models[0], whole)
        step(models[1], resumed)
    weights, resumed_weights = models[0].state_dict(), models[1].state_dict()
    assert all(torch.equal(weights[name], resumed_weights[name]) for name in weights)


@pytest.mark.parametrize("settings", OPTIMIZERS, ids=["adam", "momentum", "sgd"])
def test_fused_steps_equal_torchs_plain_ones(network, training, settings):
    models = [new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator(1)) for _ in range(2)]
    ours = new_optimizer(models[0], recipe_of(training, settings))
    decay, rate = settings.weight_decay, settings.lr
    theirs = (
        torch.optim.Adam(models[1].parameters(), lr=rate, weight_decay=decay, foreach=False)
        if settings.name == "adam"
        else torch.optim.SGD(
            models[1].parameters(), lr=rate, weight_decay=decay, momentum=settings.momentum, foreach=False
        )
    )
    for _ in range(3):
        for mine, reference in zip(models[0].parameters(), models[1].parameters(), strict=True):
            drawn = torch.randn(mine.shape, generator=keyed_generator(*mine.shape))
            mine.grad = torch.empty_like(mine).copy_(drawn)  # laid out as backward lays it out, see below
            reference.grad = mine.grad.clone()
        ours.step()
        theirs.step()
    for mine, reference in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(mine, reference)


def test_backward_lays_gradients_out_as_their_weights(network, training):
    """A fused step walks weights, gradients and moments by address; other strides would mix them up silently."""
    model = new_network(network, channels=1, pixels=8, classes=3, generator=keyed_generator(1))
    step(model, new_optimizer(model, recipe_of(training, OPTIMIZERS[0])))
    assert all(weight.grad.stride() == weight.stride() for weight in model.parameters())
