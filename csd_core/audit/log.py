"""The audit log of production: who changed which release is active, when and why; append-only, each line chained.

    audit.jsonl   a line an event, as JSON; each carries the sha256 of the line before it
    audit.head    how many lines there are, and the sha256 of the last one

A line that was edited, removed or put in between breaks the chain. Lines cut off the end leave the head ahead of the
log. Whoever may write every file can forge log, head and releases together; only a copy of the last line's sha256 that
is kept elsewhere shows that. Appending takes the releases' lock, so there is one writer. Where machines share
the log in an object store, the file is a copy of what lies there.
"""

import getpass
import hashlib
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from pydantic import Field, ValidationError

from csd_core.records.stages import Digest, Record
from csd_core.system.atomic import atomic_file, write_text
from csd_core.system.errors import ArtifactError

LOG, HEAD = "audit.jsonl", "audit.head"
NOTHING = "0" * 64
"""What the first line carries in place of the sha256 of its predecessor."""

Event = Literal[
    "begun",  # a publish or rollback started
    "built",  # its release is complete on disk, not yet active
    "published",
    "rolled back",
    "abandoned",  # it was given up or killed; the former release stays active
    "registered",  # with GTO
    "reviewed",  # a person decided on a retraining
    "retired",  # its table and model are removed
    "forgetting",  # an erasure started
    "forgot",
    "took over",  # the live gallery of another project
]
SWITCHES: tuple[Event, ...] = ("published", "rolled back")
ENDS: tuple[Event, ...] = (*SWITCHES, "abandoned")


class AuditEntry(Record):
    """One line; what does not apply to the event is left out."""

    line: int
    """Counted from 1."""
    at: str
    """UTC, ISO 8601."""
    by: str
    event: Event
    release: str | None = None
    """The release it is about; of a switch, what is active from then on."""
    from_release: str | None = None
    """What was active until then."""
    why: str = ""
    recovered: bool = False
    """Written by a later run, for one that died before it could."""
    table: str | None = None
    checksums: dict[str, Digest] = Field(default={})
    """Release -> sha256 of its checksums.json from then on."""
    items: tuple[Digest, ...] = ()
    """sha256 of the ids that were erased."""
    version: str | None = None
    """The version that GTO gave the model."""
    previous: Digest
    """sha256 of the line before."""


class Trail(NamedTuple):
    """The log as it was read."""

    entries: tuple[AuditEntry, ...]
    problems: tuple[str, ...]
    """One line for each sign of tampering."""
    torn: bool
    """The last line is incomplete: its writer was killed. The next writer removes it."""
    last: Digest
    """sha256 of the last whole line."""

    @property
    def open(self) -> AuditEntry | None:
        """The publish or rollback that neither ended nor was given up; None without one."""
        begun: AuditEntry | None = None
        for entry in self.entries:
            if entry.event == "begun":
                begun = entry
            elif entry.event in ENDS:
                begun = None
        return begun

    @property
    def forgetting(self) -> AuditEntry | None:
        """The erasure that did not end; None without one."""
        started: AuditEntry | None = None
        for entry in self.entries:
            if entry.event == "forgetting":
                started = entry
            elif entry.event == "forgot":
                started = None
        return started

    @property
    def active(self) -> str | None:
        """The release that the log says is active."""
        return next((entry.release for entry in reversed(self.entries) if entry.event in SWITCHES), None)

    @property
    def retired(self) -> frozenset[str]:
        """Releases that kept their records only."""
        return frozenset(entry.release for entry in self.entries if entry.event == "retired" and entry.release)

    def checksums_of(self, release: str) -> Digest | None:
        """sha256 that a release's checksums.json must have; None if the log does not know the release."""
        return next((entry.checksums[release] for entry in reversed(self.entries) if release in entry.checksums), None)

    def of(self, release: str, event: Event) -> AuditEntry | None:
        """The last such event of a release."""
        return next((each for each in reversed(self.entries) if (each.release, each.event) == (release, event)), None)


class SharedLines(Protocol):
    """Where machines share the log."""

    def append(self, number: int, line: bytes) -> None:
        """Write one line for all to see, and copy it to the files here.

        Raises:
            CsdError: if another process has taken over.
        """

    def head(self) -> str | None:
        """Return what the head says; None before the first line."""


