"""What machines without a common folder share through a git repository: commits, branches and records of retrainings.

`git config csd.remote NAME` in a project names that repository. Its ref `refs/csd/operations` (of a
project in a folder DIR: `refs/csd/DIR/operations`) holds the records of retrainings and of batches that no task takes
then, and `operations/` a copy. Every change is pushed on top of what is there, so that no machine overwrites another's.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from csd_core.system.atomic import atomic_file
from csd_core.system.errors import CsdError
from csd_core.system.git import answer, ask
from csd_core.system.locks import Lock
from csd_core.workspace import Workspace

KEY = "csd.remote"
RECORDS, COPIED = "refs/csd", "refs/csd-copied"
"""Below the second stands the commit of the records that the folder is a copy of; it never leaves the machine."""
FOLDERS = ("aside", "retrainings", "unusable")
"""Of `operations/`, that are shared; of each, the files whose names do not begin with a dot."""
TRIES = 20
"""How often a change is put on top of what other machines pushed meanwhile."""
COMMITTER = ("-c", "user.name=csd", "-c", "user.email=csd@localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The repository that a project shares with those of other machines.

    Attributes:
        workspace: The project, or a checkout of it.
        remote: Git's name of the repository.
    """

    workspace: Workspace
    remote: str

    @classmethod
    def of(cls, workspace: Workspace) -> "Origin | None":
        """Return the repository that a project shares; None where it is on one machine alone."""
        remote = answer(workspace.root, "config", "--get", KEY)
        return cls(workspace=workspace, remote=remote) if remote else None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other runs of this machine from fetching and copying meanwhile.

        Raises:
            BusyError: if one is still at it after a minute.
        """
        with Lock(self.workspace.operations / "records.lock", what="the records of retrainings").held():
            yield

    def fetch(self) -> None:
        """Fetch all branches, those of retrainings as branches of our own, and the records.

        Raises:
            CsdError: if the repository cannot be reached.
        """
        refs = (
            f"+refs/heads/*:refs/remotes/{self.remote}/*",
            "+refs/heads/retrain/*:refs/heads/retrain/*",
            "+refs/csd/*:refs/csd/*",
        )
        with self.alone():
            why_not = f"remote {self.remote}: cannot be fetched from; check `git remote -v`, the network and its keys"
            ask(self.workspace.root, "fetch", "--quiet", self.remote, *refs, why_not=why_not, error=CsdError)
            self._copy()

    def push(self, branch: str, commit: str, *, expected: str | None) -> None:
        """Let a branch point to a commit, for all machines.

        Args:
            branch: Its name.
            commit: Of git, in full.
            expected: Where it points until now; None if there must be no such branch.

        Raises:
            CsdError: if it points elsewhere, or the repository cannot be reached; it stays as it is.
        """
        why_not = (
            f"branch {branch}: cannot be pushed to remote {self.remote}; somebody moved it, or its keys may only read"
        )
        ask(
            self.workspace.root,
            *self._pushing(f"refs/heads/{branch}", commit, expected),
            why_not=why_not,
            error=CsdError,
        )

    def remove(self, branch: str, commit: str) -> None:
        """Remove a branch, unless somebody has moved or removed it."""
        answer(self.workspace.root, *self._pushing(f"refs/heads/{branch}", "", commit))

    def share(self, *files: Path) -> None:
        """Give other machines what files below `operations/` hold now; one that is gone goes there too.

        Raises:
            CsdError: if the repository cannot be reached.
        """
        operations = self.workspace.operations
        changes = {
            file.relative_to(operations).as_posix(): file.read_bytes() if file.is_file() else None for file in files
        }
        with self.alone():
            records = self._ref(RECORDS)
            for _ in range(TRIES):
                before = self._commit_at(records)
                commit = self._changed(before, changes)
                if answer(self.workspace.root, *self._pushing(records, commit, before)) is not None:
                    self._git("update-ref", records, commit)
                    self._copy()
                    return
                self.fetch()
        raise CsdError(
            f"remote {self.remote}: {records} changed {TRIES} times while it was written; try again, or look who pushes"
        )

    def _git(self, *arguments: str, given: bytes = b"") -> str:
        why_not = f"{self.workspace.root}: git {arguments[0]} failed"
        return ask(self.workspace.root, *arguments, why_not=why_not, given=given, error=CsdError).decode().strip()

    def _pushing(self, ref: str, commit: str, expected: str | None) -> tuple[str, ...]:
        lease = f"--force-with-lease={ref}:{expected or ''}"
        return ("push", "--quiet", "--no-verify", lease, self.remote, f"{commit}:{ref}")

    def _ref(self, namespace: str) -> str:
        """Return the ref of this project's records: a repository may hold several projects."""
        return f"{namespace}/{self._git('rev-parse', '--show-prefix')}operations"

    def _commit_at(self, ref: str) -> str | None:
        return answer(self.workspace.root, "rev-parse", "--verify", "--quiet", ref)

    def _changed(self, before: str | None, changes: Mapping[str, bytes | None]) -> str:
        """Make a commit of the records with some of them changed.

        Args:
            before: The commit it follows; None for the first.
            changes: Path below `operations/` -> its content; None where it is gone.
        """
        top = []
        for folder in FOLDERS:
            listed = (
                answer(self.workspace.root, "ls-tree", "--full-tree", "-z", f"{before}:{folder}") if before else None
            )
            entries = {entry.partition("\t")[2]: entry for entry in (listed or "").split("\0") if entry}
            for path, content in changes.items():
                place, _, name = path.partition("/")
                if place == folder:
                    entries.pop(name, None)
                    if content is not None:
                        blob = self._git("hash-object", "-w", "--stdin", given=content)
                        entries[name] = f"100644 blob {blob}\t{name}"
            top.append(f"040000 tree {self._tree(entries.values())}\t{folder}")
        parents = ("-p", before) if before else ()
        return self._git(*COMMITTER, "commit-tree", self._tree(top), *parents, "-m", ", ".join(changes))

    def _tree(self, entries: Iterable[str]) -> str:
        return self._git("mktree", "-z", given="".join(f"{entry}\0" for entry in entries).encode())

    def _copy(self) -> None:
        """Bring the folder up to date with the records."""
        now, before = self._commit_at(self._ref(RECORDS)), self._commit_at(self._ref(COPIED))
        if now is None or now == before:
            return
        for path, blob in self._differences(before or self._tree(()), now):
            file = self.workspace.operations / path
            if blob is None:
                file.unlink(missing_ok=True)
                continue
            content = ask(self.workspace.root, "cat-file", "blob", blob, why_not=f"{path}: cannot be read")
            with atomic_file(file) as partial:
                partial.write_bytes(content)
        self._git("update-ref", self._ref(COPIED), now)

    def _differences(self, before: str, now: str) -> Iterator[tuple[str, str | None]]:
        """Yield the path of each record that changed, and the object that holds it now; None where it is gone."""
        words = self._git("diff-tree", "-r", "-z", "--no-renames", before, now).split("\0")
        for entry, path in zip(words[::2], words[1::2], strict=False):
            _, mode, _, blob, _ = entry.split()
            folder, _, name = path.partition("/")
            if folder in FOLDERS and not name.startswith(".") and "/" not in name:
                yield path, blob if mode == "100644" else None


def fetch_shared(workspace: Workspace) -> None:
    """Bring branches and records of retrainings up to date, where the project shares them.

    Raises:
        CsdError: if the repository cannot be reached.
    """
    origin = Origin.of(workspace)
    if origin:
        origin.fetch()


def share_branch(workspace: Workspace, branch: str) -> None:
    """Let a branch of the shared repository point where it does here, where the project has one.

    Raises:
        CsdError: if somebody moves it there at this moment, or the repository cannot be reached.
    """
    origin, commit = Origin.of(workspace), answer(workspace.root, "rev-parse", "--verify", f"refs/heads/{branch}")
    if origin and commit:
        there = answer(workspace.root, "ls-remote", origin.remote, f"refs/heads/{branch}")
        origin.push(branch, commit, expected=there.split()[0] if there else None)


def share(workspace: Workspace, *files: Path) -> None:
    """Give other machines what files below `operations/` hold now, where the project shares them.

    Raises:
        CsdError: if the repository cannot be reached.
    """
    origin = Origin.of(workspace)
    if origin:
        origin.share(*files)
