"""`csd backfill`."""

from csd_core.commands.production.engine_options import DEFAULTS, EngineOptions
from csd_core.releases.backfill import finish
from csd_core.releases.candidate import Production
from csd_core.system.console import echo
from csd_core.system.locks import WAIT
from csd_core.workspace import Workspace


def backfill(
    *,
    why: str,
    by: str | None = None,
    engine: EngineOptions = DEFAULTS,
    workers: int | None = None,
    max_rows_per_second: float | None = None,
    wait: float = WAIT,
) -> None:
    """Re-embed with the active model the rows that older models made, then serve them.

    Searches and writes continue meanwhile, and what people write or delete is kept. Run it again to resume.

    Parameters
    ----------
    why
        The reason to record in the audit log.
    by
        The name to record as who asked; by default your user name.
    workers
        Number of embedding processes, each with one thread; by default 1, or with Ray one for each core (or GPU).
    max_rows_per_second
        Largest embedding rate of all processes together; unlimited by default.
    wait
        Seconds to wait for another backfill, publish or rollback to finish.
    """
    production = Production.of(Workspace())
    release = finish.complete(
        production,
        why=why,
        by=by,
        engine=engine.chosen(workers=workers),
        max_rows_per_second=max_rows_per_second,
        wait=wait,
    )
    if release is None:
        active = production.releases.pointer()
        echo(f"Nothing to do: every row of release {active} that has an image is its model's own.")
        return
    echo(f"backfilled: release {release.name} is active: {release.record.rows:,} rows")
