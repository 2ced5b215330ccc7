"""Files that strangers put somewhere: a local folder, or an object store through fsspec.

Whoever may write there must not reach anything else: a local link is listed as one and never followed, not even where
it takes the place of a file between listing and copying.
"""

import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

from csd_core.system.errors import DataError, ParamsError, message_of
from csd_core.workspace import Workspace

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
"""Where the file systems of fsspec keep the time of writing."""


class StoredFile(NamedTuple):
    """What a listing shows of one file."""

    path: str
    """Relative to the storage, with forward slashes; as it was found, so it may be anything."""
    size: int
    """Bytes."""
    kind: Literal["file", "link", "unreadable", "other"]
    """unreadable: a folder that cannot be listed."""
    written: datetime | None
    """Aware; None where the storage does not say."""


class Storage(Protocol):
    """Where files lie."""

    def entries(self, folder: str = "") -> list[StoredFile]:
        """Return all files below it or below one of its folders, in one listing; none if it is missing.

        Raises:
            DataError: if it cannot be listed.
        """

    def copy(self, targets: Mapping[str, Path]) -> None:
        """Copy files.

        Args:
            targets: Path of each, as listed -> where to.

        Raises:
            DataError: if one cannot be read, or is no plain file any more.
        """

    def mark(self, path: str) -> None:
        """Write an empty file.

        Raises:
            DataError: if that fails.
        """


def open_storage(uri: str, workspace: Workspace) -> Storage:
    """Return the storage at a path, relative to params.yaml or absolute, or at any address that fsspec knows.

    Raises:
        ParamsError: if nothing knows such addresses.
        DataError: if the storage cannot be opened.
    """
    if "://" not in uri:
        return LocalStorage(workspace.path(uri).absolute())
    try:
        from fsspec.core import url_to_fs  # noqa: PLC0415 - comes with DVC, which a local inbox can do without
        from fsspec.implementations.local import LocalFileSystem  # noqa: PLC0415

        system, root = url_to_fs(uri)
    except ImportError as error:
        raise DataError(f"{uri}: {error}; install what opens such addresses") from None
    except ValueError as error:
        raise ParamsError(f"params.yaml: inbox.uri: {uri}: {error}; name a folder or an object store") from None
    except Exception as error:  # noqa: BLE001 - every file system has errors of its own
        raise DataError(f"{uri}: cannot be opened: {_reason(error)}; {_REMEDY}") from None
    return LocalStorage(Path(root)) if isinstance(system, LocalFileSystem) else ObjectStorage(system, root, uri=uri)


class LocalStorage:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, folder: str = "") -> list[StoredFile]:
        """Return all files below it, as `Storage` says."""
        found: list[StoredFile] = []
        waiting = [folder]
        while waiting:
            below = waiting.pop()
            prefix = f"{below}/" if below else ""
            try:
                with os.scandir(self._root / below) as listed:
                    for item in listed:
                        if item.is_dir(follow_symlinks=False):
                            waiting.append(prefix + item.name)
                        else:
                            found += _entry(item, prefix + item.name)
            except FileNotFoundError:
                continue  # the folder is not there yet, or went meanwhile
            except OSError as error:
                if below == folder:
                    raise DataError(
                        f"{self._root / below}: cannot be listed: {error.strerror}; make it a folder that you may read"
                    ) from None
                found.append(StoredFile(below, 0, "unreadable", None))
        return found

    def copy(self, targets: Mapping[str, Path]) -> None:
        """Copy files, as `Storage` says; never as links, for their sender may still write to them."""
        for path, target in targets.items():
            try:
                target.parent.mkdir(parents=True, exist_ok=True)
                with open(self._open(path), "rb") as source, target.open("xb") as copied:  # noqa: PTH123 - a descriptor
                    if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                        raise DataError(f"{self._root / path}: is no plain file any more; put the file itself there")
                    shutil.copyfileobj(source, copied)
            except OSError as error:
                raise DataError(f"{self._root / path}: cannot be copied to {target}: {_hint(error)}") from None

    def mark(self, path: str) -> None:
        """Write an empty file, as `Storage` says."""
        try:
            with (self._root / path).open("xb"):
                pass
        except OSError as error:
            raise DataError(f"{self._root / path}: cannot be written: {_hint(error)}") from None

    def _open(self, path: str) -> int:
        """Descriptor of a file; opened folder by folder, so that none of them is a link, whoever is swapping them."""
        *folders, name = path.split("/")
        here = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for folder in folders:
                inner = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
                os.close(here)
                here = inner
            return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=here)  # a pipe would block
        finally:
            os.close(here)


class ObjectStorage:
    """A prefix in an object store, or whatever else fsspec reaches."""

    def __init__(self, system: Any, root: str, *, uri: str) -> None:
        self._system = system
        self._root = root.rstrip("/")
        self._uri = uri

    def entries(self, folder: str = "") -> list[StoredFile]:
        """Return all files below it, as `Storage` says."""
        start = f"{self._root}/{folder}" if folder else self._root
        with self._errors("cannot be listed"):
            self._system.invalidate_cache()  # else a long-lived process sees yesterday's listing
            listed = self._system.find(start, detail=True)
        if folder == "" and self._root in listed:
            raise DataError(f"{self._uri}: is a file; name the folder that batches arrive in")
        before = len(self._root) + 1
        return [
            StoredFile(name[before:], int(info.get("size") or 0), _kind(info), _written(info))
            for name, info in listed.items()
            if info.get("type") != "directory" and not name.endswith("/")
        ]

    def copy(self, targets: Mapping[str, Path]) -> None:
        """Copy files, several at a time where the store can, as `Storage` says."""
        with self._errors("cannot be copied"):
            self._system.get([f"{self._root}/{path}" for path in targets], [str(path) for path in targets.values()])

    def mark(self, path: str) -> None:
        """Write an empty file, as `Storage` says."""
        with self._errors(f"{path}: cannot be written"):
            self._system.pipe_file(f"{self._root}/{path}", b"")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - every file system has errors of its own
            raise DataError(f"{self._uri}: {what}: {_reason(error)}; {_REMEDY}") from None


def _hint(error: OSError) -> str:
    if error.errno in {errno.ELOOP, errno.ENOTDIR}:
        return "it is a link by now, or lies in one; put the file itself there"
    return f"{error.strerror}; fix that and try again"


_REMEDY = "check inbox.uri in params.yaml, the bucket, the network, and AWS_ENDPOINT_URL, AWS_REGION and the keys"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {message_of(error)}"


def _entry(item: "os.DirEntry[str]", path: str) -> Iterator[StoredFile]:
    """Yield a local file or link; nothing if it went meanwhile."""
    try:
        found = item.stat(follow_symlinks=False)
    except FileNotFoundError:
        return
    link, plain = stat.S_ISLNK(found.st_mode), stat.S_ISREG(found.st_mode)
    kind: Literal["file", "link", "other"] = "link" if link else "file" if plain else "other"
    yield StoredFile(path, found.st_size, kind, datetime.fromtimestamp(found.st_mtime, UTC))


def _kind(info: Mapping[str, Any]) -> Literal["file", "link", "other"]:
    if info.get("islink") or info.get("type") == "link":
        return "link"
    return "file" if info.get("type") == "file" else "other"


def _written(info: Mapping[str, Any]) -> datetime | None:
    for key in _TIMES:
        match info.get(key):
            case datetime() as time:
                return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
            case int() | float() as seconds:
                return datetime.fromtimestamp(seconds, UTC)
    return None
