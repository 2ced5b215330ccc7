"""Whether releases, live gallery, pointer and audit log are what they were when the releases were made.

What it finds: any change to a release's files, to the rows at its tag, to the pointer, and to the audit log, also where
a file and its checksum were changed together, for the audit log holds the sha256 of each release's checksums.json.
What it cannot find: that one person changed a release, its checksums, the whole log and the log's head to match. Keep
the sha256 of the log's last line, which `csd verify` prints, elsewhere to find that too.
"""

import re
from collections.abc import Iterator
from typing import Literal, NamedTuple

from csd_core.audit.checksums import CHECKSUMS, Checksums, differences
from csd_core.audit.log import HEAD, LOG, SWITCHES, Trail
from csd_core.live.index.files import SearchIndex
from csd_core.live.reader import LiveReader
from csd_core.live.search import Snapshot
from csd_core.live.storage.owner import FILE
from csd_core.releases.contents import golden_queries
from csd_core.releases.contents.release import EMBEDDER, INDEX, LASTING, LINEAGE, Release, name_of, table_of, tag_of
from csd_core.releases.store import CURRENT, LOCK, Releases
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.retrieval.lineage import Lineage
from csd_core.system.errors import ArtifactError, CsdError

_OURS = re.compile(
    rf"{CURRENT}|{FILE}|{re.escape(LOG)}|{re.escape(HEAD)}|{re.escape(LOCK)}(\.holder)?|\..+\.(partial|former)"
)


class Verification(NamedTuple):
    """What a verification found."""

    findings: tuple[str, ...]
    """One line each; empty if all is well."""
    notes: tuple[str, ...]
    """What is unusual, but explained."""
    checked: tuple[str, ...]
    """Names of the releases looked at."""
    last_line: str
    """sha256 of the audit log's last line."""
    lines: int
    """Of the audit log."""


def verify(releases: Releases, live: LiveReader, *, which: int | Literal["active", "all"] = "active") -> Verification:
    """Look at everything; the caller is `Releases.reading`.

    Args:
        releases: To verify.
        live: Where their tables are.
        which: Releases to look at, or the number of one.

    Raises:
        ArtifactError: if there is no release of that number.
    """
    trail, active = releases.audit.read(), releases.pointer()
    unfinished = trail.open.release if trail.open and trail.open.release != active else None
    findings = [*trail.problems, *_pointer(releases, trail), *_folders(releases, trail, unfinished)]
    notes = [*_notes(releases, trail, unfinished), *_half_made(live)]
    names = [name for name in releases.names() if name != unfinished]
    wanted = [
        name for name in names if which in ("all", int(name.split("-")[0])) or (which, name) == ("active", active)
    ]
    if isinstance(which, int) and not wanted:
        raise ArtifactError(f"release {which}: there is no such release; `csd releases` lists them")
    tables = {table_of(int(name.split("-")[0]), name.split("-")[1]) for name in names}
    if unfinished:
        tables.add(f"gallery-{unfinished}")
    findings += [*_strangers(live, tables), *_of_another(live)]
    for name in wanted:
        findings += [f"release {name}: {line}" for line in _release(releases, live, trail, name)]
    return Verification(tuple(findings), tuple(notes), tuple(wanted), trail.last, len(trail.entries))


def problems_of(release: Release, live: LiveReader, *, checksums: str | None, rows: bool = True) -> Iterator[str]:
    """One line for everything in a release that is not as it was recorded.

    Args:
        release: To look at; not a retired one.
        live: Where its table is.
        checksums: sha256 that its checksums.json must have; None if the audit log does not know it.
        rows: With a pass over all rows at its tag.
    """
    try:
        damaged = list(_files(release, checksums))
        yield from damaged
        if damaged:
            return  # what follows would only repeat it
        yield from _identity(release)
        embedder = Embedder.load(release.embedder, device="cpu")
        yield from _model(release, embedder)
        lacking = list(_older(release))
        yield from lacking
        if lacking:
            return  # its rows cannot be searched
        if rows:
            yield from _rows(release, live)
        yield from _answers(release, live, embedder)
    except (CsdError, OSError) as error:
        yield str(error)


def _release(releases: Releases, live: LiveReader, trail: Trail, name: str) -> Iterator[str]:
    """Findings on one release, retired or not."""
    folder = releases.root / name
    try:
        releases.bring(name)
        release = Release.load(folder)
    except (CsdError, OSError) as error:
        yield str(error)
        return
    if release.name != name:
        yield f"its record says it is {release.name}"
        return
    if name in trail.retired:
        yield from _files(release, trail.checksums_of(name), retired=True)
        return
    yield from problems_of(release, live, checksums=trail.checksums_of(name))
    if name == releases.pointer():
        try:
            live.check(release.table, release.rules)
        except CsdError as error:
            yield f"active rows: {error}"


def _files(release: Release, checksums: str | None, *, retired: bool = False) -> Iterator[str]:
    """Files against checksums.json, and that against the audit log."""
    path = release.folder / CHECKSUMS
    if not path.is_file():
        yield f"{CHECKSUMS} is missing"
        return
    if checksums is None:
        yield "the audit log does not know it"
    elif digest_of(path) != checksums:
        yield f"{CHECKSUMS} was changed: its sha256 is not the one in the audit log"
    recorded = Checksums.load(path)
    may_lack = frozenset(recorded.files.keys() - LASTING) if retired else frozenset()
    yield from differences(release.folder, recorded, may_lack=may_lack)


def _identity(release: Release) -> Iterator[str]:
    record = release.record
    if record.table != table_of(record.number, record.model) or record.tag != tag_of(record.number):
        yield f"its record names table {record.table} and tag {record.tag}, which belong to another"
    if release.folder.name != name_of(record.number, record.model):
        yield f"its record is that of {name_of(record.number, record.model)}"


