"""Older releases keep their records and lose table and model."""

import pyarrow.parquet as pq

from csd_core.audit.checksums import CHECKSUMS
from csd_core.records.stages import SeenShards
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import LASTING, Release
from csd_core.system.errors import ArtifactError


def retire(production: Production, *, by: str) -> tuple[str, ...]:
    """Retire all but the newest `live.keep_releases`, never the active one; the caller holds the releases' lock.

    A release keeps copies of all that its rows need, so none depends on an older one. A run that was killed is
    completed by the next.

    Returns:
        Names of those newly retired.
    """
    releases = production.releases
    active = releases.pointer()
    retired = releases.audit.read().retired
    newly: list[str] = []
    for name in releases.names()[: -production.params.live.keep_releases]:
        if name == active:
            continue
        try:
            release = Release.load(releases.root / name)
        except ArtifactError:
            continue  # it was tampered with: evidence stays
        if release.name not in retired:
            releases.audit.append("retired", by=by, release=release.name, table=release.table)
            newly.append(release.name)
        _strip(production, release)
    releases.sweep()
    return tuple(newly)


def forget_deletions(production: Production, *, after: str) -> None:
    """Forget deletions of items that neither the pipeline nor a row of a kept release has: nothing brings them back.

    Nothing is forgotten where a shard is not at hand: what is in it could come with a later publish.

    Args:
        production: Where.
        after: The task whose gallery was published.
    """
    workspace = production.workspace
    shards = {workspace.shard(name) / "items.parquet" for name in SeenShards.load(workspace.seen(after)).tasks}
    if not all(path.is_file() for path in shards):
        return
    paths = sorted(shards | set((workspace.root / "data" / "shards").glob("*/items.parquet")))
    tables = (pq.read_table(path, columns=["id"]) for path in paths)
    production.live.forget_deletions(needed=(each for table in tables for each in table["id"].to_pylist()))


def _strip(production: Production, release: Release) -> None:
    """Remove what a retired release no longer needs, as far as it is there."""
    if release.table in production.live.tables():
        production.live.drop(release.table)
    keep = {release.folder / name for name in (*LASTING, CHECKSUMS)}
    for path in sorted(release.folder.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        elif path not in keep:
            path.unlink()
