"""The profiles of published sets: the paper's recipe, the default one, and the classes as they are published."""

from pathlib import Path

import pytest

from csd_core.data.classes import order_classes
from csd_core.params.file import load_params, profile_text

PROFILES = Path(__file__).parents[1] / "csd_core/project/profiles"
PAPER = {2: 50, 5: 20, 10: 10}
"""Tasks, and classes of each."""


@pytest.fixture(scope="module")
def profile(tmp_path_factory):
    """(name) -> its parameters."""

    def load(name):
        path = tmp_path_factory.mktemp(name) / "params.yaml"
        path.write_text(profile_text(PROFILES, name), encoding="utf-8")
        return load_params(path)

    return load


@pytest.mark.parametrize("tasks", PAPER)
def test_the_paper_learns_the_hundred_classes_in_the_order_of_their_labels(profile, tasks):
    params = profile(f"cifar100-paper-{tasks}")
    learned = [task.classes for task in params.tasks.values()]
    assert [len(classes) for classes in learned] == [PAPER[tasks]] * tasks
    names = [name for classes in learned for name in classes]
    assert names == sorted(set(names)) == list(order_classes(names, "natural", seed=0))
    assert (names[0], names[49], names[50], names[99]) == ("apple", "mountain", "mouse", "worm")
    assert {task.source for task in params.tasks.values()} == {"cifar100"} == set(params.sources.published)


@pytest.mark.parametrize("tasks", PAPER)
def test_the_paper_s_recipe_is_its_profile_s(profile, tasks):
    params = profile(f"cifar100-paper-{tasks}")
    network, first, later = params.training.network, params.training.first, params.training.later
    assert (network.architecture, network.depth, network.width, network.head) == ("resnet-cifar", 32, 16, "relu")
    assert network.mean == [0.5071, 0.4867, 0.4408]
    assert network.std == [0.2675, 0.2565, 0.2761]
    assert (first.optimizer.lr, later.optimizer.lr) == (1e-3, 1e-5)
    for recipe in (first, later):
        assert (recipe.epochs, recipe.batch_size) == (800, 128)
        assert (recipe.optimizer.name, recipe.optimizer.weight_decay) == ("adam", 5e-4)
        schedule = recipe.schedule
        assert [share * recipe.epochs for share in schedule.milestones] == [200, 400, 600]
        assert (schedule.name, schedule.factor) == ("multistep", 0.1)
        assert (recipe.augmentation.crop_padding, recipe.augmentation.flip) == (4, True)
        assert (recipe.ce.weight, recipe.triplet.weight, recipe.triplet.margin) == (1, 1, 1)
    assert later.method == "csd"
    added = later.methods.csd
    assert (added.kd.weight, added.kd.temperature, added.csd.weight, added.csd.temperature) == (1, 2, 1, 0.07)
    assert (params.images.pixels, params.images.channels) == (32, 3)
    assert params.split.test == 0


def test_csd_plus_is_the_recipe_of_all_but_the_paper_and_of_a_network_that_knows_photographs(profile):
    methods = {path.stem: profile(path.stem).training.later.method for path in PROFILES.glob("*.yaml")}
    plain = {name for name, method in methods.items() if method == "csd"}
    assert plain == {"cifar100-paper-2", "cifar100-paper-5", "cifar100-paper-10", "cub200-2"}
    assert {method for name, method in methods.items() if name not in plain} == {"csd_plus"}


def test_cifar10_is_learned_five_classes_at_a_time(profile):
    params = profile("cifar10-2")
    names = [name for task in params.tasks.values() for name in task.classes]
    assert names == ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    assert [len(task.classes) for task in params.tasks.values()] == [5, 5]


def test_birds_are_learned_a_hundred_kinds_at_a_time_in_the_order_of_their_numbers(profile):
    params = profile("cub200-2")
    names = [name for task in params.tasks.values() for name in task.classes]
    assert [name.split(".")[0] for name in names] == [f"{number:03}" for number in range(1, 201)]
    assert names == list(order_classes(names, "natural", seed=0))
    assert [len(task.classes) for task in params.tasks.values()] == [100, 100]
    assert (params.training.network.architecture, params.images.pixels) == ("resnet18", 224)