def _model(release: Release, embedder: Embedder) -> Iterator[str]:
    """The models against the record, and the lineage against the digests in its file names."""
    record = release.record
    if embedder.digest != record.model:
        yield f"{EMBEDDER} is model {embedder.digest[:12]}, the record says {record.model[:12]}"
    if embedder.metadata.dimension != record.dimension:
        yield f"{EMBEDDER} has {embedder.metadata.dimension} dimensions, the record says {record.dimension}"
    for model in record.query_models:
        if not (release.folder / model.file).is_file() or digest_of(release.folder / model.file) != model.digest:
            yield f"{model.file} is not the query model {model.digest[:12]} ({model.variant}) of the record"
    lineage = Lineage.load(release.folder / LINEAGE)
    for digest, path in {**lineage.models, **lineage.adapters}.items():
        if digest_of(path) != digest:
            yield f"{LINEAGE}/{path.name} has another digest than its name"


def _older(release: Release) -> Iterator[str]:
    """The older models that still search rows, against how the rows are searched."""
    dimensions = release.rules.dimensions
    for model in release.older_models:
        known_as = release.queries_of(model).get("fp32")
        if known_as is None:
            yield f"rows are searched by model {model[:12]}, which the record does not name as a query model"
            continue
        older = Embedder.load(release.folder / known_as.file, device="cpu", threads=1)
        if older.metadata.dimension != dimensions[model]:
            yield (
                f"{known_as.file} has {older.metadata.dimension} dimensions, the rows that it searches "
                f"{dimensions[model]}"
            )


def _rows(release: Release, live: LiveReader) -> Iterator[str]:
    """The rows at the release's tag."""
    record = release.record
    if release.table not in live.tables():
        yield f"table {release.table} is gone from the live gallery"
        return
    if release.tag not in live.tags(release.table):
        yield f"table {release.table} has lost its tag {release.tag}"
        return
    count = live.count(release.table, version=release.tag)
    if count != record.rows:
        yield f"table {release.table} has {count} rows at its tag, the record says {record.rows}"
    elif live.digest(release.table, version=release.tag, whole=True) != record.gallery:
        yield f"table {release.table}: a row at its tag was changed"
    live.check(release.table, release.rules, version=release.tag)


def _answers(release: Release, live: LiveReader, embedder: Embedder) -> Iterator[str]:
    """The known queries, embedded by every query model and searched through the store."""
    images, record = golden_queries.load(release.folder / golden_queries.FOLDER)
    if not record.queries:
        return
    index = SearchIndex.of(release.folder / INDEX)
    snapshot = Snapshot.load(live, release.table, release.rules, version=release.tag, index=index)
    queries = {release.record.model: embedder(images)}
    for model in release.older_models:
        queries[model] = Embedder.load(release.folder / release.queries_of(model)["fp32"].file, device="cpu")(images)
    yield from golden_queries.differences(record, lambda k: snapshot.search(queries, k=k, exhaustive=True))


def _pointer(releases: Releases, trail: Trail) -> Iterator[str]:
    """`current` against the folders and the audit log."""
    name = releases.pointer()
    if name is None:
        if trail.active:
            yield f"{CURRENT} is missing; the audit log says that {trail.active} is active: write its name there"
        return
    if name not in releases.names():
        yield f"{CURRENT} points to {name[:40]!r}, which is no release; the audit log says {trail.active}"
    elif name != trail.active and not (trail.open and trail.open.release == name):
        yield f"{CURRENT} points to {name}, the audit log says that {trail.active} is active"


def _folders(releases: Releases, trail: Trail, unfinished: str | None) -> Iterator[str]:
    """Folders against the audit log, both ways, and what else lies there."""
    there = set(releases.names())
    known_to_log = {entry.release for entry in trail.entries if entry.event in SWITCHES}
    if trail.open:
        known_to_log.add(trail.open.release)
    for name in sorted(there - known_to_log):
        yield f"release {name}: the audit log does not know it"
    for name in sorted(str(each) for each in known_to_log - there - {unfinished}):
        yield f"release {name}: its folder is gone, though the audit log has it"
    for name in releases.strangers():
        yield f"{name} does not belong among the releases"
    for path in sorted(releases.root.iterdir()) if releases.root.is_dir() else ():
        if path.name not in there and not _OURS.fullmatch(path.name):
            yield f"{path.name} does not belong among the releases"


def _strangers(live: LiveReader, known_tables: set[str]) -> Iterator[str]:
    """Tables that no release has."""
    try:
        for table in sorted(set(live.tables()) - known_tables):
            yield f"live gallery: table {table} belongs to no release"
    except CsdError as error:
        yield str(error)


def _of_another(live: LiveReader) -> Iterator[str]:
    """That the gallery is another project's."""
    try:
        if place := live.is_of_another():
            yield f"live gallery {live.uri}: it belongs to the project at {place}; see `csd items take-over`"
    except CsdError:
        return  # the line above says so


def _half_made(live: LiveReader) -> Iterator[str]:
    """Tables whose making was interrupted."""
    try:
        for table in live.half_made():
            yield f"live gallery: table {table} is half made, for its writer was ended; the next write makes it"
    except CsdError:
        return  # the findings say so


def _notes(releases: Releases, trail: Trail, unfinished: str | None) -> Iterator[str]:
    if trail.torn:
        yield f"the last line of {LOG} is incomplete: its writer was killed; the next one removes it"
    if unfinished:
        yield f"release {unfinished} was begun and not finished: the next publish or rollback removes what it left"
    elif trail.open:
        yield f"release {releases.pointer()} came into force and its run was killed: the next one completes the log"
    if trail.forgetting:
        yield "an erasure was interrupted: the next publish or rollback completes it, or erase the items again"
