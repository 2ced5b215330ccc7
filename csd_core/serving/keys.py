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
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import StringConstraints

from csd_core.atomic import write_text
from csd_core.errors import CsdError, ParamsError
from csd_core.records import Digest, Record

FILE = "keys.json"
Role = Literal["read", "write"]
NAME = r"[A-Za-z0-9._-]{1,64}"
KeyName = Annotated[str, StringConstraints(pattern=f"^{NAME}$")]
_PREFIX = "csd_"
_LOOK_SECONDS = 1.0
log = logging.getLogger("csd.serving")


class ApiKey(Record):
    """What is known of a key."""

    name: KeyName
    role: Role
    """write may read too."""
    sha256: Digest
    created: str
    """UTC, ISO 8601."""


class KeyFile(Record):
    """keys.json."""

    keys: tuple[ApiKey, ...]

    @classmethod
    def at(cls, path: Path) -> "KeyFile":
        """The keys in a file; none if there is no file.

        Raises:
            ArtifactError: if it is damaged.
        """
        return cls.load(path) if path.is_file() else cls(keys=())


def issue(path: Path, name: str, role: Role) -> str:
    """Make a key.

    Args:
        path: The file; only its owner may read it.
        name: Whose.
        role: What it may do.

    Returns:
        The key, which is kept nowhere.

    Raises:
        ParamsError: if there is a key of that name, or it is no name.
    """
    keys = KeyFile.at(path).keys
    if any(key.name == name for key in keys):
        raise ParamsError(f"key {name}: there is one of that name in {path}; `csd keys revoke {name}` removes it")
    if not re.fullmatch(NAME, name):
        raise ParamsError(f"key {name!r}: a name has 1 to 64 letters, digits, dots, dashes and underscores")
    token = _PREFIX + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    _save(path, (*keys, ApiKey(name=name, role=role, sha256=_hash(token), created=created)))
    return token


def revoke(path: Path, name: str) -> None:
    """Remove a key; services refuse it within a second.

    Raises:
        ParamsError: if there is none of that name.
    """
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

    @property
    def empty(self) -> bool:
        """Whether nobody gets in."""
        self._look()
        return not self._keys

    def key_of(self, token: str) -> ApiKey | None:
        """The key, or None for an unknown one; takes as long whichever it is."""
        self._look()
        given = _hash(token)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.sha256, given):
                found = key
        return found

    def _look(self) -> None:
        """Read the file again if it changed; a damaged one lets nobody in."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        try:
            state = self._path.stat()
        except FileNotFoundError:
            self._seen, self._keys = None, ()
            return
        seen = (state.st_mtime_ns, state.st_size, state.st_ino)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._keys = KeyFile.at(self._path).keys
        except (CsdError, OSError) as error:
            self._keys = ()
            log.error("keys unreadable", extra={"reason": str(error)})  # noqa: TRY400 - one line, no traceback


def _hash(token: str) -> Digest:
    return hashlib.sha256(token.encode()).hexdigest()


def _save(path: Path, keys: tuple[ApiKey, ...]) -> None:
    mask = os.umask(0o077)
    try:
        write_text(path, KeyFile(keys=keys).model_dump_json(indent=2) + "\n")
    finally:
        os.umask(mask)
