"""`csd items` for the tables that hold the items: their owner, their size on disk and their index."""

from csd_core.audit.log import whoami
from csd_core.commands.production.active import active_release, snapshot_of
from csd_core.releases.candidate import Production
from csd_core.releases.reindex import reindex
from csd_core.system.console import echo
from csd_core.workspace import Workspace

JUDGED = 200
"""Queries that the recall of an index is measured on."""
_JUDGED_K = 10


def take_over(*, why: str, by: str | None = None) -> None:
    """Make the live gallery this project's, whosever it was; from then on the other project cannot write to it.

    Its tables stay; `csd publish` adds this project's.

    Parameters
    ----------
    why
        The reason to record in the audit log.
    by
        Who asks for it; by default your user name.
    """
    production = Production.of(Workspace())
    releases, live = production.releases, production.live
    with releases.changing():
        releases.audit.append("took over", by=by or whoami(), why=why)
        before = live.take_over(releases.project, releases.audit.read())
    echo(f"live gallery {live.uri} is this project's; before it was {before or 'nobody'}'s")


def compact() -> None:
    """Rewrite every table without the versions that no tag needs and the rows that were deleted."""
    production = Production.of(Workspace())
    for table in production.live.tables():
        done = production.live.compact(table)
        echo(
            f"{table}: {done.rows} rows; {done.versions_before} -> {done.versions_after} versions, "
            f"{done.files_before} -> {done.files_after} data files"
        )


def index(*, why: str, by: str | None = None) -> None:
    """Publish the active release again with an index over all its rows, and print its recall against exact search.

    Rows written since a release was made are searched one by one beside its index, so do this after many writes.

    Parameters
    ----------
    why
        The reason to record in the audit log.
    by
        Who asks for it; by default your user name.
    """
    production = Production.of(Workspace())
    release = active_release(production)
    knobs = production.params.live
    count = production.live.count(release.table)
    if count <= knobs.exact_rows:
        echo(f"{release.table}: {count} rows; up to live.exact_rows ({knobs.exact_rows}) search is exact")
        return
    release = reindex(production, why=why, by=by)
    recall = snapshot_of(production, release).recall_of_index(k=_JUDGED_K, queries=JUDGED)
    echo(
        f"release {release.name}: index of {count} rows, {knobs.index_probes} cells searched: finds {recall:.1%} of "
        f"the {_JUDGED_K} nearest of {min(JUDGED, count)} rows drawn as queries"
    )
