"""Processes that decode image files which this process had better not: they are limited, and killed if they must be.

A process is started when it is first needed, kept for the next file, and ends with this one.
"""

import atexit
import json
import math
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from csd_core.data.pixels import Box, Form, Pixels
from csd_core.system.errors import DataError, DecoderStartError, message_of
from csd_core.system.processes import ended

CLOCK = 120.0
"""Seconds by the clock after which a process is given up: it waits for a disk, or the machine is stuck."""
_SIDE = 4
"""Bytes of a height or a width; an answer has a byte that says what it is, both of each image, then the pixels."""
_COMMAND = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[2]); from csd_core.data.decoder_child import main; main()"
)
_SMALL = {  # one thread, and large blocks of memory go back to the system when they are free
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 20),
}


class Limits(NamedTuple):
    """What one file may cost."""

    memory: int
    """Bytes, beside those of an idle process."""
    seconds: float
    """Of processor time, which other work on the machine does not change."""


class Room:
    """Memory that several threads share.

    Args:
        size: Bytes.
    """

    def __init__(self, size: int) -> None:
        self._free = size
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Wait until so much is free, and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._free >= size)
            self._free -= size
        try:
            yield
        finally:
            with self._changed:
                self._free += size
                self._changed.notify_all()


class Decoders:
    """The processes, as many as are asked at a time."""

    def __init__(self) -> None:
        self._idle: list[_Child] = []

    def decode(self, file: bytes | Path, forms: Sequence[Form], box: Box | None, limits: Limits) -> tuple[Pixels, ...]:
        """Return (size, size, channels) uint8 for each form, all on one background; to fit, no side is longer.

        Raises:
            DataError: with the reason; what exceeds the limits often looks like damage.
            DecoderStartError: if no process starts.
        """
        job = {
            "path": os.path.abspath(file) if isinstance(file, Path) else None,  # noqa: PTH100 - links stay
            "forms": [
                {
                    "size": form.size,
                    "channels": form.channels,
                    "resize": form.resize,
                    "crop_share": form.crop_share,
                    "background": form.background,
                    "resampling": form.resampling,
                    "shorter_side": form.shorter_side,
                }
                for form in forms
            ],
            "box": box,
            "most_pixels": Image.MAX_IMAGE_PIXELS,
            "memory": limits.memory,
            "seconds": limits.seconds,
        }
        content = file if isinstance(file, bytes) else b""
        answer = self._ask(json.dumps(job).encode(), content, limits, again=True)
        if answer[:1] == b"m":
            raise DataError(f"needs more than {limits.memory >> 20} MB to decode; make it smaller, or save it as JPEG")
        if answer[:1] != b"p":
            raise DataError(answer[1:].decode(errors="replace"))
        return tuple(_images(bytearray(answer), forms))

    def close(self) -> None:
        """End the processes that are idle."""
        while self._idle:
            self._idle.pop().end()

    def _ask(self, job: bytes, content: bytes, limits: Limits, *, again: bool) -> bytes:
        child = self._living() or _Child()
        try:
            answer = child.ask(job, content)
        except BaseException:
            child.end()
            raise
        if isinstance(answer, bytes):
            self._idle.append(child)
            return answer
        if -answer in (0, signal.SIGKILL, signal.SIGTERM) and again:  # it had grown, or a person killed it
            return self._ask(job, content, limits, again=False)
        if -answer == signal.SIGPROF:
            raise DataError(f"takes more than {limits.seconds:g} s to decode; save it again as PNG or JPEG")
        raise DataError("is damaged: its decoder did not survive it")

    def _living(self) -> "_Child | None":
        """Return an idle process that still runs."""
        while True:
            try:
                child = self._idle.pop()
            except IndexError:
                return None
            if child.lives():
                return child
            child.end()


class _Child:
    """One process, which has started and waits for a file.

    Raises:
        DecoderStartError: if the system starts none, or it ends before it is ready.
    """

    def __init__(self) -> None:
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:
            raise _cannot_start(message_of(error)) from None
        with theirs, ours:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _COMMAND, str(theirs.fileno()), json.dumps(sys.path)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, **_SMALL},
                )
            except OSError as error:
                raise _cannot_start(message_of(error)) from None
            self._connection = Connection(ours.detach())
        assert self._process.stderr is not None  # noqa: S101 - for the type checker: it is a pipe
        with self._process.stderr as said:
            try:
                in_time = self._connection.poll(CLOCK)
                if in_time:
                    self._connection.recv_bytes()
                    return
            except (OSError, EOFError):
                in_time = True
            code = self.end()
            lines = said.read().decode(errors="replace").split("\n") if in_time else []
        reason = ended(code) if in_time else f"it is not ready after {CLOCK:g} s"
        raise _cannot_start(next(filter(None, map(str.strip, reversed(lines))), reason))

    def lives(self) -> bool:
        """Return whether it can be asked."""
        return self._process.poll() is None

    def ask(self, job: bytes, content: bytes) -> bytes | int:
        """Return the answer, or the exit status of a process that died over it.

        Raises:
            DataError: if there is none in time.
        """
        late = threading.Event()
        watch = threading.Timer(CLOCK, self._give_up, [late])
        watch.daemon = True
        watch.start()
        try:
            with suppress(OSError, EOFError):
                self._connection.send_bytes(job)
                self._connection.send_bytes(content)
                return self._connection.recv_bytes()
        finally:
            watch.cancel()
        if late.is_set():
            raise DataError(f"is not decoded after {CLOCK:g} s; save it again as PNG or JPEG")
        return self.end()

    def _give_up(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def end(self) -> int:
        """Kill it if it runs; return its exit status."""
        self._connection.close()
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(0.5)  # it ends when it sees that the connection is closed, unless it computes
        self._process.kill()
        return self._process.wait()


def _images(answer: bytearray, forms: Sequence[Form]) -> Iterator[Pixels]:
    """Yield the images of an answer.

    Raises:
        DataError: if it does not hold them, as a file that took over its decoder may answer.
    """
    start = 1 + 2 * _SIDE * len(forms)
    sides = [int.from_bytes(answer[at : at + _SIDE]) for at in range(1, start, _SIDE)]
    shapes = [(*sides[2 * row : 2 * row + 2], form.channels) for row, form in enumerate(forms)]
    sizes = [math.prod(shape) for shape in shapes]
    whole = all(
        0 < min(shape[:2]) <= max(shape[:2]) <= form.size
        and (form.resize == "fit" or shape[0] == shape[1] == form.size)
        for shape, form in zip(shapes, forms, strict=True)
    )
    if not whole or len(answer) != start + sum(sizes):
        raise DataError("is damaged: its decoder gave no image")
    for shape, size in zip(shapes, sizes, strict=True):
        yield np.frombuffer(answer, np.uint8, size, start).reshape(shape)
        start += size


def _cannot_start(reason: str) -> DecoderStartError:
    return DecoderStartError(
        f"no process for decoding images starts: {reason}; free memory and processes of this machine, or install csd "
        "again, then try again"
    )


decoders = Decoders()
"""Of this process."""


def _forget() -> None:
    """A fork has its parent's connections and must not use them."""
    decoders._idle.clear()  # noqa: SLF001 - of this module


atexit.register(decoders.close)
os.register_at_fork(after_in_child=_forget)
