"""What can be read from the live gallery: its tables, rows, versions, and whether they can be searched."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from operator import and_
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.expr import col
from lancedb.table import Table

from csd_core.live import tombstones
from csd_core.live.filters import Filters
from csd_core.live.images import FetchedImages, pixels
from csd_core.live.rows import (
    StoredImages,
    Strings,
    refuse_bad_vectors,
    vectors_of,
)
from csd_core.live.rules import SearchRules
from csd_core.live.storage.columns import completed, stored
from csd_core.live.storage.fingerprints import digest_of
from csd_core.live.storage.lance import windows
from csd_core.live.storage.tables import Result, Tables
from csd_core.live.tombstones import Tombstones
from csd_core.records.stages import ImageForm
from csd_core.retrieval.gallery import Provenance
from csd_core.system.errors import ArtifactError, CompatibilityError

KIND = ("embedded_by", "adapters", "space")
WINDOW = 1 << 22
"""Bytes of vectors read at a time."""
_WHOLE_ROWS = 1 << 12
"""Rows read at a time with their images; each reading costs some 10 ms."""
_KIND_ROWS = 1 << 14
"""Rows whose provenances are read at a time."""


class Changes(NamedTuple):
    """What people wrote between two versions of a table."""

    upserted: Strings
    """Ids whose revision is new."""
    deleted: Strings
    """Ids that are gone."""


class LiveReader:
    """The tables of one live gallery, to read.

    Attributes:
        uri: Where they lie.
        root: Where relative references to images start.
    """

    def __init__(self, tables: Tables, *, root: Path) -> None:
        self.uri = tables.uri
        self.root = root
        self._tables = tables

    def tables(self) -> tuple[str, ...]:
        """All tables that are complete, ascending."""
        return self._tables.names()

    def tombstones(self) -> Tombstones:
        """What was deleted and erased."""
        return tombstones.read(self._tables)

    def tombstones_of(self, ids: Iterable[str]) -> Tombstones:
        """What became of some items, if they were deleted or erased; costs the same however many others were."""
        return tombstones.of(self._tables, ids)

    def is_of_another(self) -> str | None:
        """Machine and folder of the project whose the gallery is; None if it is this one's, or nobody's."""
        claim, owner = self._tables.claim, self._tables.catalogue().owner
        return owner.place if claim and owner and claim.is_of_another(owner, self.uri) else None

    def half_made(self) -> tuple[str, ...]:
        """Tables whose making was interrupted; the next write makes them again."""
        return self._tables.half_made()

    def count(self, table: str, *, version: str | int | None = None) -> int:
        """Rows of a table, at a tag or version or now."""
        return self._tables.read(table, version, lambda handle: int(handle.count_rows()))

    def version(self, table: str) -> str:
        """A token that changes whenever the table does."""
        return f"{self._tables.entry(table).physical}/{self._tables.open(table).version}"

    def state(self, table: str) -> tuple[str, int]:
        """A token that changes whenever the table or what was deleted does."""
        return self.version(table), tombstones.version(self._tables)

    def reading(self, table: str, version: str | int | None = None) -> Table:
        """LanceDB's own handle, which stays at a version whatever is written; None for the latest.

        It fails once the table is written again or dropped; `read` would open it again.
        """
        handle = self._tables.open(table, version)
        handle.checkout(handle.version)
        return handle

    def read(self, table: str, version: str | int | None, call: Callable[[Table], Result]) -> Result:
        """Call with LanceDB's own handle at a version; again if the table was written again meanwhile."""

        def at_version(handle: Table) -> Result:
            handle.checkout(handle.version)
            return call(handle)

        return self._tables.read(table, version, at_version)

    def has(self, table: str, ids: Sequence[str]) -> dict[str, bool]:
        """Which ids the table has."""
        found = set(self.rows(table, ids=ids, columns=["id"])["id"].to_pylist())
        return {identity: identity in found for identity in ids}

    def rows(
        self,
        table: str,
        *,
        version: str | int | None = None,
        ids: Sequence[str] | Strings | None = None,
        where: Filters | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """A snapshot of rows, in no particular order.

        Args:
            table: Its name.
            version: A tag or version; None for now.
            ids: Only these, as far as they are there.
            where: Only rows that match.
            columns: Only these; all of them with images otherwise. One that a table of an earlier csd lacks is nulls.
        """
        terms = [] if ids is None else [col("id").isin(list(map(str, ids)))]
        if where is not None and (predicate := where.predicate()) is not None:
            terms.append(predicate)

        def read(handle: Table) -> pa.Table:
            wanted = columns or handle.schema.names
            query = handle.search().select(stored(wanted, handle.schema))
            return completed((query.where(reduce(and_, terms)) if terms else query).to_arrow(), wanted)

        return self._tables.read(table, version, read)

    def batches(
        self, table: str, columns: Sequence[str], *, version: str | int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of a table as it is when the first is asked for, some in memory at a time, always in the same order.

        It fails once the table is written again or dropped.
        """
        handle = self.reading(table, version)
        yield from windows(handle, list(columns), rows=max(1, WINDOW // 4 // dimension_of(handle)))

    def images_of(
        self, table: str, ids: Sequence[str] | Strings, *, form: ImageForm, version: str | int | None = None
    ) -> FetchedImages:
        """Images of items, decoded as ingest does, in the order of `ids`; those that cannot be had are listed."""
        wanted = np.array(list(map(str, ids)), np.str_)
        rows = self.rows(table, version=version, ids=wanted, columns=["id", "image", "image_ref"])
        at = {identity: row for row, identity in enumerate(rows["id"].to_pylist())}
        there = [identity for identity in wanted.tolist() if identity in at]
        taken = rows.take(pa.array([at[identity] for identity in there], pa.int64()))
        found = pixels(StoredImages.of(taken), np.array(there, np.str_), form=form, root=self.root)
        absent = {identity: f"is not in table {table}" for identity in wanted.tolist() if identity not in at}
        return FetchedImages(found.ids, found.images, {**found.failed, **absent})

    def tags(self, table: str) -> dict[str, int]:
        """Tag -> version."""
        return {name: int(facts["version"]) for name, facts in self._tables.open(table).tags.list().items()}

    def changed_since(self, table: str, tag: str) -> Changes:
        """What people wrote and deleted since a tagged version."""
        columns = ["id", "revision"]
        then, now = self.rows(table, version=tag, columns=columns), self.rows(table, columns=columns)
        before = then["revision"].take(pc.index_in(now["id"], value_set=then["id"]))
        upserted = now["id"].filter(pc.invert(pc.fill_null(pc.equal(before, now["revision"]), False)))
        deleted = then["id"].filter(pc.invert(pc.is_in(then["id"], value_set=now["id"])))
        return Changes(*(np.array(sorted(each.to_pylist()), np.str_) for each in (upserted, deleted)))

    def digest(self, table: str, *, version: str | int | None = None, whole: bool = False) -> str:
        """sha256 over the rows' content, whatever their order and files.

        Args:
            table: Its name.
            version: A version or tag; None for the latest.
            whole: With the revisions and times of writing too.
        """

        def read(handle: Table) -> str:
            batches = windows(handle, handle.schema.names, rows=_WHOLE_ROWS)
            return digest_of(batches, dimension=dimension_of(handle), rows=handle.count_rows(), whole=whole)

        return self.read(table, version, read)

    def check(self, table: str, rules: SearchRules, *, version: str | int | None = None) -> None:
        """Refuse a table that cannot be searched.

        Raises:
            CompatibilityError: if it has another dimension, a row in another space, or a vector not of unit length.
            ArtifactError: if an id repeats.
        """

        def read(handle: Table) -> None:
            refuse_width(handle, table, rules)
            ids: list[pa.Array] = []
            for batch in windows(handle, ["id", "vector"], rows=max(1, WINDOW // 4 // dimension_of(handle))):
                names = batch["id"].to_pylist()
                refuse_bad_vectors(vectors_of(batch), np.array(names, np.str_), where=f"table {table}")
                ids.append(pa.array(names, pa.string()))  # a copy: the batch's own would keep the vectors
            refuse_spaces(kinds_of(handle), table, rules)
            every = pa.chunked_array(ids, pa.string())
            if twice := len(every) - pc.count_distinct(every).as_py():
                raise ArtifactError(f"table {table}: {twice} ids occur twice; publish it again")

        self.read(table, version, read)


def dimension_of(handle: Table) -> int:
    """D of a table's vectors."""
    return int(handle.schema.field("vector").type.list_size)


def refuse_width(handle: Table, table: str, rules: SearchRules) -> None:
    """Refuse a table whose vectors have another dimension.

    Raises:
        CompatibilityError: with both.
    """
    stored = dimension_of(handle)
    if stored != rules.width:
        raise CompatibilityError(
            f"table {table} has {stored} dimensions, the query model {rules.width}; search with its release's model"
        )


def kinds_of(handle: Table) -> Counter[tuple[Provenance, str]]:
    """How many rows of an open table are of which provenance and in which space."""
    return kinds_in(windows(handle, list(KIND), rows=_KIND_ROWS))


def kinds_in(batches: Iterable[pa.RecordBatch]) -> Counter[tuple[Provenance, str]]:
    """How many rows are of which provenance and in which space.

    Args:
        batches: Rows, with the columns KIND.
    """
    found: Counter[tuple[Provenance, str]] = Counter()
    for batch in batches:
        counts = pa.Table.from_batches([batch]).group_by(list(KIND)).aggregate([([], "count_all")])
        for each in counts.to_pylist():
            found[Provenance(each["embedded_by"], each["adapters"]), each["space"]] += each["count_all"]
    return found


def refuse_spaces(kinds: Mapping[tuple[Provenance, str], int], table: str, rules: SearchRules) -> None:
    """Refuse rows in a space that the query model may not search.

    Raises:
        CompatibilityError: naming the space.
    """
    foreign: Counter[str] = Counter()
    for (provenance, space), count in kinds.items():
        if not rules.may_search(provenance, space):
            foreign[space] += count
    if foreign:
        first = min(foreign)
        raise CompatibilityError(
            f"table {table}: {foreign[first]} rows are in the space of {first[:12]}, which the query "
            "model may not search; publish an upgrade that embeds or adapts them"
        )
