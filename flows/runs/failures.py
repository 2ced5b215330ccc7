"""What a run that did not end well tells: one line, and an event on which an automation can mail or post it."""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from prefect import Flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State
from prefect.events import emit_event
from prefect.states import Failed

from csd_core.system.errors import CsdError, StorageError
from flows.runs.pipeline import StageFailedError

P = ParamSpec("P")


def fail_with_message(flow: Callable[P, State[Any]]) -> Callable[P, State[Any]]:
    """Let a flow that meets a CsdError, or a disk that fails, end as Failed with one line; a traceback is a bug."""

    @wraps(flow)
    def run(*arguments: P.args, **named: P.kwargs) -> State[Any]:
        try:
            return flow(*arguments, **named)
        except CsdError as error:
            return _failed(error)
        except OSError as error:
            return _failed(StorageError.of(error))

    return run


def _failed(error: CsdError) -> State[Any]:
    get_run_logger().error("%s", error)
    return Failed(message=str(error), data=error)


def tell(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:
    """Emit csd.<flow>.failed (or crashed, cancelled) with the stage and the last lines it printed; a hook of flows."""
    error = _error(state)
    stage = error.stage if isinstance(error, StageFailedError) else None
    emit_event(
        f"csd.{flow.name}.{'failed' if state.is_failed() else state.type.value.lower()}",
        resource={
            "prefect.resource.id": f"csd.{flow.name}.{flow_run.name}",
            "prefect.resource.name": flow_run.name,
        },
        related=[{"prefect.resource.id": f"prefect.flow-run.{flow_run.id}", "prefect.resource.role": "flow-run"}],
        payload={
            "flow": flow.name,
            "run": flow_run.name,
            "stage": stage or "",
            "message": state.message or "",
            "lines": list(error.lines) if isinstance(error, StageFailedError) else [],
        },
    )


def _error(state: State[Any]) -> BaseException | None:
    """Return what a failed state holds; nothing where the run ended in another process."""
    if not state.is_failed() or state.data is None:
        return None
    found = state.result(raise_on_failure=False)
    return found if isinstance(found, BaseException) else None
