"""What a head means for the stages of training."""

import pytest
import torch

from csd_core.learning import training as engine
from csd_core.learning.distributed.batch_norm import RankedBatchNorm, share_statistics
from csd_core.learning.distributed.group import ProcessGroup
from csd_core.learning.embedding import embed, recall_at_1
from csd_core.learning.teacher import FrozenTeacher
from csd_core.learning.training import train


@pytest.fixture(scope="module")
def under(training):
    """A function that gives the parameters under a head, with csd_plus in later stages."""

    def parameters(head):
        return training.model_copy(
            update={
                "network": training.network.model_copy(update={"head": head}),
                "later": training.later.model_copy(update={"method": "csd_plus"}),
            }
        )

    return parameters


@pytest.fixture(scope="module")
def first(under, first_data, cpu, tmp_path_factory):
    """A function that trains a first stage under a head, once."""
    made = {}

    def model(head):
        if head not in made:
            work = tmp_path_factory.mktemp(head)
            made[head] = train(first_data, under(head), champion=None, device=cpu, work=work)
        return made[head]

    return model


def cosines(network, images):
    vectors = embed(network, images)
    return (vectors @ vectors.T).mean()


@pytest.mark.parametrize("head", ["relu-centred", "linear-centred"])
def test_a_first_stage_ends_with_its_features_centred(first, first_data, head):
    model, images = first(head), first_data.train
    with torch.inference_mode():
        features = model.network(images.take(torch.arange(len(images))))
    torch.testing.assert_close(features.mean(dim=0), torch.zeros(32), atol=1e-5, rtol=0)
    assert abs(cosines(model.network, images)) < 0.2
    assert cosines(first("relu").network, images) > 0.5
    select = first_data.select
    assert model.record.select_recall == recall_at_1(
        embed(model.network, select), select.targets.numpy(), select.groups
    )


def test_a_first_stage_learns_as_if_it_did_not_centre(first):
    plain, centred = first("relu").network.state_dict(), first("relu-centred").network.state_dict()
    assert centred.keys() - plain.keys() == {"head.mean"}
    assert all(torch.equal(centred[name], tensor) for name, tensor in plain.items())


def test_a_later_stage_keeps_the_first_ones_mean_to_the_bit(first, under, later_data, cpu, tmp_path):
    champion = first("relu-centred")
    model = train(later_data, under("relu-centred"), champion=champion, device=cpu, work=tmp_path)
    assert torch.equal(model.network.head.mean, champion.network.head.mean)
    assert champion.network.head.mean.any()


def test_a_teacher_in_evaluation_mode_normalises_by_the_statistics_that_its_neck_learned(first, first_data):
    network = first("bn-neck").network
    before = network.head.norm.running_mean.clone()
    some = first_data.train.take(torch.arange(6))
    taught, alone = FrozenTeacher(network)(some), FrozenTeacher(network)(some[:1])
    torch.testing.assert_close(taught.features[:1], alone.features)
    in_train = FrozenTeacher(network, mode="train")(some)
    torch.testing.assert_close(in_train.features.mean(dim=0), torch.zeros(32), atol=1e-4, rtol=0)
    assert torch.equal(network.head.norm.running_mean, before)


def test_a_later_stage_keeps_the_necks_statistics_and_trains_its_scale(first, under, later_data, cpu, tmp_path):
    champion = first("bn-neck").network
    student = train(later_data, under("bn-neck"), champion=first("bn-neck"), device=cpu, work=tmp_path).network
    assert champion.head.norm.running_mean.any()
    assert torch.equal(student.head.norm.running_mean, champion.head.norm.running_mean)
    assert torch.equal(student.head.norm.running_var, champion.head.norm.running_var)
    assert not student.head.norm.bias.any()
    assert not torch.equal(student.head.norm.weight, champion.head.norm.weight)
    assert not torch.equal(student.backbone.bn1.running_mean, champion.backbone.bn1.running_mean)


def test_processes_share_the_statistics_of_a_neck(first, first_data):
    teacher = FrozenTeacher(first("bn-neck").network)
    share_statistics(teacher._network, ProcessGroup(rank=0, count=2))
    assert isinstance(teacher._network.head.norm, RankedBatchNorm)
    assert not teacher._network.head.norm.bias.requires_grad
    assert teacher(first_data.train.take(torch.arange(2))).features.isfinite().all()


@pytest.mark.parametrize("epochs_done", [1, 2])
@pytest.mark.parametrize("head", ["linear-centred", "bn-neck"])
def test_an_interrupted_first_stage_resumes_to_the_same_weights(
    monkeypatch, first, under, first_data, cpu, tmp_path, head, epochs_done
):
    run_epoch, outcome = engine._Stage.run_epoch, engine._Stage.outcome

    def interrupted(stage, epoch, meter, on_first_batch):
        if epoch == epochs_done:
            raise KeyboardInterrupt
        return run_epoch(stage, epoch, meter, on_first_batch)

    def ended(stage):
        outcome(stage)  # all that it did is lost
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine._Stage, "run_epoch", interrupted)
        patch.setattr(engine._Stage, "outcome", ended)
        with pytest.raises(KeyboardInterrupt):
            train(first_data, under(head), champion=None, device=cpu, work=tmp_path)
    resumed, whole = train(first_data, under(head), champion=None, device=cpu, work=tmp_path), first(head)
    states = [model.network.state_dict() for model in (resumed, whole)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])
    assert resumed.record == whole.record
