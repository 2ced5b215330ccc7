"""What a `dvc repro` that has nothing to do takes, and the report, for several numbers of tasks.

Clones the last commit, runs a pipeline of small tasks (about 15 s a task), then runs `dvc repro` again, and the stage
`report` alone. Seconds are of a processor, with those of children; memory is the most that one process held. The
reference is an import of DVC.

python benchmarks/noop.py [--tasks 3 20] [--repeats 3]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]


def prepare(folder: Path, tasks: int) -> None:
    """A clone with one class of small images for each task."""
    subprocess.run(["git", "clone", "-q", "--no-local", str(ROOT), str(folder)], check=True)
    rng = np.random.default_rng(0)
    names = [f"c{number:02}" for number in range(tasks)]
    for number, name in enumerate(names):
        (folder / "photos" / name).mkdir(parents=True)
        for image in range(20):
            pixels = rng.integers(0, 60, (8, 8), dtype=np.uint8) + np.uint8(number * 9)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{image}.png")
    yaml = YAML(typ="safe")
    params = yaml.load(folder / "csd_core/project/profiles" / "digits.yaml")
    params["sources"] = {"published": {}, "folders": {"photos": {"path": "photos", "layout": "classes"}}}
    lines = [f"t{number}" for number in range(1, tasks + 1)]
    params["tasks"] = {
        task: {"previous": previous, "recipe": "later" if number else "first", "source": "photos", "classes": [name]}
        for number, (task, previous, name) in enumerate(zip(lines, ["init", *lines], names, strict=False))
    }
    params["decisions"] = dict.fromkeys(lines, "auto")
    params["report"]["after"] = lines[-1]
    params["training"]["network"].update(depth=8, width=4)
    for stage in ("first", "later"):
        params["training"][stage].update(epochs=1)
    params["export"]["parity_images"] = 33
    with (folder / "params.yaml").open("w", encoding="utf-8") as file:
        YAML().dump(params, file)


class Cost(NamedTuple):
    """What a command took."""

    processor: float
    """Seconds, with those of its children."""
    peak: float
    """MiB."""


def cost(folder: Path, *command: str) -> Cost:
    """Of one command, its output thrown away."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    child = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command)
    return Cost(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def main() -> None:
    """Print a line for each number of tasks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs="+", default=[3, 20])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for tasks in options.tasks:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "project"
            prepare(folder, tasks)
            first = cost(folder, "dvc", "repro", "--quiet")
            again, report, bare = (
                min(cost(folder, *command) for _ in range(options.repeats))
                for command in (
                    ("dvc", "repro", "--quiet"),
                    (sys.executable, "-m", "csd_core.stages.report"),
                    (sys.executable, "-c", "import dvc.repo"),
                )
            )
            print(
                f"{tasks} tasks, {3 + 5 * tasks} stages: first run {first.processor:.0f} s; nothing to do "
                f"{again.processor:.2f} s, {again.processor / bare.processor:.1f} x importing dvc "
                f"({bare.processor:.2f} s), {again.peak:.0f} MiB; report {report.processor:.2f} s, "
                f"{report.processor / bare.processor:.1f} x, {report.peak:.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
