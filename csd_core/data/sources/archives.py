"""Sets that are published as one archive: read from it, or from the folder that it unpacks to.

An archive is compared with its published checksum before anything in it is looked at, and nothing of it is ever written
under a name of its own: it is decompressed into one nameless temporary file, of which plain files are read by name.
"""

import gzip
import hashlib
import mmap
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from csd_core.data.sources.arrays import refuse_other
from csd_core.system.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """What was published, and where.

    Attributes:
        kind: Of its source's parameters.
        name: Of the .tar.gz.
        folder: What it unpacks to.
        sha256: Of the .tar.gz.
        page: Where people find it.
    """

    kind: str
    name: str
    folder: str
    sha256: str
    page: str

    @property
    def remedy(self) -> str:
        """How to get it."""
        return f"fetch {self.name} from {self.page} and set the source's path to it, or to the folder it unpacks to"


class Files(Protocol):
    """The files of a set, wherever they lie."""

    @property
    def where(self) -> Path:
        """The archive or the folder."""

    @property
    def verified(self) -> bool:
        """Whether they are known to be the published ones, to the byte."""

    def size(self, name: str) -> int | None:
        """Bytes of a file, by its path in the set's folder; None if there is no such plain file."""

    def read(self, name: str) -> bytes:
        """Return its content.

        Raises:
            DataError: if it is not there or cannot be read.
        """


def open_files(path: Path, published: Archive) -> Files:
    """Return the files of a set.

    Args:
        path: The archive, the folder it unpacks to, or a folder that holds either.
        published: What to expect.

    Raises:
        DataError: if there is nothing, or the archive is not the published one.
    """
    if path.is_file():
        return ArchiveFiles.of(path, published)
    if not path.is_dir():
        raise DataError(f"{published.kind}: {path}: there is no such file or folder; {published.remedy}")
    if (path / published.folder).is_dir():
        return FolderFiles(path / published.folder)
    if (path / published.name).is_file():
        return ArchiveFiles.of(path / published.name, published)
    return FolderFiles(path)


def require(files: Files, names: Iterable[str], published: Archive) -> None:
    """Refuse a set that lacks files.

    Raises:
        DataError: with the first of them by name.
    """
    missing = [name for name in names if files.size(name) is None]
    if missing:
        shown = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")  # noqa: PLR2004
        raise DataError(f"{published.kind}: {files.where} lacks {shown}; {published.remedy}")


@dataclass(frozen=True, slots=True)
class FolderFiles:
    """An unpacked archive; who unpacked it may have changed it since.

    Attributes:
        where: Its folder.
    """

    where: Path

    @property
    def verified(self) -> bool:
        """Nobody has compared these files with anything yet."""
        return False

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        path = self.where / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        """Return its content."""
        try:
            return (self.where / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.where / name}: cannot be read: {error.strerror}") from None


class Span(NamedTuple):
    """Where a file's bytes lie in the decompressed archive."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, eq=False)
class ArchiveFiles:
    """The published archive.

    Attributes:
        where: Its path.
        spans: Of its plain files, by their path in the set's folder.
        content: The archive, decompressed; threads may read it at the same time.
    """

    where: Path
    spans: dict[str, Span]
    content: mmap.mmap

    @property
    def verified(self) -> bool:
        """Opening it compared its checksum."""
        return True

    @classmethod
    def of(cls, path: Path, published: Archive) -> "ArchiveFiles":
        """Open it.

        Raises:
            DataError: if it is not the published one, or cannot be read.
        """
        try:
            with path.open("rb") as packed, tempfile.TemporaryFile() as unpacked:
                actual = hashlib.file_digest(packed, "sha256").hexdigest()
                refuse_other(actual, what=str(path), expected=published.sha256)
                packed.seek(0)
                with gzip.open(packed) as stream:
                    shutil.copyfileobj(stream, unpacked, 1 << 20)
                unpacked.seek(0)
                with tarfile.open(fileobj=unpacked, mode="r:") as tar:
                    spans = dict(_spans(tar, published))
                return cls(path, spans, mmap.mmap(unpacked.fileno(), 0, access=mmap.ACCESS_READ))
        except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise DataError(f"{path}: not a whole .tar.gz ({error}); fetch it again") from None
        except OSError as error:
            raise DataError(
                f"{path}: cannot be read or decompressed into {tempfile.gettempdir()} ({error.strerror}); point TMPDIR "
                "to a disk with room, or unpack it yourself and set the source's path to the folder"
            ) from None

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if there is none."""
        span = self.spans.get(name)
        return None if span is None else span.length

    def read(self, name: str) -> bytes:
        """Return its content."""
        span = self.spans.get(name)
        if span is None:
            raise DataError(f"{self.where}: has no file {name}; fetch it again")
        return self.content[span.start : span.start + span.length]


def _spans(tar: tarfile.TarFile, published: Archive) -> Iterator[tuple[str, Span]]:
    """Yield the plain files below the set's folder, of a name that comes twice the last one, as tar has it.

    Links, devices and all other names are passed over: whatever they point to is not the set's.
    """
    for member in tar:
        top, *parts = PurePosixPath(member.name).parts or ("",)
        if top == published.folder and parts and ".." not in parts and member.isreg() and not member.issparse():
            yield "/".join(parts), Span(member.offset_data, member.size)
