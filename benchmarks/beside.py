"""Trainings beside each other on one machine, under each way in which their threads can wait for each other.

Every training is a process of its own, as DVC starts it; one, two and four of them begin together and are counted over
the same seconds. The ways take turns, so that other work on the machine slows all of them; the ratios are to the
libraries' own default, alone, in the same run.

    python benchmarks/beside.py                                   # profile tiny's network
    python benchmarks/beside.py --network large --spins 1000 10000
    python benchmarks/beside.py --project PROJECT             # a training beside the service of what is published there
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from csd_core.system.processes import SPINS, WAITING


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


class Training:
    """A process that trains for some seconds whenever it is asked to."""

    def __init__(self, size: str, setting: dict[str, str]) -> None:
        clean = {name: value for name, value in os.environ.items() if name not in WAITING}
        command = [sys.executable, str(Path(__file__)), "--network", size, "--child"]
        self._process = subprocess.Popen(
            command, env=clean | setting, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.ask("0.01")  # loads torch, and warms up
        self.answer()

    def ask(self, line: str) -> None:
        """Tell it how many seconds to train."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def answer(self) -> tuple[float, float]:
        """Images per second, and per second of a processor."""
        assert self._process.stdout is not None
        rate, by_processor = self._process.stdout.readline().split()
        return float(rate), float(by_processor)

    def end(self) -> None:
        """Let it go."""
        self._process.communicate()


def train(size: Size) -> None:
    """Read seconds from each line, train for so long, and print both rates."""
    import numpy as np  # noqa: PLC0415 - OpenMP reads the environment when torch is loaded
    from training import NEW, OLD, csd_stage  # noqa: PLC0415

    from csd_core.params.training import Network  # noqa: PLC0415

    network = Network.model_validate(
        {
            "architecture": "resnet-cifar",
            "depth": size.depth,
            "width": size.width,
            "head": "relu",
            "dimension": None,
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
    for line in sys.stdin:
        done, started, busy = 0, time.perf_counter(), time.process_time()
        while time.perf_counter() - started < float(line):
            epoch()
            done += count
        print(done / (time.perf_counter() - started), done / (time.process_time() - busy), flush=True)


def beside_service(project: Path, trainings: dict[str, Training], *, seconds: float, rounds: int) -> None:
    """Print how long searches take, alone and beside one training that waits in each way, and how fast that trains."""
    from service import load, published, quantiles, query_images, serving  # noqa: PLC0415 - as above

    files = query_images(published(project))
    times: dict[str, list[float]] = {way: [] for way in ("no training", *trainings)}
    rates: dict[str, list[float]] = {way: [] for way in trainings}
    with serving(project, 1) as (url, _, _):
        for _ in range(rounds):
            for way, found in times.items():
                if way in trainings:
                    trainings[way].ask(str(seconds))
                answered, bad = load(url, "/v1/search?k=10", files, clients=4, seconds=seconds)
                assert not bad, bad
                found.extend(answered)
                if way in trainings:
                    rates[way].append(trainings[way].answer()[0])
    for way, found in times.items():
        trained = f"; training {statistics.median(rates[way]):,.0f} images/s" if way in rates else ""
        print(f"{way:>14}: search by 4 clients {len(found) / seconds / rounds:,.0f}/s, {quantiles(found)}{trained}")


def main() -> None:
    """Print the rates of each way, alone and beside others, as shares of the default alone, and their spread."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=SIZES, default="tiny")
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="turns of every way")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 2, 4], help="trainings beside each other")
    parser.add_argument("--spins", nargs="+", default=[SPINS], help="values of GOMP_SPINCOUNT")
    parser.add_argument("--project", type=Path, help="where something was published: measure its service instead")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        train(SIZES[asked.network])
        return
    ways: dict[str, dict[str, str]] = {"default": {}, "passive": {"OMP_WAIT_POLICY": "passive"}}
    ways |= {f"{spins} spins": {"GOMP_SPINCOUNT": spins} for spins in asked.spins}
    number = 1 if asked.project else max(asked.at_once)
    trainings = {way: [Training(asked.network, setting) for _ in range(number)] for way, setting in ways.items()}
    if asked.project:
        alone = {way: first for way, (first,) in trainings.items()}
        beside_service(asked.project, alone, seconds=asked.seconds, rounds=asked.rounds)
        return
    rates: dict[tuple[str, int], list[float]] = {(way, number): [] for way in ways for number in asked.at_once}
    worth = {key: list[float]() for key in rates}
    for _ in range(asked.rounds):
        for (way, number), found in rates.items():
            at_work = trainings[way][:number]
            for each in at_work:
                each.ask(str(asked.seconds))
            answers = [each.answer() for each in at_work]
            found.append(statistics.mean(rate for rate, _ in answers))
            worth[way, number].append(statistics.mean(each for _, each in answers))
    for each in chain(*trainings.values()):
        each.end()
    print(f"{os.cpu_count()} cores, network {asked.network}, {asked.rounds} turns; each training's images/s: median")
    print("(lowest to highest), as a share of the default alone in the same turn; images per second of a processor")
    default_alone = rates["default", min(asked.at_once)]
    for (way, number), found in rates.items():
        shares = [rate / reference for rate, reference in zip(found, default_alone, strict=True)]
        print(
            f"{way:>14}, {number} at once: {statistics.median(found):7,.0f} ({min(found):,.0f} to {max(found):,.0f}); "
            f"{statistics.median(shares):.2f} ({min(shares):.2f} to {max(shares):.2f}); "
            f"{statistics.median(worth[way, number]):,.0f}"
        )


if __name__ == "__main__":
    main()
