"""What can be written to the tables of the live gallery, row by row and by id; who writes holds its lock."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from lancedb.expr import col
from lancedb.table import Table

from csd_core.audit.checksums import hash_of
from csd_core.live import tombstones
from csd_core.live.reader import LiveReader, dimension_of
from csd_core.live.rows import LiveItems, Strings, schema
from csd_core.live.storage.clock import after
from csd_core.live.storage.lance import lance_errors, latest_time, put, remove
from csd_core.system.errors import CompatibilityError, ParamsError, StorageError
from csd_core.system.locks import WAIT


class LiveWriter(LiveReader):
    """The tables of one live gallery, to read and to write row by row."""

    @contextmanager
    def writing(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold the write lock; whoever holds it may write, and take it again.

        Raises:
            BusyError: if another process still holds it after `wait` seconds, naming it.
            StorageError: naming the gallery, if the disk is full or read-only.
        """
        with self._tables.writing.held(wait=wait):
            try:
                yield
            except StorageError as error:
                raise error.at(self.uri) from None

    def upsert(self, table: str, items: LiveItems) -> None:
        """Write items by id, in one commit, and lift their tombstones.

        Raises:
            CompatibilityError: if the vectors have another dimension than the table.
            ParamsError: if an item was erased: it never comes back.
        """
        with self.writing():
            handle, newest = self._tables.open_to_write(table)
            dimension = dimension_of(handle)
            if items.vectors.shape[1] != dimension:
                raise CompatibilityError(
                    f"items have {items.vectors.shape[1]} dimensions, table {table} {dimension}; embed them with the "
                    "model of the active release"
                )
            known = tombstones.of(self._tables, items.ids.tolist())
            if gone := known.erased(items.ids.tolist()):
                raise ParamsError(
                    f"item {gone[0]} was erased, and an erased item never comes back; nothing was written"
                )
            columns = schema(dimension)
            if missing := [each for each in columns if each.name not in handle.schema.names]:
                with lance_errors(table):  # an earlier csd made the table; the versions at tags stay as they are
                    handle.add_columns(pa.schema(missing))
            put(handle, columns, items.batches(now=after(newest, known.latest)))
            tombstones.lift(self._tables, known)
            self._tables.shrink(table, handle)

    def delete(self, table: str, ids: Sequence[str] | Strings, *, why: str) -> int:
        """Delete items, in one commit, so that no upgrade brings them back.

        Items that are not there are remembered as deleted too: the table of an upgrade under way may have them.

        Returns:
            How many were there.
        """
        with self.writing():
            wanted = list(dict.fromkeys(map(str, ids)))
            handle, newest = self._tables.open_to_write(table)
            tombstones.bury(self._tables, wanted, at=self._deleted_at(handle, newest, wanted), why=why, erased=False)
            gone = remove(handle, wanted)
            self._tables.shrink(table, handle)
            return gone

    def discard(self, table: str, ids: Sequence[str] | Strings) -> int:
        """Remove rows without a tombstone, as an upgrade does that cannot carry them; returns how many there were."""
        with self.writing():
            return remove(self._tables.open_to_write(table)[0], list(dict.fromkeys(map(str, ids))))

    def tag(self, table: str, tag: str) -> int:
        """Name the latest version; returns its number. A tag of that name moves.

        What is deleted from then on counts as deleted after every row at the tag was written.
        """
        with self.writing():
            handle, _ = self._tables.open_to_write(table)
            self._tables.move_on(latest_time(handle))
            with lance_errors(table):
                if tag in handle.tags.list():
                    handle.tags.update(tag, handle.version)
                else:
                    handle.tags.create(tag, handle.version)
            return int(handle.version)

    def untag(self, table: str, tag: str) -> None:
        """Remove a tag; its version goes with the next compaction."""
        with self.writing(), lance_errors(table):
            self._tables.open_to_write(table)[0].tags.delete(tag)

    def forget_deletions(self, *, needed: Iterable[str]) -> int:
        """Forget which items were deleted where nothing could bring them back; an erasure is never forgotten.

        Args:
            needed: Ids that the pipeline still has; they are read only if something was deleted.

        Returns:
            How many deletions were forgotten.
        """
        with self.writing():
            self._tables.admitted()
            found = self.tombstones().tombstones_found
            deleted = {item for item, tombstone in found.items() if not tombstone.erased}
            if not deleted:
                return 0
            there = deleted.intersection(map(hash_of, needed))
            for table in self.tables():
                for version in (None, *self.tags(table)):
                    for batch in self.batches(table, ["id"], version=version):
                        there |= deleted.intersection(map(hash_of, batch["id"].to_pylist()))
            return tombstones.forget(self._tables, needed=there)

    def _deleted_at(self, handle: Table, newest: np.datetime64, ids: Sequence[str]) -> np.datetime64:
        """A time later than that of every row of some items, here or at a tag."""
        with lance_errors(handle.name):
            rows = handle.search().where(col("id").isin(list(ids))).select(["written_at"]).to_arrow()
        times = rows["written_at"].cast(pa.timestamp("us")).to_numpy()
        return after(newest, *times)
