"""Prefect tasks around one call each: a stage of the pipeline, and what stands between a task and the next."""

from collections.abc import Sequence
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.states import Cancelled, Completed, Failed
from prefect.tasks import Task

from csd_core.records.stages import Champion
from csd_core.records.verdict import Rejected, VerdictFile, outcome_in_words
from csd_core.releases.contents.release import Release
from csd_core.system.errors import CompatibilityError, CsdError
from csd_core.workspace import Workspace
from flows.runs.pipeline import Pipeline, Stage, StageFailedError, StoppedError

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


@task(
    name="same champion",
    task_run_name="same champion as the active release",
    cache_policy=NO_CACHE,
    persist_result=False,
)
def confirm_champion(workspace: Workspace, release: Release) -> State[Any]:
    """Fail before the long work if its result could not be published: the older tasks gave another champion."""
    record = release.record
    champion = Champion.load(workspace.champion_embedder(record.after) / "champion.json")
    if champion.digest == record.model:
        return Completed(message=f"model {record.model[:12]}, as in release {release.name}")
    error = CompatibilityError(
        f"after task {record.after} the champion is {str(champion.digest)[:12]}, release {release.name} has "
        f"{record.model[:12]}: what comes next could not be published. Start from the commit of that release without "
        "overrides of training, upgrade and gate, or do not publish"
    )
    return Failed(message=str(error), data=error)


@task(name="carry on", task_run_name="carry on after {after}", cache_policy=NO_CACHE, persist_result=False)
def carry_on(workspace: Workspace, after: str) -> State[Any]:
    """Fail if a task's candidate was rejected, so that no later task is trained."""
    verdict = VerdictFile.load(workspace.verdict(after)).verdict
    if isinstance(verdict, Rejected):
        error = CsdError(f"{after}: {verdict.message}")
        return Failed(message=str(error), data=error)
    return Completed(message=f"{after}: {outcome_in_words(verdict)}")


def bring_up_to_date(
    pipeline: Pipeline,
    workspace: Workspace,
    *,
    new: Sequence[str],
    release: Release | None,
    stop: bool,
) -> tuple[str, ...]:
    """Run the stages along DVC's own graph.

    Args:
        pipeline: Of the checkout.
        workspace: Its files.
        new: The tasks that come after the active release, oldest first.
        release: What the champion before them must be; None where that makes no difference.
        stop: Whether a rejection ends the line of tasks.

    Returns:
        Those of `new` whose candidate was judged: all, but for those behind a rejection that stopped the line.

    Raises:
        CsdError: what the first stage that failed said.
    """
    stages: Futures = {}
    barriers: Futures = {}
    stops: set[str] = set()
    for stage in pipeline.stages:
        after = [done for done in map(_promoted_task, stage.needs) if done in barriers]
        awaited = [*(stages[name] for name in stage.needs), *(barriers[done] for done in after)]
        stages[stage.name] = run_stage.submit(stage, pipeline, wait_for=awaited, return_state=False)
        done, promoted = _promoted_task(stage.name), [stages[stage.name]]
        if release is not None and done == release.record.after:
            barriers[done] = confirm_champion.submit(workspace, release, wait_for=promoted, return_state=False)
        elif stop and done in new[:-1]:
            stops.add(done)
            barriers[done] = carry_on.submit(workspace, done, wait_for=promoted, return_state=False)
    wait([*stages.values(), *barriers.values()])
    # a rejection that stopped the line is no failure: it was asked for
    kept = {after: barrier for after, barrier in barriers.items() if after not in stops}
    for name, future in (stages | kept).items():
        if future.state.is_failed() or future.state.is_crashed():
            error = future.state.result(raise_on_failure=False)
            raise error if isinstance(error, CsdError) else CsdError(future.state.message or f"{name} failed")
    return tuple(each for each in new if stages[f"promote@{each}"].state.is_completed())


def _promoted_task(stage: str) -> str:
    """Return the task whose verdict a stage gives; empty for a stage that gives none."""
    return stage.removeprefix("promote@") if stage.startswith("promote@") else ""
