"""`csd publish`, `rollback`, `releases` and `verify`."""

from typing import Annotated, Literal

from cyclopts import Parameter

from csd_core.commands.dvc import push
from csd_core.records.check import strategy_name
from csd_core.releases import publish as publishing
from csd_core.releases import rollback as rolling_back
from csd_core.releases import verify as verifying
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import Release, ReleaseRecord
from csd_core.system.console import echo, show
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.system.locks import WAIT
from csd_core.workspace import Workspace


def publish(*, task: str | None = None, why: str = "", by: str | None = None, wait: float = WAIT) -> None:
    """Activate the champion, with its gallery and the rows that people wrote since.

    Parameters
    ----------
    task
        Task whose champion to publish; by default the last one (report.after).
    why
        The reason to record in the audit log.
    by
        The name to record as who asked; by default your user name.
    wait
        Seconds to wait for another publish, rollback or backfill to finish.
    """
    production = Production.of(Workspace())
    release = publishing.publish(production, task=task, why=why, by=by, wait=wait)
    if release is None:
        active = production.releases.active()
        echo(f"Nothing to do: release {active.name if active else ''} is this champion with this gallery.")
        return
    _tell("published", release)
    push(Workspace())


def rollback(number: int | None = None, /, *, why: str, by: str | None = None, wait: float = WAIT) -> None:
    """Activate an earlier release again, under a new number.

    Rows that people wrote since are re-embedded by its model; what was deleted since stays deleted.

    Parameters
    ----------
    number
        Number of the release; by default the one that was active before.
    why
        The reason to record in the audit log.
    by
        The name to record as who asked; by default your user name.
    wait
        Seconds to wait for another publish, rollback or backfill to finish.
    """
    release = rolling_back.rollback(Production.of(Workspace()), number, why=why, by=by, wait=wait)
    _tell(f"rolled back to release {release.record.rolled_back_to}", release)


def releases() -> None:
    """List the releases."""
    production = Production.of(Workspace())
    active = production.releases.pointer()
    rows = []
    for release in production.releases.all():
        record = release.record
        retired = production.releases.is_retired(release)
        rows.append(
            (
                str(release.number),
                "yes" if release.name == active else "retired" if retired else "",
                " + ".join(model[:8] for model in (record.model, *release.older_models)),
                _how(record),
                f"{record.rows:,}",
                record.by,
                f"{record.created[:16].replace('T', ' ')} {record.why}".rstrip(),
            )
        )
    if not rows:
        echo("There is no release yet; `csd publish` makes the first.")
        return
    show(("release", "active", "model", "how", "rows", "by", "created (UTC), why"), rows, right=("rows",))


def verify(
    number: int | None = None, /, *, every: Annotated[bool, Parameter(name="--all", negative="")] = False
) -> None:
    """Verify releases, gallery, pointer and audit log; exit with 4 if anything has changed.

    Parameters
    ----------
    number
        Number of the release; by default the active one.
    every
        Verify all releases.
    """
    if every and number is not None:
        raise ParamsError(f"csd verify {number} --all: name a release or ask for all, not both")
    production = Production.of(Workspace())
    which: int | Literal["active", "all"] = "all" if every else "active" if number is None else number
    with production.releases.reading() as releases:
        found = verifying.verify(releases, production.live, which=which)
    for note in found.notes:
        echo(f"note: {note}")
    if found.findings:
        raise ArtifactError("\n".join(found.findings))
    looked_at = ", ".join(found.checked) or "no release"
    echo(f"{looked_at}: as made; audit log: {found.lines} lines, the last one is {found.last_line}")


def _how(record: ReleaseRecord) -> str:
    """Return how a release came, for the list."""
    if record.kind == "rollback":
        return f"rollback to {record.rolled_back_to}"
    return record.kind if record.kind == "backfill" else f"{record.kind}, {strategy_name(record.strategy, None)}"


def _tell(done: str, release: Release) -> None:
    record = release.record
    spaces = len(release.spaces_for(record.model))
    older = "".join(f"; model {model[:12]} still searches its rows" for model in release.older_models)
    echo(
        f"{done}: release {release.name} is active: {record.rows:,} rows, model {record.model[:12]} searches "
        f"{spaces} space{'s' * (spaces != 1)}{older}"
    )
