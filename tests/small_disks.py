"""A disk of a few megabytes that can be filled, so that a command finds no room at one step or another."""

import os
import subprocess
from contextlib import contextmanager

AMOUNTS = (0, *(4096 * 3**power for power in range(9)))
"""Bytes left free, one after another, until the command succeeds."""


@contextmanager
def small_disk(path, *, megabytes):
    """Yield whether a disk is mounted there; root alone may do that."""
    path.mkdir()
    options = ["-o", f"size={megabytes}m", "tmpfs", str(path)]
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", *options], check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


@contextmanager
def only_free(path, amount):
    """Leave so many bytes free meanwhile."""
    facts = os.statvfs(path)
    filler = path / "filler"
    blocks = facts.f_bavail - amount // facts.f_frsize
    assert blocks > 0, "the disk is too small for this amount"
    with filler.open("wb") as file:
        for _ in range(blocks):
            file.write(b"\0" * facts.f_frsize)
    try:
        yield
    finally:
        filler.unlink()
