"""One writer at a time, across the processes of a machine; who holds a lock can be read from the file beside it.

The operating system drops a lock with its process, so that a killed one blocks nobody.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout

from csd_core.system.errors import BusyError

WAIT = 60.0
"""Seconds a second process waits."""


class Exclusion(Protocol):
    """Lets one writer at a time do its work: a lock of this machine, or a lease that machines share."""

    def held(self, *, wait: float = WAIT) -> AbstractContextManager[None]:
        """Hold it.

        Raises:
            BusyError: if another process still holds it after so many seconds.
        """


class Lock:
    """A lock that the thread which holds it may take again.

    Attributes:
        path: Of the lock file.
        what: It protects, for messages.
    """

    def __init__(self, path: Path, *, what: str) -> None:
        self.path = path.absolute()
        self.what = what
        self._holder = self.path.with_name(self.path.name + ".holder")

    @contextmanager
    def held(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold it.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            BusyError: if it is still held then, naming the holder.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path, is_singleton=True)  # one object for a path, so that a thread can take it again
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            waited = f" and was so for {wait:g} s" if wait else ""
            raise BusyError(
                f"{self.what} is in use by {self._who()}{waited}; try again when it has finished, or "
                "end it: its lock goes with it"
            ) from None
        try:
            if lock.lock_counter == 1:
                self._sign()
            yield
        finally:
            if lock.lock_counter == 1:
                with suppress(OSError):
                    self._holder.unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def held_if_writable(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold it, for a reader: where nothing can be written there is no lock to be had, and no writer to keep out.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            BusyError: if it is still held then, naming the holder.
        """
        with ExitStack() as stack:
            with suppress(OSError):
                stack.enter_context(self.held(wait=wait))
            yield

    def _sign(self) -> None:
        """Say who holds it, for messages; on a full disk nobody does."""
        with suppress(OSError):
            self._holder.write_text(signature(), "utf-8")

    def _who(self) -> str:
        try:
            return self._holder.read_text("utf-8") or "another process"
        except OSError:
            return "another process"


def signature(*, machine: str = "") -> str:
    """Return in words which process this is, since now; for whoever finds that it holds something.

    Args:
        machine: Its machine's name, where others may ask too.
    """
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]]).strip() or "python"
    where = f" on {machine}" if machine else ""
    return f"process {os.getpid()}{where} ({command}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)"
