"""The releases of a project: which there are, and which is active.

releases/
    current          one line: the name of the active release; replaced by a rename
    audit.jsonl      who changed it, when and why; audit.head knows its last line
    NNNN-<digest12>/ a release
    .lock            held by who publishes, rolls back, verifies or erases

Or all this lies in an object store (`csd_core.releases.shared`), and the folder is a copy of it.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from csd_core.audit.checksums import CHECKSUMS, Checksums, hash_of, sum_again
from csd_core.audit.log import AuditLog, Trail, whoami
from csd_core.live.index import files as index
from csd_core.live.storage.owner import Project
from csd_core.records.stages import Digest
from csd_core.releases.contents import golden_queries
from csd_core.releases.contents.release import EMBEDDER, INDEX, NAME, RECORD, Release
from csd_core.releases.shared import SharedReleases, shared_at
from csd_core.retrieval.embedder import digest_of
from csd_core.system.atomic import write_text
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import WAIT, Lock
from csd_core.workspace import Workspace

if TYPE_CHECKING:
    from csd_core.live.gallery import TaggedRows

_REWRITTEN = (RECORD, f"{golden_queries.FOLDER}/", f"{INDEX}/")
"""Files and folders of a release that an erasure writes again."""
CURRENT, LOCK = "current", ".lock"


class Releases:
    """The releases below one folder, or those that machines share.

    Args:
        root: Their folder, or that of the copy; it need not exist yet.
        shared: What machines share; None if the folder is all there is.

    Attributes:
        root: Their folder.
        audit: The log of what happened to them.
    """

    def __init__(self, root: Path, *, shared: SharedReleases | None = None) -> None:
        self.root = root
        self.audit = AuditLog(root, shared=shared)
        self._shared = shared
        self._lock = Lock(root / LOCK, what=f"the releases in {root}")

    @classmethod
    def of(cls, workspace: Workspace, address: str) -> "Releases":
        """The releases of a project that lie in a folder, relative to params.yaml, or in an object store."""
        if "://" not in address:
            return cls(workspace.releases(address))
        shared = shared_at(address, workspace.releases(address))
        return cls(shared.root, shared=shared)

    @property
    def place(self) -> str:
        """Folder or address, for messages."""
        return self._shared.objects.uri if self._shared else str(self.root)

    @property
    def project(self) -> Project:
        """The project as the owner of a live gallery."""
        return Project(self.root, shared=self._shared.objects if self._shared else None)

    @contextmanager
    def changing(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold the lock of those who change releases.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            CsdError: if it is still held then, naming the holder.
        """
        with self._shared.changing(wait=wait) if self._shared else self._lock.held(wait=wait):
            yield

    @contextmanager
    def writing_files(self) -> Iterator[None]:
        """Keep other processes of this machine from copying files that are written here and not in the log yet."""
        with self._shared.copying.held() if self._shared else nullcontext():
            yield

    @contextmanager
    def reading(self, *, wait: float = WAIT) -> Iterator["Releases"]:
        """Keep out those who change releases, where they could be changed at all.

        Args:
            wait: Seconds to wait for another process.

        Yields:
            The releases to look at: of shared ones a new copy, for what was copied before shows no damage.

        Raises:
            CsdError: if the lock is still held then, naming the holder.
        """
        if self._shared is None:
            with self._lock.held_if_writable(wait=wait):
                yield self
            return
        with self._shared.copied_again(wait=wait) as copy:
            yield Releases(copy.root, shared=copy)

    def pointer(self) -> str | None:
        """What `current` says; None before the first release."""
        if self._shared:
            return self._shared.now().release
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
        self.bring(name)
        if not NAME.fullmatch(name) or not (self.root / name / RECORD).is_file():
            raise ArtifactError(
                f"{self.place}/{CURRENT}: points to {name[:40]!r}, which is no release; `csd verify` says which was in "
                "force: write its name there"
            )
        return Release.load(self.root / name)

    def bring(self, name: str) -> None:
        """Have all files of a release here, where machines share them."""
        if self._shared:
            self._shared.fetch(name)

    def keep(self, release: Release) -> None:
        """Have all files of a release where machines share them, before the audit log names their sums."""
        if self._shared:
            self._shared.keep(release.name)

    def sweep(self) -> None:
        """Remove what machines share of releases that were retired, given up or rewritten; the log says which."""
        if self._shared:
            self._shared.sweep()

    def refuse_overtaken(self) -> None:
        """Refuse to change anything if another machine has taken over.

        Raises:
            LeaseLostError: then it removes what this one left.
        """
        if self._shared:
            self._shared.lease.check()

    def strangers(self) -> tuple[str, ...]:
        """What lies among the releases and does not belong there, but for files of this machine."""
        return tuple(self._shared.strangers()) if self._shared else ()

    def switch_to(self, release: Release) -> None:
        """Activate a release, at once and for all who look afterwards."""
        if self._shared:
            self._shared.switch_to(release.name)
        else:
            write_text(self.root / CURRENT, release.name + "\n")

    def names(self) -> tuple[str, ...]:
        """Folders of releases, oldest first."""
        if not self.root.is_dir():
            return ()
        found = [path.name for path in self.root.iterdir() if path.is_dir() and NAME.fullmatch(path.name)]
        return tuple(sorted(found, key=lambda name: (int(name.split("-")[0]), name)))

    def all(self) -> tuple[Release, ...]:
        """All releases, oldest first; those of runs that did not finish are not among them."""
        if self._shared:
            self._shared.pull()
        unfinished = self._unfinished()
        return tuple(Release.load(self.root / name) for name in self.names() if name != unfinished)

    def get(self, number: int) -> Release:
        """A release by its number.

        Raises:
            ArtifactError: if there is none.
        """
        for release in self.all():
            if release.number == number:
                self.bring(release.name)
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
        if self._shared:
            return release.name in self.audit.read().retired
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
        with self.writing_files():
            for release in self.all():
                if self.is_retired(release):
                    continue
                self.bring(release.name)
                untouched = not self._tampered(release, trail)
                mended = _mend_record(release, now.get((release.table, release.tag)))
                forgot = golden_queries.without(release.folder / golden_queries.FOLDER, frozenset(items))
                forgot |= index.erase(release.folder / INDEX, frozenset(items))
                if recovered or (untouched and (mended or forgot)):
                    changed[release.name] = sum_again(release.folder, _REWRITTEN)
                    self.keep(release)
            self.audit.append("forgot", by=by, why=why, items=items, checksums=changed, recovered=recovered)
        self.sweep()
        return tuple(changed)

    def _tampered(self, release: Release, trail: Trail) -> bool:
        """Whether a file that an erasure rewrites was changed by someone else; then its sums stay as they are."""
        if digest_of(release.folder / CHECKSUMS) != trail.checksums_of(release.name):
            return True
        now, recorded = Checksums.of(release.folder).files, Checksums.load(release.folder / CHECKSUMS).files
        return any(now.get(name) != recorded.get(name) for name in now.keys() | recorded if name.startswith(_REWRITTEN))

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
