"""A lock across machines: an object that says who may change something, as long as its holder renews it.

Whoever holds it writes it again every third of LEASE_SECONDS. Who waits takes it over when it has seen it unchanged for
LEASE_SECONDS by its own clock, so that the clocks of two machines are never compared. A holder that was only slow finds
its lease taken at its next write: each taking gives a higher token, which goes with all that the holder changes.
"""

import json
import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import NamedTuple
from uuid import uuid4

from csd_core.objects.store import ConflictError, Found, Objects
from csd_core.system.errors import BusyError, CsdError, StorageError
from csd_core.system.locks import WAIT, signature

LEASES = "leases/"
LEASE_SECONDS = 15.0
"""How long a lease outlives its holder."""
POLL_SECONDS = 0.1, 1.0
"""Between two looks of a process that waits: at first, and at most."""


class LeaseLostError(BusyError):
    """Another process has taken over what this one was changing."""


class _Holding(NamedTuple):
    """What the lease's object says."""

    token: int
    holder: str
    """For messages; empty if nobody holds it."""
    turn: str
    """Another one at every write, so that no two writes are the same."""

    @classmethod
    def read(cls, found: Found | None) -> "_Holding":
        try:
            return cls(**json.loads(found.body)) if found else cls(0, "", "")
        except (ValueError, TypeError):
            return cls(0, "", "")

    def body(self) -> bytes:
        return json.dumps(self._asdict(), ensure_ascii=False).encode()


class Lease:
    """A lease that the thread which holds it may take again.

    Attributes:
        what: It protects, for messages.
        token: Higher than that of any earlier holder; 0 while it is not held.
    """

    def __init__(self, objects: Objects, key: str, *, what: str) -> None:
        self.what = what
        self.token = 0
        self._objects, self._key = objects, key
        self._thread = threading.RLock()
        self._depth = 0
        self._known: Found | None = None
        """The object as this process wrote it last."""
        self._confirmed = 0.0
        """When the last successful write of it was begun, of this machine's clock."""
        self._lost = False
        self._writing = threading.Lock()

    @contextmanager
    def held(self, *, wait: float = WAIT, above: int = 0) -> Iterator[None]:
        """Hold it.

        Args:
            wait: Seconds to wait for another process.
            above: Its token is higher than this, even if somebody removed the object that counts them.

        Raises:
            BusyError: if it is still held then, naming the holder.
            LeaseLostError: if another process took it over meanwhile.
            StorageError: if the store does not answer.
        """
        until = time.monotonic() + wait
        if not self._thread.acquire(timeout=max(wait, 0.0)):
            raise BusyError(f"{self.what} is in use by another thread of this process; try again when it has finished")
        try:
            if self._depth == 0:
                self._take(until, wait, above)
            self._depth += 1
            ended = threading.Event()
            try:
                if self._depth == 1:
                    threading.Thread(target=self._renew, args=(ended,), name="csd-lease", daemon=True).start()
                yield
                if self._depth == 1:
                    self.check()
            finally:
                self._depth -= 1
                if self._depth == 0:
                    ended.set()
                    self._give_back()
        finally:
            self._thread.release()

    @contextmanager
    def held_if_writable(self, *, wait: float = WAIT) -> Iterator[None]:
        """Hold it, for a reader: who may not write to the store keeps nobody out.

        Args:
            wait: Seconds to wait for another process.

        Raises:
            BusyError: if it is still held then, naming the holder.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(self.held(wait=wait))
            except StorageError as error:
                if not any(word in str(error) for word in ("403", "401", "AccessDenied")):
                    raise
            yield

    def check(self) -> None:
        """Refuse to go on if another process may hold it by now.

        Raises:
            LeaseLostError: then nothing more may be changed.
        """
        if self._lost or _now() - self._confirmed > LEASE_SECONDS * 2 / 3:
            raise self.lost()

    def lost(self) -> LeaseLostError:
        """Return the error of a holder whose lease was taken over."""
        self._lost = True
        return LeaseLostError(
            f"{self.what} was taken over by {self._who()}, for this process was not heard of for "
            f"{LEASE_SECONDS:g} s; try again when the other has finished"
        )

    def _take(self, until: float, wait: float, above: int) -> None:
        """Write the object as its holder."""
        seen, since = None, 0.0
        pause, longest = POLL_SECONDS
        known = self._known or self._objects.get(self._key)
        while True:
            holding = _Holding.read(known)
            if known is None or seen is None or known.tag != seen:
                seen, since = known.tag if known else "", _now()
            if not holding.holder or _now() - since >= LEASE_SECONDS:
                began = _now()
                mine = _Holding(max(holding.token, above) + 1, signature(machine=socket.gethostname()), uuid4().hex)
                with suppress(ConflictError):
                    self._known = self._objects.swap(self._key, mine.body(), known=known)
                    self.token, self._confirmed, self._lost = mine.token, began, False
                    return
            elif time.monotonic() >= until:
                waited = f" and was so for {wait:g} s" if wait else ""
                raise BusyError(
                    f"{self.what} is in use by {holding.holder}{waited}; try again when it has finished, or end it: "
                    f"{LEASE_SECONDS:g} s later its lease can be taken over"
                )
            else:
                time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - so that those who wait do not march in step
                pause = min(2 * pause, longest)
            known = self._objects.get(self._key)

    def _renew(self, ended: threading.Event) -> None:
        """Write the object again until the holder has ended, or somebody else did."""
        while not ended.wait(LEASE_SECONDS / 3):
            with self._writing:
                if ended.is_set():
                    return
                began = _now()
                mine = _Holding.read(self._known)._replace(turn=uuid4().hex)
                try:
                    self._known = self._objects.swap(self._key, mine.body(), known=self._known)
                    self._confirmed = began
                except ConflictError:
                    self._lost = True
                    return
                except CsdError:
                    continue  # the store does not answer: check() finds when that has been so for too long

    def _give_back(self) -> None:
        """Let the next one have it; where the store does not answer it runs out by itself."""
        with self._writing:
            free = _Holding(self.token, "", uuid4().hex)
            self.token = 0
            known, self._known = self._known, None
            if not self._lost:
                with suppress(CsdError):
                    self._known = self._objects.swap(self._key, free.body(), known=known)

    def _who(self) -> str:
        with suppress(CsdError):
            return _Holding.read(self._objects.get(self._key)).holder or "another process"
        return "another process"


@cache
def lease_at(objects: Objects, name: str, *, what: str) -> Lease:
    """Return the lease by a name, one for the whole process, as a thread may take it again and again.

    Args:
        objects: Where it lies.
        name: Of the lease.
        what: It protects, for messages.
    """
    return Lease(objects, f"{LEASES}{name}.json", what=what)


def _now() -> float:
    """Seconds of a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
