"""Completion: the active rows that other models made are re-embedded, and the finished table becomes active.

People go on writing and deleting meanwhile; the switch is that of any new release (`csd_core.releases.activate`).
"""

from collections.abc import Mapping
from dataclasses import replace

from csd_core.audit.log import whoami
from csd_core.engine.processes import LocalEngine
from csd_core.engine.work import Engine
from csd_core.live.images import NO_IMAGE
from csd_core.live.migration import MigrationRules
from csd_core.live.rows import Strings
from csd_core.releases.activate import OnStep, activate
from csd_core.releases.backfill.announcement import name_rows
from csd_core.releases.backfill.completed import CompletedRows
from csd_core.releases.backfill.rows import LiveBackfill, alone, clear, plan, rows_of_others
from csd_core.releases.candidate import Base, Production, ReleaseCandidate
from csd_core.releases.contents.release import Release
from csd_core.releases.recovery import recover
from csd_core.releases.registry import register
from csd_core.releases.retention import retire
from csd_core.retrieval.embedder import Embedder
from csd_core.system.console import echo, progress
from csd_core.system.errors import ArtifactError, CompatibilityError, DataError
from csd_core.system.locks import WAIT
from csd_core.upgrade.backfill.engine import embed_shards
from csd_core.upgrade.backfill.shards import SHARD_ROWS


def complete(
    production: Production,
    *,
    why: str,
    by: str | None = None,
    engine: Engine = LocalEngine(),  # noqa: B008 - frozen
    max_rows_per_second: float | None = None,
    shard_rows: int = SHARD_ROWS,
    wait: float = WAIT,
    on_step: OnStep = lambda _: None,
) -> Release | None:
    """Re-embed what is not the model's own, and activate the finished table.

    A run that was interrupted goes on where it stopped. With several processes, a script must guard its entry by
    `if __name__ == "__main__"`.

    Args:
        production: Where.
        why: For the audit log.
        by: Who asked for it; by default the user of this process.
        engine: Who embeds; by default this process.
        max_rows_per_second: Over all workers; None for full speed.
        shard_rows: Rows of a shard: what a killed process loses at most.
        wait: Seconds to wait for another backfill, publish or rollback.
        on_step: Told each of `activate.STEPS` when it is done.

    Returns:
        The new release; None if every row that has an image is the model's own.

    Raises:
        ParamsError: if the rate is not positive, or the engine is not installed.
        CsdError: as `plan`, `embed` and `finish` do; what is embedded is kept.
    """
    with alone(production, wait=wait):
        backfill = plan(production, by=by, wait=wait, shard_rows=shard_rows)
        if backfill is None:
            return None
        todo = [shard for shard in backfill.shards if not backfill.results.whole(shard)]
        with progress("backfill", total=backfill.rows, unit="rows") as meter:
            meter.resume_at(backfill.rows - sum(len(shard.ids) for shard in todo))
            for _ in embed_shards(
                backfill.embedder,
                todo,
                backfill.results,
                engine=engine,
                max_rows_per_second=max_rows_per_second,
                report=meter.advance,
            ):
                pass  # it is on disk
        return finish(production, backfill, why=why, by=by, wait=wait, on_step=on_step)


def finish(
    production: Production,
    backfill: LiveBackfill,
    *,
    why: str,
    by: str | None = None,
    wait: float = WAIT,
    on_step: OnStep = lambda _: None,
) -> Release:
    """Activate the table with the vectors of all shards, with what people wrote and deleted since the plan.

    A row whose image could not be read stays as it is: searchable, and named. The caller is `alone`.

    Args:
        production: Where.
        backfill: Whose shards are all embedded.
        why: For the audit log.
        by: Who asked for it; by default the user of this process.
        wait: Seconds to wait for another publish or rollback.
        on_step: Told each of `activate.STEPS` when it is done.

    Raises:
        CompatibilityError: if another release is active than when it was planned.
        ArtifactError: if a shard is not finished or is damaged, or the new release proves unfit.
        DataError: if no image at all could be read.
        CsdError: if another process holds the lock.
    """
    who, planned = by or whoami(), backfill.release
    with production.releases.changing(wait=wait):
        recover(production, by=who)
        active = production.releases.pointer()
        if active != planned.name:
            raise CompatibilityError(
                f"the backfill was planned for release {planned.name}, and {active} is active now; nothing was "
                "changed. Run it again: it starts from what is active"
            )
        failed = _failures(backfill)
        if failed and len(failed) == backfill.rows:
            clear(production)  # so that the next plan looks at the rows as they are then
            first = next(iter(failed.items()))
            raise DataError(
                f"backfill of release {planned.name}: none of the {len(failed)} images could be read, such as that of "
                f"item {first[0]}: {first[1]}; make them reachable (or delete the items) and try again"
            )
        release = activate(production, _heir(production, backfill, failed), by=who, why=why, on_step=on_step)
        echo(register(production, release, by=who))
        clear(production)
        retire(production, by=who)
        left = rows_of_others(production.live, release, tag=release.tag, only_with_image=False)
    _tell(left, failed)
    return release


def _heir(production: Production, backfill: LiveBackfill, failed: Mapping[str, str]) -> ReleaseCandidate:
    """The active release with the vectors of the shards, as a release to be."""
    release, runtime = backfill.release, production.params.runtime
    completed = CompletedRows.of(production.live, backfill, without=failed)
    rules = completed.rules()
    base = Base.at(production.live, release, tag=backfill.tag)
    return ReleaseCandidate.again(
        release,
        kind="backfill",
        rolled_back_to=None,
        strategy="backfill",
        base=replace(base, batches=lambda: completed.batches(rules.width)),
        rules=MigrationRules(
            embedder=Embedder.load(release.embedder, device=runtime.device, threads=runtime.threads),
            strategy="backfill",
            search=rules,
            stays=frozenset(),  # whoever wrote a row since, with whatever model: it is re-embedded where that can be
            adapters={},
        ),
    )


def _failures(backfill: LiveBackfill) -> dict[str, str]:
    """Id -> why its image could not be read, over all shards.

    Raises:
        ArtifactError: if a shard is not finished or is damaged.
    """
    failed: dict[str, str] = {}
    for shard in backfill.shards:
        result = backfill.results.finished(shard)
        if result is None:
            raise ArtifactError(
                f"{backfill.results.home(shard)}: shard {shard.number} is not finished, or damaged; run the backfill "
                "again: the others are kept"
            )
        failed |= {failure.id: failure.reason for failure in result.failed}
    return failed


def _tell(left: Strings, failed: Mapping[str, str]) -> None:
    """Name the rows that another model still stands for."""
    if not len(left):
        return
    echo(f"{len(left):,} rows stay as they were, for their images cannot be had; they are searched as before")
    name_rows({identity: failed.get(identity, NO_IMAGE) for identity in left.tolist()})
