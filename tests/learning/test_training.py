from dataclasses import replace

import numpy as np
import pytest
import torch

from csd_core.data.pool import ItemPool
from csd_core.learning import training as engine
from csd_core.learning.batches import LabelledImages
from csd_core.learning.checkpoint import FILE, Checkpoint
from csd_core.learning.embedding import embed, recall_at_1
from csd_core.learning.networks.weights import save_model
from csd_core.learning.teacher import outputs_of
from csd_core.learning.training import train
from csd_core.records.stages import ImageForm
from csd_core.system.errors import CompatibilityError, TrainingError

CSD = {
    "kd": {"weight": 1.0, "temperature": 2.0},
    "csd": {"weight": 1.0, "temperature": 0.07, "contrast": "student+teacher"},
}


def changed(training, recipe="later", **sections):
    """Training parameters with some keys of one recipe replaced; a dict updates a section."""
    block = getattr(training, recipe)
    values = block.model_dump()
    for name, value in sections.items():
        values[name] = values[name] | value if isinstance(value, dict) else value
    return training.model_copy(update={recipe: type(block).model_validate(values)})


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.network.state_dict().items()}


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def champion(first_data, training, cpu, tmp_path_factory):
    return train(first_data, training, champion=None, device=cpu, work=tmp_path_factory.mktemp("champion"))


@pytest.fixture
def later(later_data, champion, cpu, tmp_path):
    """A function that trains the second stage with some parameters."""
    runs = iter(range(100))

    def run(parameters):
        return train(later_data, parameters, champion=champion, device=cpu, work=tmp_path / str(next(runs)))

    return run


def test_training_learns_real_digits(digits_shard, stage_data, training, cpu, tmp_path):
    data = stage_data([digits_shard("t1", range(10), per_class=60)])
    longer = changed(training, "first", epochs=8)
    untrained = engine._Stage(data, longer, champion=None, device=cpu, start_weights=None)._student
    before = recall_at_1(embed(untrained, data.select), data.select.targets.numpy(), data.select.groups)
    model = train(data, longer, champion=None, device=cpu, work=tmp_path)
    assert model.record.select_recall > 0.9
    assert model.record.select_recall > before + 0.05
    progress = Checkpoint.load(tmp_path).progress
    assert progress.history[-1]["train/ce"] < progress.history[0]["train/ce"] / 2


def test_a_later_stage_starts_from_the_champion_and_grows_its_classifier(later_data, training, champion, cpu):
    stage = engine._Stage(later_data, training, champion=champion, device=cpu, start_weights=None)
    start, old = stage._student.state_dict(), champion.network.state_dict()
    assert torch.equal(start["classifier.weight"][:3], old["classifier.weight"])
    assert all(torch.equal(start[name], old[name]) for name in old if name != "classifier.weight")


def test_the_record_tells_what_was_trained(later, later_data, training):
    record = later(training).record
    assert (record.task, record.classes, record.trained_on) == ("t2", ("0", "1", "2", "3", "4"), ("t2",))
    assert record.best_epoch in (1, 2)
    assert record.images == later_data.form


def test_the_champion_is_left_as_it_is(later, training, champion):
    before = weights_of(champion)
    later(changed(training, teacher_mode="train"))
    assert same(weights_of(champion), before)


def test_equal_arguments_give_equal_weights(later, training):
    assert same(weights_of(later(training)), weights_of(later(training)))


def test_without_distillation_a_later_stage_is_fine_tuning_to_the_bit(later, training, monkeypatch):
    monkeypatch.setattr("csd_core.learning.start.FrozenTeacher", None)
    plain = weights_of(later(changed(training, method="finetune")))
    none = {
        "kd": {"weight": 0.0, "temperature": 2.0},
        "csd": {"weight": 0.0, "temperature": 0.07, "contrast": "teacher"},
    }
    assert same(weights_of(later(changed(training, methods={"csd": none}))), plain)
    lwf = changed(training, method="lwf", methods={"lwf": {"weight": 0.0, "temperature": 2.0}})
    assert same(weights_of(later(lwf)), plain)


