"""The releases of a project: which there are, and which is active.

releases/
    current          one line: the name of the active release; replaced by a rename
    audit.jsonl      who changed it, when and why; audit.head knows its last line
    NNNN-<digest12>/ a release
    .lock            held by who publishes, rolls back, verifies or erases
"""

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from csd_core.audit.checksums import CHECKSUMS, Checksums, hash_of
from csd_core.audit.log import AuditLog, Trail, whoami
from csd_core.records.stages import Digest
from csd_core.releases.contents import golden_queries
from csd_core.releases.contents.release import EMBEDDER, RECORD, Release
from csd_core.retrieval.embedder import digest_of
from csd_core.system.atomic import write_text
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import WAIT, Lock
from csd_core.workspace import Workspace

if TYPE_CHECKING:
    from csd_core.live.gallery import TaggedRows

_REWRITTEN = frozenset(
    {RECORD, f"{golden_queries.FOLDER}/{golden_queries.IMAGES}", f"{golden_queries.FOLDER}/{golden_queries.RECORD}"}
)
"""Files of a release that an erasure writes again."""
CURRENT, LOCK = "current", ".lock"
_NAME = re.compile(r"(\d{4,})-[0-9a-f]{12}")


class Releases:
    """The releases below one folder.

    Attributes:
        root: That folder; it need not exist yet.
        audit: The log of what happened to them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.audit = AuditLog(root)
        self._lock = Lock(root / LOCK, what=f"the releases in {root}")

    @classmethod
    def of(cls, workspace: Workspace) -> "Releases":
        """The releases beside params.yaml."""
        return cls(workspace.root / "releases")

    @contextmanager
    def changing(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold the lock of those who change releases.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            CsdError: if it is still held then, naming the holder.
        """
        with self._lock.held(wait=wait):
            yield

    @contextmanager
    def reading(self, *, wait: float = WAIT) -> Iterator[None]:
        """Keep out those who change releases, where they could be changed at all.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            CsdError: if the lock is still held then, naming the holder.
        """
        with self._lock.held_if_writable(wait=wait):
            yield

    def pointer(self) -> str | None:
        """What `current` says; None before the first release."""
        path = self.root / CURRENT
        return path.read_text(encoding="utf-8", errors="replace").removesuffix("\n") if path.is_file() else None

    def active(self) -> Release | None:
        """The release that production serves; None before the first.

        Raises:
            ArtifactError: if the pointer leads nowhere.
        """
        name = self.pointer()
        if name is None:
            return None
        if not _NAME.fullmatch(name) or not (self.root / name / RECORD).is_file():
            raise ArtifactError(
                f"{self.root / CURRENT}: points to {name[:40]!r}, which is no release; `csd verify` says which was in "
                "force: write its name there"
            )
        return Release.load(self.root / name)

    def switch_to(self, release: Release) -> None:
        """Activate a release, at once and for all who look afterwards."""
        write_text(self.root / CURRENT, release.name + "\n")

    def names(self) -> tuple[str, ...]:
        """Folders of releases, oldest first."""
        if not self.root.is_dir():
            return ()
        found = [path.name for path in self.root.iterdir() if path.is_dir() and _NAME.fullmatch(path.name)]
        return tuple(sorted(found, key=lambda name: (int(name.split("-")[0]), name)))

    def all(self) -> tuple[Release, ...]:
        """All releases, oldest first; those of runs that did not finish are not among them."""
        unfinished = self._unfinished()
        return tuple(Release.load(self.root / name) for name in self.names() if name != unfinished)

    def get(self, number: int) -> Release:
        """A release by its number.

        Raises:
            ArtifactError: if there is none.
        """
        for release in self.all():
            if release.number == number:
                return release
        there = ", ".join(str(int(name.split("-")[0])) for name in self.names()) or "none"
        raise ArtifactError(f"release {number}: there is no such release (there are: {there})")

    def next_number(self) -> int:
        """One more than any number that was ever given away."""
        numbers = [0, *(int(name.split("-")[0]) for name in self.names())]
        begun = [entry.release for entry in self.audit.read().entries if entry.event == "begun" and entry.release]
        return 1 + max(numbers + [int(name.split("-")[0]) for name in begun])

    def is_retired(self, release: Release) -> bool:
        """Whether its table and model were removed, or are being removed."""
        return release.name in self.audit.read().retired or not (release.folder / EMBEDDER).is_file()

    def forget(
        self,
        ids: Iterable[str],
        *,
        tagged: "Iterable[TaggedRows]" = (),
        by: str | None = None,
        why: str = "erased",
    ) -> tuple[str, ...]:
        """Remove items that were erased from the live gallery from the releases' known queries too.

        Args:
            ids: Of the items.
            tagged: What the erasure left at each release's tag: rows and digest are others than were recorded.
            by: Who asked for it; by default the user of this process.
            why: For the audit log.

        Returns:
            Names of the releases that changed.

        Raises:
            CsdError: if another process is changing the releases.
        """
        with self.changing():
            items = tuple(sorted({hash_of(identity) for identity in ids}))
            if not items or not self.names():
                return ()
            who, unfinished = by or whoami(), self.audit.read().forgetting
            if unfinished:  # its files are half rewritten, so that their sums tell nothing
                items = tuple(sorted({*items, *unfinished.items}))
            self.audit.append("forgetting", by=who, why=why, items=items)
            return self.finish_forgetting(items, tagged=tagged, by=who, why=why, recovered=unfinished is not None)

    def finish_forgetting(
        self, items: tuple[Digest, ...], *, tagged: "Iterable[TaggedRows]", by: str, why: str, recovered: bool = False
    ) -> tuple[str, ...]:
        """What `forget` does after its first line in the log; done again for a run that was killed.

        Args:
            items: sha256 of the ids.
            tagged: What the erasure left at each release's tag.
            by: Who asked for it.
            why: For the audit log.
            recovered: The log's first line was written by an earlier run.
        """
        now = {(each.table, each.tag): each for each in tagged}
        trail = self.audit.read()
        changed: dict[str, Digest] = {}
        for release in self.all():
            if self.is_retired(release):
                continue
            untouched = not self._tampered(release, trail)
            mended = _mend_record(release, now.get((release.table, release.tag)))
            forgot = golden_queries.without(release.folder / golden_queries.FOLDER, frozenset(items))
            if recovered or (untouched and (mended or forgot)):
                changed[release.name] = _sum_anew(release.folder, _REWRITTEN)
        self.audit.append("forgot", by=by, why=why, items=items, checksums=changed, recovered=recovered)
        return tuple(changed)

    def _tampered(self, release: Release, trail: Trail) -> bool:
        """Whether a file that an erasure rewrites was changed by someone else; then its sums stay as they are."""
        if digest_of(release.folder / CHECKSUMS) != trail.checksums_of(release.name):
            return True
        now, recorded = Checksums.of(release.folder).files, Checksums.load(release.folder / CHECKSUMS).files
        return any(now.get(name) != recorded.get(name) for name in _REWRITTEN)

    def _unfinished(self) -> str | None:
        """The release of a run that has not activated it."""
        begun = self.audit.read().open
        return begun.release if begun and begun.release != self.pointer() else None


def _mend_record(release: Release, found: "TaggedRows | None") -> bool:
    """Write what the tag holds now into release.json; returns whether it was something else."""
    if found is None or (found.rows, found.digest) == (release.record.rows, release.record.gallery):
        return False
    update = {"rows": found.rows, "gallery": found.digest}
    release.record.model_copy(update=update).save(release.folder / RECORD)
    return True


def _sum_anew(folder: Path, files: Collection[str]) -> Digest:
    """Record the sums of files that were rewritten; all others keep theirs, so that tampering with them still shows."""
    recorded = Checksums.load(folder / CHECKSUMS).files
    now = Checksums.of(folder).files
    Checksums(files={name: now.get(name, each) if name in files else each for name, each in recorded.items()}).save(
        folder / CHECKSUMS
    )
    return digest_of(folder / CHECKSUMS)
