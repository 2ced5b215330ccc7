"""Flow `backfill`: what older models made in the live gallery is re-embedded in the background, then served."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import httpx
from prefect import flow, task
from prefect.artifacts import acreate_markdown_artifact, acreate_progress_artifact, aupdate_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import Task
from prefect.utilities.annotations import unmapped
from pydantic import Field

from csd_core.engine.engines import EngineName, engine_named
from csd_core.engine.pace import Pace
from csd_core.engine.processes import Throttle
from csd_core.params.section import Positive, Section
from csd_core.releases.activate import LISTED
from csd_core.releases.backfill.finish import finish
from csd_core.releases.backfill.rows import LiveBackfill, alone, embed, plan
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import Release
from csd_core.report.review import escaped
from csd_core.system.errors import CsdError
from csd_core.upgrade.backfill.engine import embed_shards
from csd_core.upgrade.backfill.shards import BackfillShard, ShardResult
from flows.project import open_project
from flows.runs.failures import fail_with_message, tell
from flows.ui.parent_watchdog import ends_with_its_worker

PROGRESS, DONE = "backfill-progress", "backfill"
"""Keys of the artifacts."""
INTERVAL = 1.0
"""Seconds between two updates of the progress."""
PAUSES = [1.0, 10.0]
"""Seconds before a shard is tried again."""


class Backfill(Section):
    """Re-embed what older models made in the live gallery, while searches and writes continue; a killed run resumes."""

    why: str = Field(default="complete the active gallery", title="Why")
    """For the audit log."""
    by: str = Field(default="", title="By")
    """Who asks for it; left empty, the user of the worker."""
    engine: EngineName | None = Field(default=None, title="Engine")
    """local: threads of this run. ray: workers on the machines of a Ray cluster, whose address params.yaml has. Left
    empty, `runtime.engine` of params.yaml."""
    workers: Annotated[int, Field(ge=1, le=4096)] | None = Field(default=None, title="Workers")
    """Threads, or workers of Ray, that embed, each on a core (or GPU) of its own. Left empty, 1; with Ray, one for each
    core (or GPU) of the cluster."""
    max_rows_per_second: Positive | None = Field(default=None, title="Rows a second at most")
    """Over all workers; left empty, full speed."""


@flow(name="backfill", on_failure=[tell], on_crashed=[tell], on_cancellation=[tell], persist_result=False)
@fail_with_message
def backfill(settings: Backfill = Backfill()) -> State[Any]:  # noqa: B008 - frozen
    """Re-embed the rows that older models made, shard by shard, and activate the finished gallery."""
    production, by = Production.of(open_project()), settings.by or None
    with ends_with_its_worker(), alone(production):
        work = plan(production, by=by)
        if work is None:
            return Completed(name="NothingToDo", message="every row that has an image is the own one of the model")
        runtime = production.params.runtime
        results: Any = ()
        if work.shards and (settings.engine or runtime.engine) == "ray":
            results = embed_on_ray(work, settings, runtime.address)
        elif work.shards:
            results = embed_in_threads(work, settings)
        release = finish(production, work, why=settings.why, by=by)
    show_outcome(work, results, release)
    return Completed(message=f"Active: {release.name}, {release.record.rows:,} rows")


@task(name="embed on Ray", cache_policy=NO_CACHE, persist_result=False)
def embed_on_ray(work: LiveBackfill, settings: Backfill, address: str | None) -> list[ShardResult] | State[Any]:
    """Embed all shards on a cluster, in one task run: Ray has its own retries, and shards by the thousand."""
    progress = BackfillProgress(work.rows)
    done = [result for shard in work.shards if (result := work.results.whole(shard))]
    known = {result.number for result in done}
    todo = [shard for shard in work.shards if shard.number not in known]
    progress.keep(work.rows - sum(len(shard.ids) for shard in todo))
    try:
        done += embed_shards(
            work.embedder,
            todo,
            work.results,
            engine=engine_named("ray", address=address, workers=settings.workers),
            max_rows_per_second=settings.max_rows_per_second,
            report=progress.advance,
        )
    except CsdError as error:
        return Failed(message=str(error), data=error)
    progress.show()
    return done


def embed_in_threads(work: LiveBackfill, settings: Backfill) -> list[ShardResult]:
    """Embed all shards, one task run each; the first that fails ends the others, and what is finished is kept."""
    rate = settings.max_rows_per_second
    progress = BackfillProgress(work.rows)
    pace = Pace(throttle=None if rate is None else Throttle(rate), report=progress.advance)
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=settings.workers or 1)
    with runner:
        shared = {"work": unmapped(work), "pace": unmapped(pace), "progress": unmapped(progress)}
        try:
            results: Any = runner.map(embed_shard, {"shard": work.shards, **shared}).result()
        finally:
            progress.end()
    progress.show()
    return list(results)


def is_transient(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Return whether to try a shard again: a disk or a server may answer next time, what a CsdError says stays true."""
    return isinstance(state.result(raise_on_failure=False), (OSError, httpx.TransportError))


