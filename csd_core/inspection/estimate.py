"""What a first run would take here, and what its gate could prove."""

import json
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from csd_core.params.model import Params
from csd_core.params.section import Split
from csd_core.system.errors import CsdError
from csd_core.system.processes import environment
from csd_core.upgrade.power import queries_for, smallest_fall

ONCE, EACH = 4, 6
"""Programs that `csd run` starts one after the other: `code`, `init`, ingest and report; and those of each task."""
EMBEDDED = 2
"""Times that each stored image is embedded after a task: by the check and by the promotion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Seconds of a first run on this machine, if every candidate is promoted by a backfill.

    Attributes:
        ingest: Decoding, as it was measured on the whole folder.
        train: Task -> all epochs, with the Recall@1 of each.
        embed: All images stored after each task, by check and promotion.
        start: Programs that start and load their libraries.
        elsewhere: Tasks of other sources, which are not counted.
    """

    ingest: float
    train: dict[str, float]
    embed: float
    start: float
    elsewhere: tuple[str, ...]

    @property
    def total(self) -> float:
        """Seconds."""
        return self.ingest + sum(self.train.values()) + self.embed + self.start


def estimate(
    params: Params, roles: Mapping[str, Mapping[Split, int]], *, ingest: float, sources: Collection[str]
) -> Estimate:
    """Measure a few batches in a process of its own, and multiply.

    Args:
        params: Of the run.
        roles: Class -> role -> images.
        ingest: Seconds of decoding.
        sources: Names of the folder in `params`.

    Raises:
        CsdError: if the measurement fails, as where torch is not installed.
    """
    classes = {
        name: [label for label in (task.classes or roles) if label in roles]
        for name, task in params.tasks.items()
        if task.source in sources
    }
    names = list(classes)
    old = len(classes[names[0]]) if len(names) > 1 else None
    speed, took = _measured(params, classes=len(set(chain(*classes.values()))), old=old)
    train: dict[str, float] = {}
    embedded = 0
    for number, name in enumerate(names):
        seen = {label for earlier in names[: number + 1] for label in classes[earlier]}
        select, stored = (_images(roles, seen, only) for only in (("select",), params.gallery.splits))
        new = _images(roles, seen if number and speed["shows_all"] else classes[name], ("train",))
        is_first = not number or speed["starts_fresh"]
        training = params.training_of(name)
        recipe = training.first if is_first else training.later
        batches = -(-new // recipe.batch_size)
        if number and not speed["shows_all"] and training.later.memory.images:
            batches *= 2  # half of what a later epoch shows is memory
        step = speed["later"] if number else speed["first"]
        train[name] = recipe.epochs * (batches * step + select * speed["embedding"])
        embedded += EMBEDDED * stored
    return Estimate(
        ingest=ingest,
        train=train,
        embed=embedded * speed["embedding"],
        start=(ONCE + EACH * len(names)) * took,
        elsewhere=tuple(name for name in params.tasks if name not in classes),
    )


def _images(roles: Mapping[str, Mapping[Split, int]], labels: Iterable[str], only: Iterable[Split]) -> int:
    """Return how many images of some classes have some roles."""
    return sum(roles[label][role] for label in labels for role in only)


def _measured(params: Params, *, classes: int, old: int | None) -> tuple[dict[str, Any], float]:
    """Return what `csd_core.stages.speed` measures, and the seconds that its start took.

    Raises:
        CsdError: if it fails.
    """
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "csd_core.stages.speed", str(classes), "" if old is None else str(old)],
        input=params.model_dump_json(),
        env=environment(),
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise CsdError(f"the speed of training cannot be measured: {last}; --quick leaves it out")
    speed = json.loads(done.stdout.splitlines()[-1])
    return speed, time.monotonic() - started - speed["measured"]


def proof(params: Params, queries: int) -> str:
    """Return a sentence on what so many gate queries can prove of the next upgrade.

    Args:
        params: Of the gate.
        queries: Images of role gate.
    """
    policy = params.gate
    fall, limit = smallest_fall(queries, policy), policy.max_regression
    said = (
        f"{queries:,} gate queries: an upgrade that changes nothing is proven to lose at most {100 * fall:.1f} points "
        f"of Recall@1 (confidence {policy.confidence:g}); gate.max_regression allows {100 * limit:.1f}"
    )
    if fall <= limit:
        return said
    needed = queries_for(limit, policy)
    more = f"about {needed:,} gate queries could" if needed else "no number of gate queries could"
    return f"{said}, which cannot be proven: {more}; add images, or raise split.gate or gate.max_regression"
