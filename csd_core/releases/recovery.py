"""What a killed publish or rollback left: removed if it came to nothing, completed if it had switched already."""

import shutil

from csd_core.audit.checksums import CHECKSUMS
from csd_core.audit.log import AuditEntry
from csd_core.live.gallery import TaggedRows
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import Release
from csd_core.retrieval.embedder import digest_of
from csd_core.system.console import echo


def mark_of(number: int) -> str:
    """The tag on the active table from which a publish catches up."""
    return f"before-{number:04}"


def recover(production: Production, *, by: str, why: str = "the run was killed") -> None:
    """Bring releases, live gallery and audit log to where a run that did not finish should have left them.

    It may itself be killed and be done again. The caller holds the releases' lock.

    Args:
        production: Where.
        by: Who recovers.
        why: What ended the run.

    Raises:
        ArtifactError: if the audit log was tampered with: what it says must not remove anything.
    """
    production.releases.refuse_overtaken()
    trail = production.releases.audit.trusted()
    if trail.open:
        _end(production, trail.open, by=by, why=why)
    if trail.forgetting:
        _forget(production, trail.forgetting, by=by)


def _end(production: Production, begun: AuditEntry, *, by: str, why: str) -> None:
    releases, live = production.releases, production.live
    name = str(begun.release)
    _unmark(production, begun)
    if releases.pointer() == name:
        release = Release.load(releases.root / name)
        releases.audit.append(
            "rolled back" if release.record.kind == "rollback" else "published",
            by=begun.by,
            why=begun.why,
            release=name,
            from_release=begun.from_release,
            recovered=True,
            checksums={name: digest_of(release.folder / CHECKSUMS)},
        )
        echo(f"release {name} had become active when its run ended ({why}); the audit log is completed")
        return
    for folder in (name, f".{name}.partial", f".{name}.former"):
        shutil.rmtree(releases.root / folder, ignore_errors=True)
    if begun.table in live.tables():
        live.drop(begun.table)
    live.sweep()
    releases.audit.append("abandoned", by=by, why=why, release=name, table=begun.table)
    releases.sweep()
    echo(f"release {name} was begun and given up ({why}); {begun.from_release or 'nothing'} is active as before")


def _unmark(production: Production, begun: AuditEntry) -> None:
    """Remove the tag from the table that was active."""
    if begun.from_release is None:
        return
    table = Release.load(production.releases.root / begun.from_release).table
    mark = mark_of(int(str(begun.release).split("-")[0]))
    if table in production.live.tables() and mark in production.live.tags(table):
        production.live.untag(table, mark)


def _forget(production: Production, started: AuditEntry, *, by: str) -> None:
    """Complete an erasure's part in the releases."""
    live = production.live
    there = set(live.tables())
    tagged = [
        TaggedRows(
            release.table,
            release.tag,
            live.count(release.table, version=release.tag),
            live.digest(release.table, version=release.tag, whole=True),
        )
        for release in production.releases.all()
        if release.table in there
    ]
    production.releases.finish_forgetting(started.items, tagged=tagged, by=by, why=started.why, recovered=True)
