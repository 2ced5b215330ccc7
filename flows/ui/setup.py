"""What a server needs before flows are deployed to it: `python -m flows.ui.setup POOL`, told of it like Prefect."""

import re
import sys
from contextlib import suppress
from pathlib import Path

from prefect.automations import AutomationCore, ChangeFlowRunState, EventTrigger, Posture, ResourceSpecification
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound
from prefect.workers.process import ProcessWorker
from ruamel.yaml import YAML

from flows.ui.address import HEARTBEAT

AUTOMATION = "A run without heartbeat is marked as crashed"
EARLIER = ("retrain/scheduled", "approve/by-hand", "backfill/by-hand", "publish/by-hand", "rollback/by-hand")
"""Deployments under the names that they had before each was called as its flow."""


def crash_automation() -> AutomationCore:
    """Marks a run as crashed that was heard of and then no more, as after a power cut: else it would run forever.

    Every event of a run counts, not only heartbeats: its end and its suspension do, whatever their state is called.
    """
    return AutomationCore(
        name=AUTOMATION,
        description=f"A run tells every {HEARTBEAT.seconds} s that it lives; three times unheard, it does not.",
        trigger=EventTrigger(
            posture=Posture.Proactive,
            match=ResourceSpecification.model_validate({"prefect.resource.id": "prefect.flow-run.*"}),
            for_each={"prefect.resource.id"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            within=3 * HEARTBEAT,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                name=None,
                force=False,
                message=f"No heartbeat for {3 * HEARTBEAT.seconds} s: its machine or its worker died.",
            )
        ],
    )


def ensure_pool(client: SyncPrefectClient, name: str) -> None:
    """Make a work pool whose runs are processes, unless it exists."""
    try:
        client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template))


def ensure_automation(client: SyncPrefectClient) -> None:
    """Make the automation, once; one that differs is replaced in place, and stays switched off if someone did that.

    One that is as it should be is left alone: an update forgets the runs that it watches.
    """
    wanted = crash_automation()
    known = client.read_automations_by_name(AUTOMATION)
    if not known:
        client.create_automation(wanted)
        return
    for copy in known[1:]:
        client.delete_automation(copy.id)
    found = AutomationCore.model_validate(known[0].model_dump())
    wanted.enabled = found.enabled
    if found != wanted:
        client.update_automation(known[0].id, wanted)


def remove_earlier(client: SyncPrefectClient, plan: Path) -> None:
    """Remove deployments under earlier names: their schedule would start a second retraining.

    Args:
        client: Of the server.
        plan: prefect.yaml; what it still calls so stays.
    """
    listed = YAML(typ="safe", pure=True).load(plan)["deployments"]
    kept = {f"{re.split('[.:]', each['entrypoint'])[-1]}/{each['name']}" for each in listed}
    for name in EARLIER:
        if name not in kept:
            with suppress(ObjectNotFound):
                client.delete_deployment(client.read_deployment_by_name(name).id)


def main(pool: str) -> None:
    """Prepare the server that the environment names."""
    with get_client(sync_client=True) as client:
        remove_earlier(client, Path("prefect.yaml"))
        ensure_pool(client, pool)
        ensure_automation(client)


if __name__ == "__main__":
    main(sys.argv[1])
