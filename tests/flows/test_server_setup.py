from datetime import timedelta

import pytest
from prefect.client.orchestration import get_client

from flows.ui.address import HEARTBEAT
from flows.ui.setup import AUTOMATION, crash_automation, ensure_automation, ensure_pool, remove_earlier


@pytest.fixture
def client(prefect_harness):
    with get_client(sync_client=True) as client:
        yield client
        for left in client.read_automations_by_name(AUTOMATION):
            client.delete_automation(left.id)


def test_a_run_is_given_up_after_three_heartbeats_that_were_not_heard():
    trigger = crash_automation().trigger
    assert trigger.within == 3 * HEARTBEAT
    assert trigger.after == {"prefect.flow-run.heartbeat"}


def test_the_end_of_a_run_counts_whatever_its_state_is_called():
    assert crash_automation().trigger.expect == {"prefect.flow-run.*"}


def test_the_automation_is_made_once(client):
    for _ in range(2):
        ensure_automation(client)
    (made,) = client.read_automations_by_name(AUTOMATION)
    assert made.trigger == crash_automation().trigger
    assert made.enabled


def test_an_automation_that_is_as_it_should_be_is_not_touched(client, monkeypatch):
    ensure_automation(client)
    monkeypatch.setattr(client, "update_automation", pytest.fail)
    ensure_automation(client)


def test_an_automation_that_differs_is_put_right_in_place(client):
    old = crash_automation()
    old.trigger.within = timedelta(seconds=600)
    number = client.create_automation(old)
    ensure_automation(client)
    (found,) = client.read_automations_by_name(AUTOMATION)
    assert (found.id, found.trigger.within) == (number, 3 * HEARTBEAT)


def test_an_automation_that_was_switched_off_stays_so(client):
    ensure_automation(client)
    client.pause_automation(client.read_automations_by_name(AUTOMATION)[0].id)
    ensure_automation(client)
    (found,) = client.read_automations_by_name(AUTOMATION)
    assert not found.enabled


def test_copies_are_removed(client):
    for _ in range(2):
        client.create_automation(crash_automation())
    ensure_automation(client)
    assert len(client.read_automations_by_name(AUTOMATION)) == 1


def test_the_pool_is_made_once_and_what_was_changed_in_it_stays(client):
    ensure_pool(client, "somewhere")
    template = client.read_work_pool("somewhere").base_job_template
    assert "stream_output" in template["variables"]["properties"]
    assert client.read_work_pool("somewhere").type == "process"
    client.request("PATCH", "/work_pools/somewhere", json={"concurrency_limit": 7})
    ensure_pool(client, "somewhere")
    assert client.read_work_pool("somewhere").concurrency_limit == 7


def test_a_deployment_of_an_earlier_name_is_removed_unless_it_is_still_called_so(client, tmp_path):
    flows = {name: client.create_flow_from_name(name) for name in ("retrain", "approve")}
    for flow, name in (("retrain", "scheduled"), ("approve", "by-hand"), ("approve", "approve")):
        client.create_deployment(flows[flow], name)
    plan = tmp_path / "prefect.yaml"
    plan.write_text("deployments:\n  - {name: by-hand, entrypoint: flows.approve.approve}\n")
    for _ in range(2):
        remove_earlier(client, plan)
    assert {each.name for each in client.read_deployments()} >= {"by-hand", "approve"}
    plan.write_text("deployments:\n  - {name: approve, entrypoint: flows.approve.approve}\n")
    remove_earlier(client, plan)
    left = {each.name for each in client.read_deployments()}
    assert "approve" in left
    assert not left & {"scheduled", "by-hand"}
