"""A process that decodes the files it is given and may be killed over them; `decoder_processes` starts it.

It loads little beside Pillow and numpy. A limit on its memory makes allocations fail, one on its processor time ends
it. It answers with pixels or a reason and nothing else, so a file that takes over its decoder gets no further.
"""

import json
import os
import resource
import signal
import sys
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NamedTuple

from PIL import AvifImagePlugin, Image

from csd_core.data.image_files import decoded
from csd_core.data.pixels import Box
from csd_core.system.errors import DataError

_GROWTH = 16 << 20
"""Bytes that a process may keep after a file; one that kept more ends, and another takes its place."""


STARTED = b"started"
"""The first message: this process has loaded all that it needs."""


class _Form(NamedTuple):
    size: int
    channels: int
    resize: Literal["squash", "pad", "crop", "fit"]
    crop_share: float
    background: str
    resampling: str
    shorter_side: int | None


def main() -> None:
    """Serve the connection whose number is the first argument, until its other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for whoever asked; they close the connection
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    warnings.simplefilter("ignore")  # what Pillow warns of is either harmless or refused
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - no path of ours
        os.dup2(nowhere.fileno(), sys.stderr.fileno())  # it was read up to here; codecs may write without an end
    connection = Connection(int(sys.argv[1]))
    connection.send_bytes(STARTED)
    idle = _held()
    while _held() <= idle + _GROWTH:
        try:
            job = json.loads(connection.recv_bytes())
            content = connection.recv_bytes()
        except (EOFError, OSError):
            return
        _limit_memory(idle + job["memory"])
        signal.setitimer(signal.ITIMER_PROF, job["seconds"])
        answer = _answer(job, content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(None)
        connection.send_bytes(answer)


def _answer(job: dict[str, Any], content: bytes) -> bytes:
    Image.MAX_IMAGE_PIXELS = job["most_pixels"]
    box = None if job["box"] is None else Box(*job["box"])
    try:
        if job["path"] is not None:
            content = Path(job["path"]).read_bytes()
        images = decoded(content, [_Form(**form) for form in job["forms"]], box)
        sides = (side.to_bytes(4) for pixels in images for side in pixels.shape[:2])
        return b"p" + b"".join(sides) + b"".join(pixels.tobytes() for pixels in images)
    except MemoryError:
        return b"m"
    except DataError as error:
        return b"m" if "decoder error -9" in str(error) else b"r" + str(error).encode()  # Pillow's "out of memory"


def _held() -> int:
    """Bytes of address space; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def _limit_memory(size: int | None) -> None:
    """Let this process have so many bytes; None lifts the limit. Only Linux keeps one."""
    if sys.platform != "linux":
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = most if size is None else size if most == resource.RLIM_INFINITY else min(size, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