@task(
    name="embed shard",
    task_run_name="shard {shard.number}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(PAUSES),
    retry_delay_seconds=PAUSES,
    retry_condition_fn=is_transient,
)
def embed_shard(
    work: LiveBackfill, shard: BackfillShard, pace: Pace, progress: "BackfillProgress"
) -> ShardResult | State[Any]:
    """Embed a shard; Cached if an earlier run finished it, Failed with the one line of a CsdError."""
    if earlier := work.results.whole(shard):
        progress.keep(len(shard.ids))
        return Completed(name="Cached", message="embedded by an earlier run", data=earlier)
    try:
        return embed(work, shard, pace)
    except CsdError as error:
        return Failed(message=str(error), data=error)


class BackfillProgress:
    """A progress artifact that several threads move on.

    Args:
        rows: How many there are to do.
        clock: In seconds.
    """

    def __init__(self, rows: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rows, self._clock = rows, clock
        self._done = self._kept = 0
        self._began = self._shown = clock()
        self._lock = threading.Lock()
        self._ended = False
        # the functions that need no event loop leave their connection open, one for each update
        self._artifact = asyncio.run(acreate_progress_artifact(0.0, key=PROGRESS, description=f"{rows:,} rows"))

    def keep(self, rows: int) -> None:
        """Count rows of an earlier run; they say nothing of the rate."""
        with self._lock:
            self._done += rows
            self._kept += rows

    def advance(self, rows: int) -> None:
        """Count rows that were embedded now, and show them unless something was shown a moment ago.

        Raises:
            CsdError: if the run has ended, by a failure or because somebody cancelled it.
        """
        if self._ended:
            raise CsdError("the run ended before this shard did; run it again: finished shards are kept")
        with self._lock:
            self._done += rows
            due = self._clock() - self._shown >= INTERVAL
            if due:
                self._shown = self._clock()
        if due:
            self.show()

    def end(self) -> None:
        """Let no thread work on beyond its next rows."""
        self._ended = True

    def show(self) -> None:
        """Show where the work stands."""
        with self._lock:
            done, kept = min(self._done, self._rows), self._kept  # a shard that is tried again counts twice
        rate = (done - kept) / max(self._clock() - self._began, 1e-9)
        words = [f"{done:,} of {self._rows:,} rows"]
        if rate > 0:
            words += [f"{rate:,.0f} rows/s", f"about {(self._rows - done) / rate:,.0f} s left"]
        share = 100 * done / self._rows
        asyncio.run(aupdate_progress_artifact(self._artifact, share, description=" · ".join(words)))


def show_outcome(work: LiveBackfill, results: Sequence[ShardResult], release: Release) -> None:
    """Say in an artifact what was done, and whose images could not be read."""
    failed = {failure.id: failure.reason for result in results for failure in result.failed}
    left = {**work.without_image, **failed}
    lines = [
        f"Release **{release.name}** is active, in place of {work.release.name}: {release.record.rows:,} rows.",
        f"{work.rows - len(failed):,} rows were re-embedded by model {release.record.model[:12]}.",
    ]
    if left:
        lines.append(f"{len(left):,} stay as they were, for their images could not be read:")
        named = sorted(left.items())[:LISTED]
        lines.append("\n".join(f"- {escaped(identity)}: {escaped(reason)}" for identity, reason in named))
    if len(left) > LISTED:
        lines.append(f"and {len(left) - LISTED:,} more")
    asyncio.run(acreate_markdown_artifact("\n\n".join(lines), key=DONE))
