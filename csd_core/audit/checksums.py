"""checksums.json: size and sha256 of every file in a release's folder."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from csd_core.records.stages import Digest, Record
from csd_core.retrieval.embedder import digest_of

CHECKSUMS = "checksums.json"


class FileSum(Record):
    """One file."""

    bytes: int
    sha256: Digest


class Checksums(Record):
    """checksums.json; it does not list itself."""

    files: dict[str, FileSum]
    """Path relative to the folder, with slashes -> its sum; sorted."""

    @classmethod
    def of(cls, folder: Path) -> "Checksums":
        """Of the files as they are."""
        return cls(
            files={
                name: FileSum(bytes=(folder / name).stat().st_size, sha256=digest_of(folder / name))
                for name in sorted(_names(folder))
                if name != CHECKSUMS
            }
        )


def differences(folder: Path, recorded: Checksums, *, may_lack: frozenset[str] = frozenset()) -> Iterator[str]:
    """One line for each file that is not as it was recorded.

    Args:
        folder: Of the release.
        recorded: Its checksums.
        may_lack: Files that may be gone.
    """
    there = set(_names(folder)) - {CHECKSUMS}
    for name, expected in recorded.files.items():
        path = folder / name
        if name not in there:
            if name not in may_lack:
                yield f"{name} is missing"
        elif path.is_symlink() or not path.is_file():
            yield f"{name} is no regular file"
        elif path.stat().st_size != expected.bytes:
            yield f"{name} has {path.stat().st_size} bytes, not {expected.bytes}"
        elif digest_of(path) != expected.sha256:
            yield f"{name} was changed: its sha256 is not the recorded one"
    for name in sorted(there - recorded.files.keys()):
        yield f"{name} was added"


def _names(folder: Path) -> Iterator[str]:
    """Everything below the folder that is no plain folder; links are not followed."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        for name in (*files, *links):
            yield (Path(parent) / name).relative_to(folder).as_posix()


def hash_of(identity: str) -> Digest:
    """What stands for the id of an erased item: who knows the item can tell, nobody can read it."""
    return hashlib.sha256(identity.encode()).hexdigest()


def sum_again(folder: Path, rewritten: tuple[str, ...]) -> Digest:
    """Record the sums of files that were rewritten; all others keep theirs, so that tampering with them still shows.

    Args:
        folder: Of a release.
        rewritten: How the paths of those files start.
    """
    recorded = Checksums.load(folder / CHECKSUMS).files
    now = Checksums.of(folder).files
    sums = {name: each for name, each in recorded.items() if not name.startswith(rewritten)}
    sums |= {name: each for name, each in now.items() if name.startswith(rewritten)}
    Checksums(files=dict(sorted(sums.items()))).save(folder / CHECKSUMS)
    return digest_of(folder / CHECKSUMS)
