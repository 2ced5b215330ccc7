"""The live gallery: the rows that production searches, in LanceDB, written and deleted by id.

One table for each published gallery. An upgrade builds the new table beside, and the releases' pointer says which is in
force; so readers never see half an upgrade, and a change of dimension is only another table. Writers take a lock, for
LanceDB alone would let two of them insert the same new id twice. The uri is a folder or an object store; the lock is a
file, so all writers are on one machine; where machines share the releases, it is a lease beside them.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from csd_core.audit.log import Trail
from csd_core.live import tombstones
from csd_core.live.images import RowImages
from csd_core.live.rows import (
    BATCH_ROWS,
    Origin,
    StoredImages,
    Strings,
    pipeline_rows,
    schema,
    texts_of,
    times_of,
    widened,
    with_images,
)
from csd_core.live.storage.catalogue import CATALOGUE
from csd_core.live.storage.clock import NEVER, after
from csd_core.live.storage.lance import files_of
from csd_core.live.storage.owner import Project, refuse_other_history
from csd_core.live.storage.tables import Tables
from csd_core.live.storage.upkeep import tidy
from csd_core.live.tombstones import TOMBSTONES
from csd_core.live.writer import LiveWriter
from csd_core.objects.lease import lease_at
from csd_core.objects.store import Objects, objects_at
from csd_core.params.model import Params
from csd_core.retrieval.gallery import Gallery
from csd_core.system.locks import Lock
from csd_core.workspace import Workspace


class CompactionStats(NamedTuple):
    """What a compaction did to a table."""

    table: str
    rows: int
    versions_before: int
    versions_after: int
    files_before: int
    """Data files of the latest version."""
    files_after: int


class TaggedRows(NamedTuple):
    """A tag of a table after an erasure: its content is another now."""

    table: str
    tag: str
    rows: int
    digest: str


class ErasureReport(NamedTuple):
    """What an erasure did."""

    rows: int
    """Rows of the latest versions that went."""
    tables: tuple[str, ...]
    """Those written again."""
    tagged: tuple[TaggedRows, ...]


class LiveGallery(LiveWriter):
    """The tables of one live gallery, to read, to write and to replace."""

    @classmethod
    def open(
        cls,
        uri: str,
        *,
        lock: Path,
        root: Path | None = None,
        project: Project | None = None,
        shared: Objects | None = None,
    ) -> "LiveGallery":
        """Connect; nothing is read or written yet.

        Args:
            uri: A folder, or an object store such as s3://bucket/prefix.
            lock: The lock file of its writers.
            root: Where relative references to images start; by default the current folder.
            project: Whose writes are taken; None for anybody's.
            shared: Where the leases of writers on several machines lie, in place of the lock file; None for none.
        """
        rows, builds = f"live gallery {uri}", f"the building of tables in live gallery {uri}"
        tables = Tables(
            uri,
            writing=lease_at(shared, "rows", what=rows) if shared else Lock(lock, what=rows),
            building=(
                lease_at(shared, "tables", what=builds)
                if shared
                else Lock(lock.with_name(lock.name + ".build"), what=builds)
            ),
            system=(TOMBSTONES,),
            claim=project,
        )
        return cls(tables, root=root or Path())

    @classmethod
    def of(cls, workspace: Workspace, params: Params) -> "LiveGallery":
        """The live gallery that params.yaml names; its lock lies below `.csd`, or its leases beside the releases."""
        uri = params.live.uri if "://" in params.live.uri else str(workspace.path(params.live.uri))
        lock, address = workspace.root / ".csd" / "live.lock", params.live.releases
        shared = objects_at(address) if "://" in address else None
        project = Project(workspace.releases(address), shared=shared)
        return cls.open(uri, lock=lock, root=workspace.root, project=project, shared=shared)

    # --- whose it is --------------------------------------------------------------------------------------------------

    def refuse_other_history(self, trail: Trail) -> None:
        """Refuse to change releases that a copy of this project has changed since.

        Raises:
            CompatibilityError: naming whence the gallery was taken.
        """
        refuse_other_history(self._tables.admitted(), trail, self.uri)

    def follow(self, trail: Trail) -> None:
        """Record the last line of the audit log: a copy of the project that does not have it may not publish."""
        with self.writing():
            self._tables.follow(trail.last)

    def take_over(self, project: Project, trail: Trail) -> str | None:
        """Make the gallery a project's, whosever it was.

        Args:
            project: The new owner.
            trail: Its audit log.

        Returns:
            Machine and folder of the previous owner; None if it had none.
        """
        with self.writing():
            previous = self._tables.catalogue().owner
            self._tables.follow(trail.last, owner=project.as_owner())
        return previous.place if previous else None

    # --- whole tables -------------------------------------------------------------------------------------------------

    def build(self, table: str, gallery: Gallery, *, origin: Origin, images: RowImages | None) -> int:
        """Write a whole table from a gallery in memory, as `fill` does."""
        rows = pipeline_rows(gallery, origin=origin, written_at=after())
        return self.fill(table, [rows], dimension=gallery.vectors.shape[1], images=images)

    def fill(self, table: str, batches: Iterable[pa.RecordBatch], *, dimension: int, images: RowImages | None) -> int:
        """Write a whole table, a batch in memory at a time; it appears when it is complete.

        A table of the same name is replaced. Rows of deleted items are left out; so are those of erased items.

        Args:
            table: Its name.
            batches: Its rows as `batch_of` makes them, read once; narrower vectors end in zeros.
            dimension: D of the table's vectors.
            images: Of its rows; None for none.

        Returns:
            The rows written.
        """
        count = 0
        with self._tables.building.held():
            tombstones_found = self.tombstones()

            def pieces() -> Iterator[pa.RecordBatch]:
                nonlocal count
                for batch in batches:
                    for start in range(0, batch.num_rows, BATCH_ROWS):
                        rows = batch.slice(start, BATCH_ROWS)
                        ids, written_at = texts_of(rows, "id"), times_of(rows)
                        by_people = texts_of(rows, "origin") == "live"
                        gone = tombstones_found.is_deleted(ids, written_at=np.where(by_people, written_at, NEVER))
                        rows = widened(rows.filter(pa.array(~gone)), dimension)
                        if not rows.num_rows:
                            continue
                        count += rows.num_rows
                        yield with_images(
                            rows, StoredImages.none(rows.num_rows) if images is None else images(ids[~gone])
                        )

            self._tables.create(table, schema(dimension), pieces())
        return count

    def drop(self, table: str) -> None:
        """Remove a table with all its versions and tags."""
        self._tables.drop(table)

    def sweep(self) -> None:
        """Remove what killed processes left of tables that never appeared."""
        self._tables.sweep()

    def compact(self, table: str) -> CompactionStats:
        """Write a table anew: its tags and latest rows without the versions between and what was deleted.

        Writers wait meanwhile. Tagged versions keep their content and their tags.
        """
        with self._tables.building.held(), self.writing():
            before = self._tables.open(table)
            versions, files = len(before.list_versions()), files_of(before)
            self._tables.rewrite(table)
            after = self._tables.open(table)
            for system in (CATALOGUE, TOMBSTONES):
                if (handle := self._tables.opened(system)) is not None:
                    tidy(handle)
            return CompactionStats(
                table=table,
                rows=after.count_rows(),
                versions_before=versions,
                versions_after=len(after.list_versions()),
                files_before=files,
                files_after=files_of(after),
            )

    def erase(self, ids: Sequence[str] | Strings, *, why: str = "erased") -> ErasureReport:
        """Remove items from every table, every version and tag; they never come back.

        Every table is written again and its previous files are dropped, so that no file keeps a row that was deleted
        before. It takes room for a second copy of the largest table, and writers wait. Repeat it if it was interrupted.
        """
        wanted = frozenset(map(str, ids))
        with self._tables.building.held(), self.writing():
            at = after(self._tables.admitted().newest)
            tombstones.bury(self._tables, wanted, at=at, why=why, erased=True)
            names = self.tables()
            rows = 0
            tagged: list[TaggedRows] = []
            for table in names:
                rows += sum(self.has(table, sorted(wanted)).values())
                self._tables.rewrite(table, without=wanted)
                tagged += [
                    TaggedRows(table, tag, self.count(table, version=tag), self.digest(table, version=tag, whole=True))
                    for tag in self.tags(table)
                ]
            self._tables.sweep()
        return ErasureReport(rows=rows, tables=names, tagged=tuple(tagged))