@pytest.mark.parametrize(
    "sections",
    [
        {"ce": {"weight": 0.5}},
        {"ce": {"columns": "new"}},
        {"per_class": 4},
        {"triplet": {"weight": 0.5}},
        {"triplet": {"margin": 0.0}},
        *(
            {"methods": {"csd": CSD | {term: CSD[term] | knob}}}
            for term, knob in (
                ("kd", {"weight": 0.5}),
                ("kd", {"temperature": 4.0}),
                ("csd", {"weight": 0.5}),
                ("csd", {"temperature": 0.2}),
                ("csd", {"contrast": "teacher"}),
            )
        ),
        {"teacher_mode": "train"},
        {"batch_norm": "eval"},
        {"optimizer": {"lr": 0.002}},
        {"optimizer": {"weight_decay": 0.1}},
        {"optimizer": {"name": "sgd"}},
        {"schedule": {"name": "one-cycle"}},
        {"schedule": {"warmup": 0.9}},
        {"augmentation": {"crop_padding": 2}},
        {"augmentation": {"flip": True}},
        {"augmentation": {"resized_crop": {"scale": [0.5, 1.0], "ratio": [0.75, 1.33]}}},
        {"augmentation": {"jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.0, "hue": 0.0}}},
        {"augmentation": {"policy": "trivial-augment"}},
        {"augmentation": {"blur": 0.5}},
        {"augmentation": {"erase": 0.5}},
        {"batch_size": 16},
    ],
    ids=str,
)
def test_every_knob_changes_the_weights(later, training, sections):
    quick = changed(training, epochs=1, batch_size=8)  # small ones, so that some triplets are satisfied
    assert not same(weights_of(later(quick)), weights_of(later(changed(quick, **sections))))


def test_rare_classes_weigh_more_where_that_is_asked_for(first_data, training, cpu, tmp_path):
    train_images = first_data.train
    few = torch.cat([torch.arange(60), torch.tensor([80, 81])])  # two images of the last class
    rare = replace(
        first_data,
        train=LabelledImages.at(
            train_images.pool, train_images.rows[few.numpy()], classes=first_data.classes, max_in_memory_mb=1
        ),
    )
    found = [
        weights_of(train(rare, each, champion=None, device=cpu, work=tmp_path / str(number)))
        for number, each in enumerate((training, changed(training, "first", ce={"class_weights": "inverse"})))
    ]
    assert not same(*found)


def test_frozen_batch_norm_keeps_the_teachers_statistics(later, training, champion):
    old = weights_of(champion)
    frozen, live = weights_of(later(changed(training, batch_norm="eval"))), weights_of(later(training))
    for name in old:
        if "running" in name:
            assert torch.equal(frozen[name], old[name])
            assert not torch.equal(live[name], old[name])


def test_the_best_epoch_wins_and_the_first_of_equals(monkeypatch, first_data, training, cpu, tmp_path):
    recalls = iter([0.5, 0.75, 0.75, 0.25])
    seen = []

    def measured(network, images):
        seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
        return np.ones((len(images), 1), np.float32)

    monkeypatch.setattr(engine, "embed", measured)
    monkeypatch.setattr(engine, "recall_at_1", lambda _vectors, _labels, _groups: next(recalls))
    model = train(first_data, changed(training, "first", epochs=4), champion=None, device=cpu, work=tmp_path)
    assert (model.record.best_epoch, model.record.select_recall) == (2, 0.75)
    assert same(weights_of(model), seen[1])


def test_where_no_select_query_can_hit_the_last_epoch_wins(digits_shard, stage_data, training, cpu, tmp_path):
    shard = digits_shard("t1", [0, 1], per_class=8)
    shard.splits[:] = "train"
    model = train(stage_data([shard]), training, champion=None, device=cpu, work=tmp_path)
    assert (model.record.best_epoch, model.record.select_recall) == (2, None)
    assert "select/recall_at_1" not in Checkpoint.load(tmp_path).progress.history[0]


@pytest.mark.parametrize("epochs_done", [1, 2])
def test_an_interrupted_stage_resumes_to_the_same_weights(
    monkeypatch, later_data, champion, training, cpu, tmp_path, epochs_done
):
    parameters = changed(training, epochs=3)
    whole = train(later_data, parameters, champion=champion, device=cpu, work=tmp_path / "whole")
    run_epoch = engine._Stage.run_epoch

    def interrupted(stage, epoch, meter, on_first_batch):
        if epoch == epochs_done:
            raise KeyboardInterrupt
        return run_epoch(stage, epoch, meter, on_first_batch)

    with monkeypatch.context() as patch:
        patch.setattr(engine._Stage, "run_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(later_data, parameters, champion=champion, device=cpu, work=tmp_path / "cut")
    epochs = []
    monkeypatch.setattr(
        engine._Stage,
        "run_epoch",
        lambda stage, epoch, meter, first: epochs.append(epoch) or run_epoch(stage, epoch, meter, first),
    )
    resumed = train(later_data, parameters, champion=champion, device=cpu, work=tmp_path / "cut")
    assert epochs == list(range(epochs_done, 3))
    assert same(weights_of(whole), weights_of(resumed))
    assert whole.record == resumed.record


def test_a_finished_stage_trains_no_more(first_data, training, cpu, tmp_path, monkeypatch):
    whole = train(first_data, training, champion=None, device=cpu, work=tmp_path)
    monkeypatch.setattr(engine._Stage, "run_epoch", None)
    assert same(weights_of(train(first_data, training, champion=None, device=cpu, work=tmp_path)), weights_of(whole))


def test_images_on_disk_give_the_same_weights_as_images_in_memory(digits_shard, stage_data, training, cpu, tmp_path):
    held = stage_data([digits_shard("t1", [0, 1, 2])])
    mapped = stage_data([digits_shard("t1", [0, 1, 2])])
    for split in ("train", "select"):
        on_disk = LabelledImages.of(
            ItemPool(shards=getattr(mapped, split).pool.shards), split, classes=mapped.classes, max_in_memory_mb=0
        )
        object.__setattr__(mapped, split, on_disk)
    models = [
        train(data, training, champion=None, device=cpu, work=tmp_path / name)
        for name, data in (("held", held), ("mapped", mapped))
    ]
    assert same(*map(weights_of, models))


def test_a_loss_that_is_not_finite_names_term_epoch_and_batch_and_keeps_the_checkpoint(
    monkeypatch, later_data, champion, training, cpu, tmp_path
):
    calls = iter(range(100))

    def overflowing(student, *_arguments, **_knobs):
        return student.sum() * (float("nan") if next(calls) == 3 else 0.0)

    monkeypatch.setattr("csd_core.learning.methods.csd.csd_loss", overflowing)
    with pytest.raises(TrainingError, match=r"loss csd of task t2 is nan in epoch 2, batch 2 of 2; lower optimizer.lr"):
        train(later_data, training, champion=champion, device=cpu, work=tmp_path)
    assert len(Checkpoint.load(tmp_path).progress.history) == 1


def test_embeddings_that_are_not_finite_stop_the_stage(monkeypatch, first_data, training, cpu, tmp_path):
    monkeypatch.setattr(engine, "embed", lambda _network, images: np.full((len(images), 2), np.nan))
    with pytest.raises(TrainingError, match="embeddings of task t1 are not finite after epoch 1"):
        train(first_data, training, champion=None, device=cpu, work=tmp_path)
    assert not (tmp_path / FILE).exists()


def test_images_of_another_form_than_the_champions_are_refused(later_data, champion, training, cpu, tmp_path):
    record = champion.record.model_copy(update={"images": ImageForm(size=16, channels=1, resize="squash")})
    other = type(champion)(record=record, network=champion.network)
    with pytest.raises(CompatibilityError, match="the champion of task t1 takes"):
        train(later_data, training, champion=other, device=cpu, work=tmp_path)


def test_progress_is_one_line_per_epoch_away_from_a_terminal(first_data, training, cpu, tmp_path, capsys):
    first_batches = []
    train(
        first_data,
        training,
        champion=None,
        device=cpu,
        work=tmp_path,
        on_first_batch=lambda: first_batches.append(1),
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all(word in lines[0] for word in ("ce ", "triplet ", "total ", "lr ", "recall@1 ", "images/s"))
    assert first_batches == [1]


def as_they_are(network, training, path):
    """Training of a network that starts from a file and learns nothing in its first stage."""
    changed_network = network.model_copy(update={"weights": str(path)})
    return changed(training, "first", epochs=0).model_copy(update={"network": changed_network})


@pytest.mark.parametrize("head", ["relu", "linear-centred", "bn-neck"])
def test_a_stage_of_no_epochs_takes_the_start_weights_as_they_are(
    network, first_data, later_data, training, cpu, tmp_path, head
):
    with_head = network.model_copy(update={"head": head})
    before = train(
        first_data, training.model_copy(update={"network": with_head}), champion=None, device=cpu, work=tmp_path
    )
    save_model(before, tmp_path / "model")
    start = tmp_path / "model" / "weights.safetensors"
    recipe = as_they_are(with_head, training, start)
    model = train(first_data, recipe, champion=None, device=cpu, work=tmp_path / "a", start_weights=start)
    kept = [name for name in weights_of(before) if name != "classifier.weight"]
    assert all(torch.equal(weights_of(before)[name], weights_of(model)[name]) for name in kept)
    assert (model.record.best_epoch, model.record.select_recall) == (0, before.record.select_recall)
    images, targets = first_data.train.take(torch.arange(len(first_data.train))), first_data.train.targets
    read = outputs_of(model.network, images, "float32").classified
    vectors = read / read.norm(dim=1, keepdim=True)
    for column in range(3):
        mean = vectors[targets == column].mean(dim=0)
        torch.testing.assert_close(model.network.classifier.weight[column], mean / mean.norm())
    later = train(later_data, recipe, champion=model, device=cpu, work=tmp_path / "b")
    assert later.record.best_epoch > 0


def test_a_centred_head_gets_its_mean_where_the_start_weights_have_none(network, first_data, training, cpu, tmp_path):
    before = train(first_data, training, champion=None, device=cpu, work=tmp_path)
    save_model(before, tmp_path / "model")
    start = tmp_path / "model" / "weights.safetensors"
    recipe = as_they_are(network.model_copy(update={"head": "relu-centred"}), training, start)
    model = train(first_data, recipe, champion=None, device=cpu, work=tmp_path / "a", start_weights=start)
    images = first_data.train.take(torch.arange(len(first_data.train)))
    torch.testing.assert_close(model.network(images).mean(dim=0), torch.zeros(32), atol=1e-5, rtol=0)
