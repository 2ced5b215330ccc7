"""API keys: who may read and who may write.

The file holds their sha256 alone; a key is 32 random bytes, so that no salt is needed.
"""

import hashlib
import hmac
import logging
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from csd_core.records.stages import Digest, Record
from csd_core.system.atomic import write_text
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.system.locks import Lock

FILE = "keys.json"
Role = Literal["read", "write"]
NAME = r"[A-Za-z0-9._-]{1,64}"
KeyName = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
_PREFIX = "csd_"
_LOOK_SECONDS = 1.0
_REMEDY = "nobody gets in; restore it from a backup, or delete it and make new keys with `csd keys add`"
log = logging.getLogger("csd.serving")


class ApiKey(Record):
    """One key: its name, its role and the hash of its secret."""

    name: KeyName
    role: Role
    """write may read too."""
    sha256: Digest
    created: str
    """UTC, ISO 8601."""


class KeyFile(Record):
    """The content of keys.json."""

    keys: tuple[ApiKey, ...]

    @classmethod
    def at(cls, path: Path) -> "KeyFile":
        """Read the keys of a file; a missing file has none.

        Raises:
            ArtifactError: if it is damaged, or this user may not read it.
        """
        try:
            return cls.load(path) if path.is_file() else cls(keys=())
        except ArtifactError as error:
            raise ArtifactError(f"{str(error).removesuffix('; make it again')}; {_REMEDY}") from None
        except OSError as error:
            raise _unreadable(path, error) from None


def issue(path: Path, name: str, role: Role) -> str:
    """Make a key.

    Args:
        path: The file; only its owner may read it.
        name: Whose.
        role: What it may do.

    Returns:
        The key, which is kept nowhere.

    Raises:
        ParamsError: if there is a key of that name, or the name is not allowed.
        ArtifactError: if the file cannot be read or written.
        BusyError: if another process is changing it for long.
    """
    if not re.fullmatch(NAME, name):
        raise ParamsError(f"key {name!r}: a name has 1 to 64 letters, digits, dots, dashes and underscores")
    with _changing(path):
        keys = KeyFile.at(path).keys
        if any(key.name == name for key in keys):
            raise ParamsError(f"key {name}: there is one of that name in {path}; `csd keys revoke {name}` removes it")
        token = _PREFIX + secrets.token_urlsafe(32)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        _save(path, (*keys, ApiKey(name=name, role=role, sha256=_hash(token), created=created)))
    return token


def revoke(path: Path, name: str) -> None:
    """Remove a key; services refuse it within a second.

    Raises:
        ParamsError: if there is none of that name.
        ArtifactError: if the file cannot be read or written.
        BusyError: if another process is changing it for long.
    """
    with _changing(path):
        keys = KeyFile.at(path).keys
        left = tuple(key for key in keys if key.name != name)
        if len(left) == len(keys):
            raise ParamsError(f"key {name}: there is none of that name in {path}; `csd keys list` shows them")
        _save(path, left)


class KeyRing:
    """The keys of a file, as they are now.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._looked_at = -_LOOK_SECONDS
        self._keys: tuple[ApiKey, ...] = ()
        self._trouble = ""

    @property
    def empty(self) -> bool:
        """Whether there is no key at all.

        Raises:
            ArtifactError: if the file cannot be read, for new keys would not repair it.
        """
        return not KeyFile.at(self._path).keys

    @property
    def trouble(self) -> str:
        """Why nobody gets in; empty while somebody does."""
        self._look()
        if not self._trouble and not self._keys:
            return f"{self._path}: there is no key, so nobody gets in; make one with `csd keys add`"
        return self._trouble

    def key_of(self, token: str) -> ApiKey | None:
        """Return the key, or None for an unknown one; both take equally long."""
        self._look()
        given = _hash(token)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def _look(self) -> None:
        """Read the file again if it changed; one that cannot be read lets nobody in until it can."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            seen = _state_of(self._path)
            if seen is not None and seen == self._seen:
                return
            self._keys = KeyFile.at(self._path).keys
        except ArtifactError as error:
            # Unseen, so that it is tried again: too many open files, for one, pass by themselves.
            self._seen, self._keys = None, ()
            if self._trouble != str(error):
                self._trouble = str(error)
                log.error("keys unreadable: %s", error)  # noqa: TRY400 - one line, no traceback
        else:
            self._seen, self._trouble = seen, ""


def _state_of(path: Path) -> tuple[int, int, int] | None:
    """What changes with a file's content; None if there is no file."""
    try:
        state = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from None
    return state.st_mtime_ns, state.st_size, state.st_ino


def _unreadable(path: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"{path}: cannot be read ({error.strerror or error}), so nobody gets in; let the user of the service read it"
    )


def _hash(token: str) -> Digest:
    return hashlib.sha256(token.encode()).hexdigest()


@contextmanager
def _changing(path: Path) -> Iterator[None]:
    """Keep other processes from changing the file between the reading and the writing of it.

    Raises:
        ArtifactError: if this user may not write there.
        BusyError: if another process is changing it for long.
    """
    try:
        with Lock(path.with_name(f".{path.name}.lock"), what=str(path)).held():
            yield
    except OSError as error:
        raise ArtifactError(
            f"{path}: cannot be written ({error.strerror or error}); run as a user who may, or name another --file"
        ) from None


def _save(path: Path, keys: tuple[ApiKey, ...]) -> None:
    mask = os.umask(0o077)
    try:
        write_text(path, KeyFile(keys=keys).model_dump_json(indent=2) + "\n")
    finally:
        os.umask(mask)
