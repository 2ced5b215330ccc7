"""What a stage makes of each method."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from csd_core.learning import methods
from csd_core.learning import training as engine
from csd_core.learning.embedding import embed
from csd_core.learning.methods.registry import METHODS
from csd_core.learning.networks.classifiers import simplex
from csd_core.learning.start import StageData
from csd_core.learning.training import train
from csd_core.params.methods import MethodName
from csd_core.system.errors import TrainingError


def by(training, method, *, classifier="cosine", head="relu", **later):
    """Training parameters under a method."""
    return training.model_copy(
        update={
            "network": training.network.model_copy(update={"classifier": classifier, "head": head}),
            "later": training.later.model_copy(update={"method": method, **later}),
        }
    )


CLASSIFIERS = {"lucir": "scaled-cosine", "hoc": "simplex"}


@pytest.fixture(scope="module")
def champions(first_data, training, cpu, tmp_path_factory):
    """A function that gives the first stage's model with a kind of classifier and a head."""
    made = {}

    def champion(classifier="cosine", head="relu"):
        if (classifier, head) not in made:
            parameters = by(training, "csd", classifier=classifier, head=head)
            work = tmp_path_factory.mktemp(classifier)
            made[classifier, head] = train(first_data, parameters, champion=None, device=cpu, work=work)
        return made[classifier, head]

    return champion


def test_every_name_has_a_module_and_every_module_a_name():
    files = {path.stem for path in Path(methods.__file__).parent.glob("*.py")}
    assert set(get_args(MethodName)) == set(METHODS) == files - {"__init__", "protocol", "registry"}


@pytest.mark.parametrize("head", ["relu", "linear-centred", "bn-neck"])
@pytest.mark.parametrize("name", METHODS)
def test_a_later_stage_learns_under_every_method(later_data, champions, training, cpu, tmp_path, name, head):
    classifier = CLASSIFIERS.get(name, "cosine")
    champion = champions(classifier, head)
    before = {key: value.clone() for key, value in champion.network.state_dict().items()}
    parameters = by(training, name, classifier=classifier, head=head)
    model = train(later_data, parameters, champion=champion, device=cpu, work=tmp_path)
    assert model.record.classes == ("0", "1", "2", "3", "4")
    assert model.record.network.classifier == classifier
    assert model.network.classifier.weight.shape[0] == 5
    assert all(torch.equal(before[key], value) for key, value in champion.network.state_dict().items())


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"frozen", "joint"}))
def test_every_method_learns_from_a_memory(later_data, memory_data, champions, training, cpu, tmp_path, name):
    classifier = CLASSIFIERS.get(name, "cosine")
    new = training.later.ce.model_copy(update={"columns": "new"})
    parameters = by(training, name, classifier=classifier, ce=new)
    without, remembering = (
        train(data, parameters, champion=champions(classifier), device=cpu, work=tmp_path / str(len(data.train)))
        for data in (later_data, memory_data)
    )
    mine, theirs = remembering.network.state_dict(), without.network.state_dict()
    assert not torch.equal(mine["backbone.conv1.weight"], theirs["backbone.conv1.weight"])


@pytest.mark.parametrize("head", ["relu", "relu-centred", "bn-neck"])
def test_a_frozen_backbone_embeds_as_before_and_its_classifier_learns(
    later_data, champions, training, cpu, tmp_path, head
):
    champion = champions(head=head)
    model = train(later_data, by(training, "frozen", head=head), champion=champion, device=cpu, work=tmp_path)
    assert (embed(model.network, later_data.select) == embed(champion.network, later_data.select)).all()
    assert not torch.equal(model.network.classifier.weight[:3], champion.network.classifier.weight)


@pytest.mark.parametrize("head", ["relu", "relu-centred"])
def test_joint_training_is_a_first_stage_of_its_own(later_data, champions, training, cpu, tmp_path, head):
    champion, parameters = champions(head=head), by(training, "joint", head=head)
    joint = train(later_data, parameters, champion=champion, device=cpu, work=tmp_path / "joint")
    first = train(later_data, parameters, champion=None, device=cpu, work=tmp_path / "first")
    mine, theirs = joint.network.state_dict(), first.network.state_dict()
    assert all(torch.equal(mine[key], theirs[key]) for key in theirs)


def test_csd_plus_takes_larger_steps(later_data, champions, training, cpu, tmp_path):
    knobs = training.later.methods
    even = knobs.model_copy(update={"csd_plus": knobs.csd_plus.model_copy(update={"rate": 1.0})})
    faster = training.later.optimizer.model_copy(
        update={"lr": training.later.optimizer.lr * training.later.methods.csd_plus.rate}
    )
    states = [
        train(
            later_data, by(training, "csd_plus", **how), champion=champions(), device=cpu, work=tmp_path / name
        ).network.state_dict()
        for name, how in {
            "its rate": {},
            "a faster recipe": {"methods": even, "optimizer": faster},
            "an even rate": {"methods": even},
        }.items()
    ]
    ours, same, other = states
    assert all(torch.equal(ours[key], same[key]) for key in ours)
    assert not all(torch.equal(ours[key], other[key]) for key in ours)


def test_a_frozen_backbone_without_cross_entropy_is_refused(later_data, champions, training, cpu, tmp_path):
    nothing = training.later.ce.model_copy(update={"weight": 0.0})
    with pytest.raises(TrainingError, match="frozen trains the classifier alone"):
        train(later_data, by(training, "frozen", ce=nothing), champion=champions(), device=cpu, work=tmp_path)


def test_a_simplex_stays_where_it_is_and_keeps_its_corners(later_data, champions, training, cpu, tmp_path):
    champion = champions("simplex")
    model = train(later_data, by(training, "hoc", classifier="simplex"), champion=champion, device=cpu, work=tmp_path)
    assert torch.equal(model.network.classifier.weight, simplex(model.network.dimension)[:5])
    assert torch.equal(champion.network.classifier.weight, simplex(model.network.dimension)[:3])


@pytest.mark.parametrize("dimension", [1, 2, 7, 64])
def test_the_corners_of_a_simplex_are_equally_far_apart(dimension):
    corners = simplex(dimension).double()
    cosines = corners @ corners.T
    expected = torch.full_like(cosines, -1 / dimension).fill_diagonal_(1)
    torch.testing.assert_close(cosines, expected, atol=1e-6, rtol=0)


def test_more_classes_than_corners_are_refused(first_data, training, cpu, tmp_path):
    narrow = training.network.model_copy(update={"width": 4, "classifier": "simplex"})
    many = tuple(str(number) for number in range(18))
    data = StageData(
        task="t1",
        trained_on=("t1",),
        form=first_data.form,
        classes=many,
        train=first_data.train,
        select=first_data.select,
    )
    with pytest.raises(TrainingError, match="a simplex in 16 dimensions has 17 corners, there are 18 classes"):
        train(data, training.model_copy(update={"network": narrow}), champion=None, device=cpu, work=tmp_path)


def test_a_learned_scale_moves_and_survives_the_growth_of_the_classifier(
    later_data, champions, training, cpu, tmp_path
):
    champion = champions("scaled-cosine")
    parameters = by(training, "lucir", classifier="scaled-cosine")
    stage = engine._Stage(later_data, parameters, champion=champion, device=cpu, start_weights=None)
    assert torch.equal(stage._student.classifier.scale, champion.network.classifier.scale)
    model = train(later_data, parameters, champion=champion, device=cpu, work=tmp_path)
    assert not torch.equal(model.network.classifier.scale, champion.network.classifier.scale)
