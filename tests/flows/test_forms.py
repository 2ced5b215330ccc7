"""The forms are those of params.yaml, and refuse what it would refuse."""

from typing import get_args

import pytest
from prefect.utilities.callables import parameter_schema
from pydantic import ValidationError

from csd_core.params import model as params
from csd_core.params.edits import override
from csd_core.params.file import load_params
from csd_core.params.upgrade import Choice
from flows.approve import DECISIONS
from flows.forms import BLOCKS, Approve, Overrides, Publish, Retrain, Rollback
from flows.retrain import retrain


def fields(schema, *path):
    """Properties of a nested block of a JSON Schema."""
    definitions = schema["$defs"] if "$defs" in schema else schema["definitions"]
    block = schema
    for name in path:
        found = block["properties"][name]
        reference = next(each["$ref"] for each in found.get("anyOf", [found]) if "$ref" in each)
        block = definitions[reference.rpartition("/")[2]]
    return block["properties"]


def test_every_key_of_a_block_can_be_overridden_with_its_help_and_its_bounds():
    schema = Overrides.model_json_schema()
    for block in BLOCKS:
        model = params.Params.model_fields[block].annotation
        assert fields(schema, block).keys() == model.model_fields.keys() - {"recipes"}
    confidence = fields(schema, "gate")["confidence"]
    assert confidence["description"] == params.Policy.model_fields["confidence"].description
    assert confidence["anyOf"][0] == {"exclusiveMaximum": 1, "exclusiveMinimum": 0.5, "type": "number"}
    assert fields(schema, "training", "later", "methods", "csd", "csd").keys() == {"weight", "temperature", "contrast"}


def test_what_is_left_empty_changes_nothing(tmp_path, request):
    path = tmp_path / "params.yaml"
    path.write_bytes((request.config.rootpath / "params.yaml").read_bytes())
    before = path.read_bytes()
    override(path, Retrain().overrides.changes())
    override(path, Retrain(overrides=Overrides(training={"later": {}})).overrides.changes())
    assert path.read_bytes() == before


def test_what_is_filled_in_reaches_params_yaml(tmp_path, request):
    path = tmp_path / "params.yaml"
    path.write_bytes((request.config.rootpath / "params.yaml").read_bytes())
    chosen = Overrides(
        training={"later": {"epochs": 3, "schedule": {"name": "cosine", "warmup": 0.0}}},
        gate={"require_ecc": True, "min_gain": 0.0},
        runtime={"threads": 2},
    )
    override(path, chosen.changes())
    read = load_params(path)
    assert (read.training.later.epochs, read.training.later.schedule.warmup) == (3, 0.0)
    assert (read.gate.require_ecc, read.runtime.threads) == (True, 2)


@pytest.mark.parametrize(
    "wrong",
    [
        {"gate": {"confidence": 3}},
        {"gate": {"confidense": 0.9}},
        {"training": {"later": {"epochs": 0}}},
        {"training": {"later": {"schedule": {"name": "cosine"}}}},
        {"tasks": {}},
    ],
)
def test_what_params_yaml_would_refuse_is_refused(wrong):
    with pytest.raises(ValidationError):
        Retrain.model_validate({"overrides": wrong})


@pytest.mark.parametrize("form", [Retrain, Approve, Publish, Rollback, Overrides])
def test_every_field_has_a_title_and_help(form):
    for name, field in form.model_fields.items():
        assert field.title, name
        assert field.description or form is Overrides, name


def test_prefect_draws_the_form_from_the_model():
    schema = parameter_schema(retrain).model_dump()
    assert schema["properties"]["settings"]["default"]["promotion"] == "auto"
    assert "Retrain" in schema["definitions"]


def test_every_choice_of_a_review_stands_for_a_decision():
    assert set(DECISIONS) == set(get_args(Choice))
    assert set(DECISIONS.values()) == set(get_args(params.Decision))
