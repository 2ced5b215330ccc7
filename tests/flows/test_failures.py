"""What a run that did not end well tells."""

import pytest
from prefect import flow
from prefect.client.schemas.objects import StateType
from prefect.states import Completed, State

from csd_core.system.errors import ParamsError
from flows.runs import failures
from flows.runs.failures import fail_with_message, tell
from flows.runs.pipeline import StageFailedError

pytestmark = [pytest.mark.usefixtures("prefect_harness")]


@pytest.fixture
def events(monkeypatch):
    told = []
    monkeypatch.setattr(failures, "emit_event", lambda event, **more: told.append((event, more)))
    return told


@flow(name="train", on_failure=[tell])
@fail_with_message
def training(how: str = "well"):
    match how:
        case "stage":
            raise StageFailedError("train@t4", 5, ["epoch 3", "the loss is not finite"])
        case "params":
            raise ParamsError("params.yaml: gate: missing")
        case "bug":
            raise KeyError("oops")
        case _:
            return Completed(message=how)


def test_a_csd_error_ends_the_run_with_its_one_line(events):
    state = training("params", return_state=True)
    assert (state.name, state.message) == ("Failed", "params.yaml: gate: missing")
    (told,) = events
    assert told[0] == "csd.train.failed"
    assert (told[1]["payload"]["stage"], told[1]["payload"]["message"]) == ("", "params.yaml: gate: missing")


def test_a_stage_that_failed_is_named_with_its_last_lines(events):
    state = training("stage", return_state=True)
    assert state.message == "train@t4: the loss is not finite"
    payload = events[0][1]["payload"]
    assert payload["stage"] == "train@t4"
    assert payload["lines"] == ["epoch 3", "the loss is not finite"]
    assert events[0][1]["resource"]["prefect.resource.id"].startswith("csd.train.")


def test_a_bug_still_has_its_traceback_and_its_event(events):
    state = training("bug", return_state=True)
    assert state.is_failed()
    with pytest.raises(KeyError):
        state.result()
    assert events[0][0] == "csd.train.failed"


def test_a_run_that_ended_well_tells_nothing(events):
    assert training(return_state=True).message == "well"
    assert events == []


@pytest.mark.parametrize(("kind", "event"), [("CRASHED", "csd.train.crashed"), ("CANCELLED", "csd.train.cancelled")])
def test_a_crash_and_a_cancellation_are_told_without_what_only_the_run_knew(events, kind, event):
    class Run:
        name, id = "quiet-otter", "1"

    tell(training, Run(), State(type=StateType(kind), message="the worker is gone"))
    ((name, more),) = events
    assert name == event
    assert (more["payload"]["message"], more["payload"]["lines"]) == ("the worker is gone", [])


def test_the_form_is_that_of_the_flow_within():
    assert training.parameters.properties.keys() == {"how"}
