import json

import pytest
import torch

from csd_core.learning.networks.network import new_network
from csd_core.learning.networks.weights import RECORD, WEIGHTS, TrainedModel, load_model, save_model
from csd_core.learning.seeding import keyed_generator
from csd_core.records.stages import ImageForm, ModelRecord
from csd_core.system.errors import ArtifactError

IMAGES = torch.randint(256, (4, 8, 8, 1), dtype=torch.uint8, generator=keyed_generator("images"))


@pytest.fixture
def model(network):
    record = ModelRecord(
        task="t1",
        network=network,
        images=ImageForm(size=8, channels=1, resize="squash"),
        classes=("zero", "é"),
        trained_on=("t1",),
        best_epoch=2,
        select_recall=0.5,
    )
    return TrainedModel(
        record=record, network=new_network(network, channels=1, pixels=8, classes=2, generator=keyed_generator(1))
    )


def test_a_model_is_read_back_as_it_was(model, tmp_path):
    save_model(model, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.record == model.record
    assert torch.equal(loaded.network.eval()(IMAGES), model.network.eval()(IMAGES))


def test_a_model_of_before_lays_transparency_on_black_and_crops_without_a_margin(model, tmp_path):
    save_model(model, tmp_path / "model")
    record = json.loads((tmp_path / "model" / RECORD).read_text())
    for key in ("crop_share", "background"):
        del record["images"][key]
    (tmp_path / "model" / RECORD).write_text(json.dumps(record))
    found = load_model(tmp_path / "model").record.images
    assert (found, found.background, found.crop_share) == (model.record.images, "black", 1.0)


def test_a_model_of_before_has_no_projection_and_calls_published_weights_otherwise(model, tmp_path):
    save_model(model, tmp_path / "model")
    record = json.loads((tmp_path / "model" / RECORD).read_text())
    del record["network"]["dimension"]
    record["network"] |= {"weights": "torchvision"}
    (tmp_path / "model" / RECORD).write_text(json.dumps(record))
    loaded = load_model(tmp_path / "model")
    assert loaded.record.network == model.record.network.model_copy(update={"weights": "default"})
    assert torch.equal(loaded.network.eval()(IMAGES), model.network.eval()(IMAGES))


def test_equal_weights_give_equal_bytes_however_they_lie_in_memory(model, tmp_path):
    save_model(model, tmp_path / "first")
    model.network.to(memory_format=torch.channels_last)
    save_model(model, tmp_path / "second")
    for name in (RECORD, WEIGHTS):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_at_genesis_there_is_no_model(tmp_path):
    ModelRecord(
        task=None, network=None, images=None, classes=(), trained_on=(), best_epoch=None, select_recall=None
    ).save(tmp_path / RECORD)
    assert load_model(tmp_path) is None


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.unlink(), "weights.safetensors: missing"),
        (lambda file: file.write_bytes(file.read_bytes()[:-10]), "weights.safetensors: damaged"),
        (lambda file: torch.save({}, file), "weights.safetensors: damaged"),
    ],
    ids=["missing", "truncated", "pickle"],
)
def test_unusable_weights_are_refused(model, tmp_path, damage, message):
    save_model(model, tmp_path / "model")
    damage(tmp_path / "model" / WEIGHTS)
    with pytest.raises(ArtifactError, match=message):
        load_model(tmp_path / "model")


def test_weights_of_another_network_are_refused(model, tmp_path):
    save_model(model, tmp_path / "model")
    model.record.model_copy(update={"classes": ("one",)}).save(tmp_path / "model" / RECORD)
    with pytest.raises(ArtifactError, match=r"does not fit model.json beside it .*classifier.weight"):
        load_model(tmp_path / "model")


def test_a_record_without_its_network_is_refused(model, tmp_path):
    save_model(model, tmp_path / "model")
    model.record.model_copy(update={"network": None}).save(tmp_path / "model" / RECORD)
    with pytest.raises(ArtifactError, match="a trained model needs network and images"):
        load_model(tmp_path / "model")