class AuditLog:
    """The log in a folder.

    Args:
        folder: Of its files.
        shared: Where machines share it; None if the files are the log.

    Attributes:
        path: Of the log.
    """

    def __init__(self, folder: Path, *, shared: SharedLines | None = None) -> None:
        self.path = folder / LOG
        self._head = folder / HEAD
        self._shared = shared

    def read(self) -> Trail:
        """All lines, and what is wrong with them."""
        lines, torn = self.lines()
        entries: list[AuditEntry] = []
        problems: list[str] = []
        previous = NOTHING
        for number, line in enumerate(lines, start=1):
            where = f"{self.path.name}: line {number}"
            try:
                entry = AuditEntry.model_validate_json(line)
            except ValidationError:
                problems.append(f"{where} is no audit entry; restore the log from a backup")
            else:
                entries.append(entry)
                if entry.previous != previous:
                    problems.append(f"{where} does not follow line {number - 1}: one of them was changed or removed")
                elif entry.line != number:
                    problems.append(f"{where} says it is line {entry.line}: lines were removed or added")
            previous = digest_of_line(line)
        if problem := self._compared_with_head(lines):
            problems.append(problem)
        return Trail(tuple(entries), tuple(problems), torn, previous)

    def trusted(self) -> Trail:
        """All lines, if nothing is wrong with them.

        Raises:
            ArtifactError: if the log was tampered with.
        """
        trail = self.read()
        if trail.problems:
            raise ArtifactError(
                f"{self.path}: {trail.problems[0]}; nothing was changed. Restore it from a backup, or move {LOG} and "
                f"{HEAD} away to begin a new log"
            )
        return trail

    def append(
        self,
        event: Event,
        *,
        by: str,
        release: str | None = None,
        from_release: str | None = None,
        why: str = "",
        recovered: bool = False,
        table: str | None = None,
        checksums: Mapping[str, Digest] | None = None,
        items: tuple[Digest, ...] = (),
        version: str | None = None,
    ) -> AuditEntry:
        """Write one line and force it to disk; the caller holds the releases' lock.

        Raises:
            ArtifactError: if the log was tampered with: a further line would hide that its end was cut off.
        """
        trail = self.trusted()
        entry = AuditEntry(
            line=len(trail.entries) + 1,
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            by=by,
            event=event,
            release=release,
            from_release=from_release,
            why=why,
            recovered=recovered,
            table=table,
            checksums=dict(checksums or {}),
            items=items,
            version=version,
            previous=trail.last,
        )
        line = entry.model_dump_json(exclude_defaults=True).encode()
        if self._shared is not None:
            self._shared.append(entry.line, line)
        else:
            self._write(line + b"\n", fresh=not trail.entries)
            write_text(self._head, f"{entry.line} {digest_of_line(line)}\n")
        return entry

    def replace(self, lines: list[bytes]) -> None:
        """Make the file a copy of a log that machines share."""
        with atomic_file(self.path) as partial:
            partial.write_bytes(b"".join(line + b"\n" for line in lines))

    def lines(self) -> tuple[list[bytes], bool]:
        """Return the whole lines, and whether an incomplete one follows."""
        if not self.path.is_file():
            return [], False
        *whole, rest = self.path.read_bytes().split(b"\n")
        return whole, bool(rest)

    def _compared_with_head(self, lines: list[bytes]) -> str | None:
        """What the head shows; it may be one line behind, for a run killed between the two writes."""
        head = self._head_now()
        if head is None:
            return f"{HEAD} is missing, though {LOG} has {len(lines)} lines; restore it" if len(lines) > 1 else None
        count, _, last = head.removesuffix("\n").partition(" ")
        if not count.isdecimal() or int(count) < 1:
            return f"{HEAD} was changed: it names no line"
        known = int(count)
        if known > len(lines):
            return f"{LOG} has {len(lines)} lines, {HEAD} knows {known}: its end was cut off"
        if digest_of_line(lines[known - 1]) != last:
            return f"{LOG}: line {known} is another than {HEAD} says: one of them was changed"
        if known < len(lines) - 1:
            return f"{LOG} has {len(lines)} lines, {HEAD} knows {known}: lines were added, or the head is an old one"
        return None

    def _head_now(self) -> str | None:
        if self._shared is not None:
            return self._shared.head()
        return self._head.read_text(encoding="utf-8", errors="replace") if self._head.is_file() else None

    def _write(self, line: bytes, *, fresh: bool) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.truncate(self._whole_bytes())
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if fresh:
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _whole_bytes(self) -> int:
        """Length of the file up to its last whole line."""
        return self.path.read_bytes().rfind(b"\n") + 1


def whoami() -> str:
    """The name of the user who runs this process, for the log."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"user {os.getuid()}"


def digest_of_line(line: bytes) -> Digest:
    """Return what the next line carries of a line: its sha256."""
    return hashlib.sha256(line).hexdigest()
