"""Releases that machines share, in an object store; the rest of csd works on a copy of them in a folder.

ADDRESS/
    current                     what is so now: the active release, the audit log's length and last line
    audit/NNNNNNNN-<sha>.json   the lines of the audit log
    NNNN-<digest12>/<sha>/FILE  the files of a release, each below the start of its sha256
    leases/                     who changes releases, rows or tables now
    project                     the project's id

Only `current` and the leases are ever replaced, and only by conditional writes. All else is written once, under a name
that its content gives it, and counts from the moment that `current` leads to it: `current` names the last line of the
log, each line the one before it, and the log the sha256 of each release's checksums.json, which names its files. So
readers need no listing, and what a killed or overtaken writer uploaded leads nowhere; the next writer removes it.
"""

import atexit
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.audit.log import NOTHING, AuditLog, Trail, digest_of_line
from csd_core.live.storage.owner import FILE
from csd_core.objects.lease import LEASES, lease_at
from csd_core.objects.store import ConflictError, Found, Objects, in_parallel, objects_at
from csd_core.records.stages import Digest, Record
from csd_core.releases.contents.release import LASTING
from csd_core.releases.local_copy import AUDIT, RESTORE, LocalCopy, abandoned, file_key, known_releases, line_key
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import Lock

CURRENT = "current"


class Head(Record):
    """The object `current`."""

    release: str | None
    """The active one."""
    lines: int
    """Of the audit log."""
    last: Digest
    """sha256 of its last line."""
    token: int
    """Of the lease under which this was written."""


