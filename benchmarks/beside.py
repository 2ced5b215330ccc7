"""Trainings beside each other on one machine, under each way in which their threads can wait for each other.

Every training is a process of its own, as DVC starts it; one, two and four of them begin together and are counted over
the same seconds. The ways take turns, so that other work on the machine slows all of them; the ratios are to the
libraries' own default, alone, in the same run.

    python benchmarks/beside.py                                   # profile tiny's network
    python benchmarks/beside.py --network large --spins 1000 10000
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from csd_core.processes import SPINS, WAITING

OWN = Path(__file__)


@dataclass(frozen=True)
class Size:
    """A network and its images."""

    depth: int
    width: int
    pixels: int
    channels: int
    batch_size: int


SIZES = {"tiny": Size(8, 8, 8, 1, 32), "large": Size(32, 16, 32, 3, 128)}
"""Profile tiny's, and the paper's."""


def train(size: Size, seconds: float) -> None:
    """Say that all is loaded, wait for a line, then train for so long and print images per second."""
    import numpy as np  # noqa: PLC0415 - torch reads the environment when it is loaded
    from training import NEW, OLD, csd_stage  # noqa: PLC0415

    from csd_core.learning.device import prepare_device  # noqa: PLC0415
    from csd_core.params import Runtime  # noqa: PLC0415
    from csd_core.params_training import Network  # noqa: PLC0415

    prepare_device(Runtime(device="cpu", threads=0, processes=1, max_in_memory_mb=0))
    network = Network.model_validate(
        {
            "architecture": "resnet-cifar",
            "depth": size.depth,
            "width": size.width,
            "head": "relu",
            "classifier": "cosine",
            "weights": None,
            "mean": [0.5] * size.channels,
            "std": [0.25] * size.channels,
        }
    )
    draw = np.random.default_rng(0)
    count = 2 * size.batch_size
    images = draw.integers(0, 256, (count, size.pixels, size.pixels, size.channels), np.uint8)
    targets = draw.integers(OLD, OLD + NEW, count).tolist()
    epoch = csd_stage(network, images, targets, batch_size=size.batch_size)
    epoch()
    print("ready", flush=True)
    sys.stdin.readline()
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        epoch()
        done += count
    print(done / (time.perf_counter() - started), flush=True)


def together(number: int, size: str, seconds: float, setting: dict[str, str]) -> float:
    """Images per second of each of so many trainings, in the mean."""
    clean = {name: value for name, value in os.environ.items() if name not in WAITING}
    command = [sys.executable, str(OWN), "--network", size, "--seconds", str(seconds), "--child"]
    children = [
        subprocess.Popen(command, env=clean | setting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(number)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    rates = [float(child.communicate()[0]) for child in children]
    return statistics.mean(rates)


def main() -> None:
    """Print the median rate of each way, alone and beside others, its ratio to the default alone, and its spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SIZES, default="tiny")
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="turns of every way")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4], help="trainings beside each other")
    parser.add_argument("--spins", type=int, nargs="+", default=[int(SPINS)], help="values of GOMP_SPINCOUNT")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        train(SIZES[asked.network], asked.seconds)
        return
    ways: dict[str, dict[str, str]] = {"default": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
    ways |= {f"{spins} spins": {"GOMP_SPINCOUNT": str(spins)} for spins in asked.spins}
    rates: dict[tuple[str, int], list[float]] = {(way, number): [] for way in ways for number in asked.at_once}
    for _ in range(asked.rounds):
        for (way, number), found in rates.items():
            found.append(together(number, asked.network, asked.seconds, ways[way]))
    reference = statistics.median(rates["default", min(asked.at_once)])
    print(f"{os.cpu_count()} cores, network {asked.network}; images/s each: median (lowest to highest), share of it")
    for (way, number), found in rates.items():
        middle = statistics.median(found)
        print(
            f"{way:>14} {number} at once: {middle:8,.0f} ({min(found):,.0f} to {max(found):,.0f}), "
            f"{middle / reference:.2f}"
        )


if __name__ == "__main__":
    main()
