"""What the home page asks Prefect's server, by plain HTTP: its client would take `csd ui` seconds and 80 MB to load."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx

from csd_core.system.errors import CsdError

TIMEOUT = 3.0
"""Seconds that an answer may take."""
FORM = "deployments/deployment/{}/run"


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowRun:
    """A run of a flow as its server has it.

    Attributes:
        id: Its id.
        name: Drawn by Prefect.
        flow: Name of the flow.
        type: Of its state, such as RUNNING.
        state: Name of its state, such as NothingToDo.
        message: Of its state.
        began: UTC, ISO 8601.
    """

    id: str
    name: str
    flow: str
    type: str
    state: str
    message: str
    began: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowServer:
    """Prefect's server.

    Attributes:
        api: Address of its API, for this machine.
        pages: Address of its pages, for people.
        auth: user:password; None where it asks nobody.
    """

    api: str
    pages: str
    auth: str | None = field(repr=False)

    def page_of(self, run: str) -> str:
        """Return the address of a run's page."""
        return f"{self.pages.rstrip('/')}/runs/flow-run/{quote(run, safe='')}"

    def runs(self, limit: int) -> tuple[FlowRun, ...]:
        """Return the newest runs that have begun, the newest first.

        Raises:
            CsdError: if it does not answer.
        """
        with self._asking() as client:
            body = {"sort": "START_TIME_DESC", "limit": limit, "flow_runs": {"start_time": {"is_null_": False}}}
            found = _asked(client, "/flow_runs/filter", body)
            wanted = sorted({str(each["flow_id"]) for each in found})
            names = {
                each["id"]: each["name"]
                for each in _asked(client, "/flows/filter", {"flows": {"id": {"any_": wanted}}})
            }
        return tuple(_flow_run(each, names) for each in found)

    def deployment(self, name: str) -> str | None:
        """Return the address of the page that starts a deployment, a flow and a name with a slash; None without it.

        Raises:
            CsdError: if the server does not answer.
        """
        with self._asking() as client:
            answer = client.get(f"/deployments/name/{name}")
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            return f"{self.pages.rstrip('/')}/{FORM.format(answer.raise_for_status().json()['id'])}"

    @contextmanager
    def _asking(self) -> Iterator[httpx.Client]:
        user, _, password = (self.auth or "").partition(":")
        auth = httpx.BasicAuth(user, password) if self.auth else None
        try:
            with httpx.Client(base_url=self.api, auth=auth, timeout=TIMEOUT, trust_env=False) as client:
                yield client
        except httpx.HTTPError as error:
            raise CsdError(f"the server of flows does not answer: {str(error) or type(error).__name__}") from None


def _asked(client: httpx.Client, path: str, body: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what a filter finds; the server wants a token of who asks by POST."""
    answer = client.get("/csrf-token", params={"client": "csd"})
    headers = {}
    if answer.is_success:  # a server without this protection has no token
        headers = {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": "csd"}
    found: list[dict[str, Any]] = client.post(path, json=body, headers=headers).raise_for_status().json()
    return found


def _flow_run(found: Mapping[str, Any], flows: Mapping[str, str]) -> FlowRun:
    state = found.get("state") or {}
    return FlowRun(
        id=str(found["id"]),
        name=str(found["name"]),
        flow=str(flows.get(found["flow_id"], "")),
        type=str(found.get("state_type") or ""),
        state=str(found.get("state_name") or ""),
        message=str(state.get("message") or ""),
        began=str(found.get("start_time") or ""),
    )


def decision_form(page: str, retraining: str) -> str:
    """Return the address of a deployment's form in which a retraining is decided, filled in as far as it can be.

    Args:
        page: Address of the form.
        retraining: Name of the retraining.
    """
    filled = {"settings": {"choice": "approve", "retraining": retraining}}
    return f"{page}?parameters={quote(json.dumps(filled))}"
