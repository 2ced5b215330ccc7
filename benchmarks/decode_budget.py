"""What hostile images cost: `python benchmarks/decode_budget.py [COUNT]` prints a table of outcomes by format.

It saves small images in every mode and format that Pillow writes, damages them (bytes flipped, cut short, heads of
others, sizes claimed), adds the bombs of tests/data/bombs.py, and decodes each as the service would, in a process that
may take no more than 512 MB. Memory is what this process and its decoders take beside what they held before; seconds
are of processor time.
"""

import collections
import contextlib
import os
import random
import resource
import struct
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "data"))

import bombs

from csd_core.data.decode import decode
from csd_core.data.decoder_processes import decoders
from csd_core.records.stages import ImageForm
from csd_core.system.errors import DataError

COUNT = 2000
MEMORY, SECONDS = 512 << 20, 5.0
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LAB", "I", "I;16", "F")
FORM = ImageForm(size=32, channels=3, resize="squash")


def seeds() -> list[tuple[str, bytes]]:
    """A small image in each mode and format that fit together."""
    Image.init()
    base = Image.fromarray(np.random.default_rng(0).integers(0, 256, (53, 37, 4), np.uint8))
    found = []
    for kind in sorted(Image.SAVE):
        if kind in ("PDF", "EPS"):
            found.append((kind, {"PDF": b"%PDF-1.7\n", "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n"}[kind] * 9))
            continue
        for mode in MODES:
            for options in ({}, {"compression": "tiff_lzw"}, {"progressive": True}, {"lossless": True}):
                with contextlib.suppress(Exception):
                    found.append((kind, bombs.saved(base.convert("RGB").convert(mode), kind, **options)))
                if kind not in ("TIFF", "JPEG", "WEBP"):
                    break
    return found


def mutants(count: int) -> list[tuple[str, bytes]]:
    """Damaged files, the same each time."""
    chance, whole = random.Random(14), seeds()  # noqa: S311 - no secret
    made = []
    for number in range(count):
        kind, file = whole[number % len(whole)]
        changed = bytearray(file)
        match chance.randrange(6):
            case 0:
                for _ in range(chance.choice((1, 1, 4, 16))):
                    changed[chance.randrange(min(len(changed), 200))] = chance.randrange(256)
            case 1:
                for _ in range(chance.choice((1, 8, 64))):
                    changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
            case 2:
                del changed[chance.randrange(len(changed)) :]
            case 3:
                other = chance.choice(whole)[1]
                cut = chance.randrange(1, 64)
                changed[:cut] = other[:cut]
            case 4:
                size = struct.pack(chance.choice("<>") + "I", chance.choice((5000, 6000, 30_000, 65_535, 1 << 31)))
                size = size if chance.random() < 0.5 else size.strip(b"\0")
                at = chance.randrange(min(len(changed), 120))
                changed[at : at + len(size)] = size
            case _:
                at = chance.randrange(len(changed))
                changed[at:at] = chance.randbytes(chance.choice((1, 2, 30)))
        made.append((kind, bytes(changed)))
    return made


def main() -> None:
    """Decode all, print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    thrown = mutants(count)
    named = {**bombs.MEMORY, **bombs.TIME}
    warnings.simplefilter("ignore")
    Image.MAX_IMAGE_PIXELS = 40_000_000
    rows: dict[str, list[tuple[str, float, float]]] = collections.defaultdict(list)
    began = time.monotonic()
    _limit()
    for kind, file in thrown:
        rows[kind].append(_cost(file))
    for name, make in named.items():
        rows["bomb: " + name].append(_cost(make()))
    print("| format | files | accepted | refused | most MB | most s | over | the commonest reason |")
    print("|---|---|---|---|---|---|---|---|")
    over = 0
    for kind, costs in rows.items():
        reasons = collections.Counter(outcome for outcome, _, _ in costs if outcome)
        beyond = sum(memory > MEMORY or seconds > SECONDS for _, memory, seconds in costs)
        over += beyond
        print(
            f"| {kind} | {len(costs)} | {sum(not outcome for outcome, _, _ in costs)} | {reasons.total()} |"
            f" {max(cost[1] for cost in costs) / 2**20:.0f} | {max(cost[2] for cost in costs):.1f} | {beyond} |"
            f" {reasons.most_common(1)[0][0][:70] if reasons else ''} |",
        )
    print(f"\n{count} damaged files and {len(named)} bombs, {over} over; {time.monotonic() - began:.0f} s by the clock")


def _cost(file: bytes) -> tuple[str, float, float]:
    """Why it was refused ("" if it was not), bytes and seconds."""
    before, spent = _memory(reset=True), _seconds()
    try:
        decode(file, FORM)
        outcome = ""
    except DataError as error:
        outcome = str(error)
    return outcome, max(0, _memory(reset=False) - before), _seconds() - spent


def _processes() -> list[int]:
    return [os.getpid(), *(child._process.pid for child in decoders._idle)]  # noqa: SLF001 - its processes


def _memory(*, reset: bool) -> int:
    """The most that the processes have held since it was reset."""
    total = 0
    for pid in _processes():
        if reset:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        total += int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10
    return total


def _seconds() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    ticks = 0
    for pid in _processes():
        ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK") + ended.ru_utime + ended.ru_stime


def _limit() -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
