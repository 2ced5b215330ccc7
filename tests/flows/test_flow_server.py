"""What the home page asks Prefect's server, of a real one."""

import pytest
from prefect.client.orchestration import get_client
from prefect.flows import Flow
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Running

from csd_core.system.errors import CsdError
from flows.ui.flow_server import FlowServer


@pytest.fixture
def server(prefect_harness):
    return FlowServer(api=PREFECT_API_URL.value(), pages="http://flows.example/", auth=None)


def test_runs_that_began_are_listed_the_newest_first_with_flow_state_and_page(server):
    with get_client(sync_client=True) as client:
        flow = Flow(fn=lambda: None, name="otters")
        client.create_flow_run(flow)  # it has not begun
        ended = client.create_flow_run(flow, state=Running())
        client.set_flow_run_state(ended.id, Completed(name="NothingToDo", message="no batch waits"), force=True)
        works = client.create_flow_run(flow, state=Running())
    runs = [each for each in server.runs(200) if each.flow == "otters"]
    assert [(each.id, each.type, each.state, each.message) for each in runs] == [
        (str(works.id), "RUNNING", "Running", ""),
        (str(ended.id), "COMPLETED", "NothingToDo", "no batch waits"),
    ]
    assert runs[0].began[10] == "T"
    assert server.page_of(runs[0].id) == f"http://flows.example/runs/flow-run/{works.id}"


def test_the_page_that_starts_a_deployment_is_found_by_its_name(server):
    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow_from_name("otters"), "otters")
    assert server.deployment("otters/otters") == f"http://flows.example/deployments/deployment/{made}/run"
    assert server.deployment("otters/lynx") is None


def test_what_answers_but_is_no_server_of_flows_is_told(server):
    with pytest.raises(CsdError, match="the server of flows does not answer: .*404"):
        FlowServer(api=f"{server.api}/nowhere", pages="", auth=None).runs(1)