class SharedReleases:
    """Releases below an address, and the copy of them in a folder.

    Attributes:
        objects: What lies at the address.
        root: Folder of the copy.
        lease: Held by who changes them.
        copying: Held by the process of this machine that changes the copy.
    """

    def __init__(self, objects: Objects, root: Path, *, faithful: bool = False) -> None:
        """Read nothing yet.

        Args:
            objects: What lies at the address.
            root: Folder of the copy.
            faithful: Copy what is damaged as it is, for a verification to find; otherwise it is an error.
        """
        self.objects, self.root = objects, root
        self.lease = lease_at(objects, "releases", what=f"the releases at {objects.uri}")
        self.copying = Lock(root / ".lock", what=f"the copy of {objects.uri} in {root}")
        self._copy = LocalCopy(objects, root, faithful=faithful)
        self._log = AuditLog(root, shared=self)
        self._known: tuple[Found, Head] | None = None
        self._copied: Head | None = None
        self._guard = threading.RLock()

    # --- reading ------------------------------------------------------------------------------------------------------

    def now(self) -> Head:
        """Return what is so now; one small request, and nothing is copied.

        Raises:
            ArtifactError: if `current` is gone or damaged.
            StorageError: if the store does not answer.
        """
        with self._guard:
            known = self._known
            found = self.objects.newer(CURRENT, known[0]) if known else self.objects.get(CURRENT)
            if found is None:
                self._known = None
                if self.objects.listed(AUDIT):
                    raise ArtifactError(
                        f"{self.objects.uri}/{CURRENT}: is gone, though there is an audit log; {RESTORE}"
                    )
                return Head(release=None, lines=0, last=NOTHING, token=0)
            if known is None or found is not known[0]:
                try:
                    self._known = found, Head.model_validate_json(found.body)
                except ValidationError:
                    raise ArtifactError(f"{self.objects.uri}/{CURRENT}: was changed by hand; {RESTORE}") from None
            return self._known[1]  # type: ignore[index]  # set above

    def head(self) -> str | None:
        """Return length and last line of the log, as they were last read."""
        head = self._copied
        return f"{head.lines} {head.last}\n" if head and head.lines else None

    def pull(self) -> Trail:
        """Copy the audit log, and the records of all releases, if they changed; returns the log.

        Raises:
            ArtifactError: if an object is gone or damaged.
            StorageError: if the store does not answer.
        """
        with self._guard:
            head = self.now()
            if head == self._copied and (self._log.path.is_file() or not head.lines):
                return self._log.read()
            with self.copying.held():
                self._log.replace(self._copy.lines(self._log.lines()[0], count=head.lines, last=head.last))
                self._copied = head
                trail = self._log.read()
                for name in abandoned(trail):
                    shutil.rmtree(self.root / name, ignore_errors=True)
                in_parallel(partial(self._copy.record, name, trail) for name in known_releases(trail))
            return trail

    def fetch(self, name: str) -> None:
        """Copy all files of a release that are not here, or not as they were recorded.

        Raises:
            ArtifactError: if an object is gone or damaged.
            StorageError: if the store does not answer.
        """
        trail = self.pull()
        if name not in known_releases(trail):
            return  # the caller finds that there is no such folder
        with self.copying.held():
            self._copy.files(name, trail)

    @contextmanager
    def copied_again(self, *, wait: float) -> Iterator["SharedReleases"]:
        """Yield a new copy, as faithful as a verification needs it, while nobody changes them; it is removed then.

        Raises:
            BusyError: if another process changes them still after so many seconds.
        """
        with self.lease.held_if_writable(wait=wait), TemporaryDirectory(prefix="csd-verify-") as folder:
            copy = SharedReleases(self.objects, Path(folder), faithful=True)
            copy.pull()
            yield copy

    def strangers(self) -> Iterator[str]:
        """Yield the names of objects that are no releases, log or lease."""
        ours = {CURRENT, FILE, AUDIT[:-1], LEASES[:-1], *_begun(self.pull())}
        yield from sorted({key.split("/")[0] for key in self.objects.listed()} - ours)

    # --- changing -----------------------------------------------------------------------------------------------------

    @contextmanager
    def changing(self, *, wait: float) -> Iterator[None]:
        """Hold the lease of those who change releases, with an up-to-date copy.

        Raises:
            BusyError: if another process holds it still after so many seconds, or took it over.
        """
        with self.lease.held(wait=wait, above=self.now().token):
            if (self._known is None) or self._known[1].token != self.lease.token:
                self._sign()
                self.pull()
                self.sweep()
            yield

    def append(self, number: int, line: bytes) -> None:
        """Write a line of the audit log, as `SharedLines` says."""
        last = digest_of_line(line)
        self.objects.put(line_key(number, last), line)
        self._commit(lines=number, last=last)
        with self._guard, self.copying.held():
            self._log.replace([*self._log.lines()[0][: number - 1], line])
            self._copied = self.now()

    def switch_to(self, name: str) -> None:
        """Activate a release, at once and for all machines."""
        self._commit(release=name)

    def keep(self, name: str) -> None:
        """Upload the files of a release in the copy; nothing leads to them until the log has their checksums."""
        self._copy.upload(name)

    def sweep(self) -> None:
        """Remove the files of releases to which nothing leads: retired, erased, given up."""
        trail, listed = self.pull(), self.objects.listed()
        needed: dict[str, set[str]] = {name: set() for name in abandoned(trail)}
        for name in known_releases(trail):
            needed[name] = {file_key(name, str(trail.checksums_of(name)), CHECKSUMS)}
            for file, found in Checksums.load(self.root / name / CHECKSUMS).files.items():
                if file in LASTING or name not in trail.retired:
                    needed[name].add(file_key(name, found.sha256, file))
        unfinished = trail.open.release if trail.open else None
        rubbish = [
            key
            for key in listed
            if (name := key.split("/")[0]) in needed and name != unfinished and key not in needed[name]
        ]
        self.lease.check()  # a removal is not conditional: who may have been overtaken removes nothing
        self.objects.delete(rubbish)

    def _sign(self) -> None:
        """Write `current` under this lease, so that every earlier holder's next write of it fails."""
        while True:
            head = self.now()
            if head.token >= self.lease.token:
                raise self.lease.lost()
            try:
                return self._write(head.model_copy(update={"token": self.lease.token}))
            except ConflictError:
                continue

    def _commit(self, **update: object) -> None:
        """Change `current`; whoever was overtaken fails here.

        Raises:
            LeaseLostError: if another process took over.
        """
        if self._known is None or self._known[1].token != self.lease.token:
            raise self.lease.lost()
        try:
            self._write(self._known[1].model_copy(update=update))
        except ConflictError:
            self._known = None
            raise self.lease.lost() from None

    def _write(self, head: Head) -> None:
        with self._guard:
            known = self._known[0] if self._known else None
            self._known = self.objects.swap(CURRENT, head.model_dump_json().encode(), known=known), head


@cache
def shared_at(uri: str, root: Path) -> SharedReleases:
    """Return the releases below an address, one for the whole process, as a thread may change them again and again.

    Args:
        uri: The address.
        root: Folder of the copy; where nothing can be written, it lies in a temporary folder of this process.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not os.access(root, os.W_OK):
            raise PermissionError
    except OSError:
        temporary = TemporaryDirectory(prefix="csd-releases-")
        atexit.register(temporary.cleanup)
        root = Path(temporary.name)
    return SharedReleases(objects_at(uri), root)


def _begun(trail: Trail) -> Iterator[str]:
    return (str(each.release) for each in trail.entries if each.event == "begun")
