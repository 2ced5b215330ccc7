"""Prefect tasks around one call each: a stage of the pipeline, and what stands between a task and the next."""

from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import Task

from csd_core.errors import CompatibilityError, CsdError
from csd_core.production.release import Release
from csd_core.records import Champion, Rejected, VerdictFile
from csd_core.workspace import Workspace
from flows.pipeline import Pipeline, Stage, StageFailedError, StoppedError

PAUSES = [5.0, 60.0]
"""Seconds before a stage is tried again, where what ended it may well not happen twice."""

Futures = dict[str, PrefectFuture[Any]]


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether to try a stage again: a signal ended it, or DVC was busy; an error of its own comes back each time."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StageFailedError) and error.transient


@task(
    name="stage",
    task_run_name="{stage.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(PAUSES),
    retry_delay_seconds=PAUSES,
    retry_condition_fn=is_transient,
)
def run_stage(stage: Stage, pipeline: Pipeline) -> State[Any]:
    """Bring a stage up to date: Completed, Cached where DVC had its outcome, or Failed with its last line."""
    logger = get_run_logger()
    try:
        outcome = pipeline.run(stage, logger.info)
    except StageFailedError as error:
        if error.transient:
            raise
        return Failed(message=str(error), data=error)
    except StoppedError as error:
        return Cancelled(message=str(error))
    match outcome:
        case "ran":
            return Completed(message=f"{stage.name} ran")
        case "restored":
            return Completed(name="Cached", message=f"{stage.name}: computed before, taken from DVC's cache")
        case "unchanged":
            return Completed(name="Cached", message=f"{stage.name}: data, code and parameters are as they were")


@task(name="same champion", task_run_name="same champion as in force", cache_policy=NO_CACHE, persist_result=False)
def confirm_champion(files: Workspace, release: Release) -> State[Any]:
    """Fail before the long work if its result could not be published: the older tasks gave another champion."""
    record = release.record
    champion = Champion.load(files.champion_embedder(record.after) / "champion.json")
    if champion.digest == record.model:
        return Completed(message=f"model {record.model[:12]}, as in release {release.name}")
    error = CompatibilityError(
        f"after task {record.after} the champion is {str(champion.digest)[:12]}, release {release.name} has "
        f"{record.model[:12]}: what comes next could not be published. Start from the commit of that release without "
        "overrides of training, upgrade and gate, or do not publish"
    )
    return Failed(message=str(error), data=error)


@task(name="carry on", task_run_name="carry on after {after}", cache_policy=NO_CACHE, persist_result=False)
def carry_on(files: Workspace, after: str) -> State[Any]:
    """Fail if a task's candidate was rejected, so that no later task is trained."""
    verdict = VerdictFile.load(files.verdict(after)).verdict
    if isinstance(verdict, Rejected):
        error = CsdError(f"{after}: rejected: {'; '.join(verdict.reasons)}")
        return Failed(message=str(error), data=error)
    return Completed(message=f"{after}: promoted under {verdict.name}")


def bring_up_to_date(
    pipeline: Pipeline,
    files: Workspace,
    *,
    new: Sequence[str],
    release: Release | None,
    stop: bool,
) -> None:
    """Run the stages along DVC's own graph.

    Args:
        pipeline: Of the checkout.
        files: Its files.
        new: The tasks that come after the release in force, oldest first.
        release: What the champion before them must be; None where that makes no difference.
        stop: Whether a rejection ends the run.

    Raises:
        CsdError: what the first stage that failed said.
    """
    futures: Futures = {}
    for stage in pipeline.stages:
        futures[stage.name] = run_stage.submit(stage, pipeline, wait_for=_awaited(stage, futures), return_state=False)
        if stage.name.startswith("promote@") and stage.task is not None:
            _add_barriers(stage.task, futures, files, new=new, release=release, stop=stop)
    wait(list(futures.values()))
    for name, future in futures.items():
        if name.startswith("stop@"):
            continue  # a rejection ended the line of tasks, as it was asked to
        if future.state.is_failed() or future.state.is_crashed():
            error = future.state.result(raise_on_failure=False)
            raise error if isinstance(error, CsdError) else CsdError(future.state.message or f"{name} failed")


def _add_barriers(
    done: str, futures: Futures, files: Workspace, *, new: Sequence[str], release: Release | None, stop: bool
) -> None:
    """What must hold after a task before the next one is trained."""
    before = [futures[f"promote@{done}"]]
    if release is not None and done == release.record.after:
        futures[f"then@{done}"] = confirm_champion.submit(files, release, wait_for=before, return_state=False)
    elif stop and done in new[:-1]:
        futures[f"stop@{done}"] = carry_on.submit(files, done, wait_for=before, return_state=False)


def _awaited(stage: Stage, futures: Futures) -> list[PrefectFuture[Any]]:
    """The stages it needs, and the barriers behind the tasks they belong to."""
    done = [name.removeprefix("promote@") for name in stage.needs if name.startswith("promote@")]
    barriers = (f"{kind}@{task}" for task in done for kind in ("then", "stop"))
    return [futures[name] for name in (*stage.needs, *barriers) if name in futures]
