"""`csd backfill`."""

from csd_core.console import say
from csd_core.production import completion
from csd_core.production.locks import WAIT
from csd_core.production.succession import Production
from csd_core.workspace import Workspace


def backfill(
    *,
    why: str,
    by: str | None = None,
    workers: int = 1,
    max_rows_per_second: float | None = None,
    wait: float = WAIT,
) -> None:
    """Embed anew, with the model in force, the rows that older models made; then serve them. Run it again to resume.

    Searches and writes go on meanwhile. What people write or delete is kept.

    Parameters
    ----------
    why
        For the audit log.
    by
        Who asks for it; by default your user name.
    workers
        Processes that embed, each with one thread.
    max_rows_per_second
        Over all of them; full speed by default.
    wait
        Seconds to wait for another backfill, publish or rollback.
    """
    production = Production.of(Workspace())
    release = completion.complete(
        production, why=why, by=by, workers=workers, max_rows_per_second=max_rows_per_second, wait=wait
    )
    if release is None:
        in_force = production.releases.pointer()
        say(f"Nothing to do: every row of release {in_force} that has an image is its model's own.")
        return
    say(f"backfilled: release {release.name} is in force: {release.record.rows:,} rows")
