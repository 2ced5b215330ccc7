"""The stages of a checkout, as its dvc.yaml has them, and each run as a process of its own.

DVC says which stages there are, what follows what and what is stale; nothing of that is declared again here. A stage is
`dvc repro --single-item` in a process: DVC inside one is not safe for several threads, and a process can be ended.
"""

import json
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import networkx as nx
from dvc.repo import Repo

from csd_core.project.stale import CODE, without_code
from csd_core.system.children import end, family
from csd_core.system.errors import CsdError
from csd_core.system.parent import tied
from csd_core.system.processes import dvc_is_busy, environment
from csd_core.workspace import Workspace

Outcome = Literal["ran", "restored", "unchanged"]
"""restored: another run has computed it, DVC fetched it from its cache."""

REMEMBERED = 20
"""Lines of a stage that its failure tells."""
LARGEST_EXIT = 128
"""A shell adds the signal's number to it."""
DYING = 5.0
"""Seconds a stage has to end when it is told to."""

_DECORATION = re.compile(
    r"> |Running stage |Updating lock |To track the changes|git add |To enable auto|dvc config |Use `dvc "
)
"""Lines of DVC's own that tell nothing of a stage."""
_EXIT_CODE = re.compile(r"exited with (-?\d+)")


class StageFailedError(CsdError):
    """A stage ended with an error.

    Attributes:
        stage: Its name.
        process_code: Exit code of its process; negative where a signal ended it; None where DVC did not get so far.
        lines: The last it printed.
    """

    def __init__(self, stage: str, process_code: int | None, lines: Sequence[str]) -> None:
        self.stage = stage
        self.process_code = process_code
        self.lines = tuple(lines)
        super().__init__(f"{stage}: {self._reason()}")

    @property
    def transient(self) -> bool:
        """Whether the same command may well succeed next time: a signal ended it, or DVC was busy."""
        killed = self.process_code is not None and not 0 <= self.process_code <= LARGEST_EXIT
        return killed or dvc_is_busy("\n".join(self.lines))

    def _reason(self) -> str:
        own = [line for line in self.lines if not line.startswith("ERROR: ")]
        if self.transient and self.process_code is not None:
            return f"its process was killed (exit code {self.process_code}), as when memory runs out"
        if self.transient:
            return "another run is in progress here; try again when it has ended"
        lines = own or [line.removeprefix("ERROR: ") for line in self.lines]
        return lines[-1] if lines else f"failed without a word (exit code {self.process_code})"


class StoppedError(CsdError):
    """A stage was ended because its flow run ended; what it had done stays in its checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A stage of dvc.yaml.

    Attributes:
        name: As DVC addresses it, such as train@t2.
        needs: Names of the stages whose outputs it reads.
    """

    name: str
    needs: tuple[str, ...]


def stages_of(root: Path) -> tuple[Stage, ...]:
    """The stages of dvc.yaml, each after those it needs; of a .dvc file, which holds data and no command, none."""
    with Repo(str(root)) as repo:
        graph = repo.index.graph  # an edge leads from a stage to one it needs
    named = {stage: str(stage.name) for stage in graph if stage.cmd}
    order = nx.lexicographical_topological_sort(graph.reverse(copy=False), key=lambda stage: stage.addressing)
    return tuple(
        Stage(name=named[stage], needs=tuple(sorted(named[each] for each in graph.successors(stage) if each in named)))
        for stage in order
        if stage in named
    )


def stale_stages(root: Path) -> frozenset[str]:
    """Return names of the stages that DVC would not find as they were left.

    A folder of images that is not in this checkout makes no stage stale: its canonical set is in the cache.

    Raises:
        CsdError: if DVC cannot tell.
    """
    output = dvc(root, "status", "--json")
    changes = without_code(json.loads(output.splitlines()[-1]) if output else {}, Workspace(root))
    return frozenset(name for name, found in changes.items() if not _only_missing(found))


def _only_missing(changes: Sequence[Any]) -> bool:
    """Return whether nothing changed but that dependencies are not here."""
    kinds = {kind for change in changes if isinstance(change, dict) for kind in change}
    if kinds != {"changed deps"} or not all(isinstance(change, dict) for change in changes):
        return False
    return all(state == "deleted" for change in changes for state in change["changed deps"].values())


def dvc(root: Path, *arguments: str) -> str:
    """Run DVC to its end.

    Returns:
        What it printed.

    Raises:
        CsdError: with its last line, if it fails.
    """
    command = tied([sys.executable, "-m", "dvc", *arguments])
    done = subprocess.run(command, cwd=root, env=environment(), check=False, capture_output=True, text=True)
    if done.returncode:
        if dvc_is_busy(done.stderr):
            raise CsdError(f"dvc {arguments[0]}: another run is in progress in {root}; try again when it has ended")
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise CsdError(f"dvc {arguments[0]}: {lines[-1].removeprefix('ERROR: ') if lines else done.returncode}")
    return done.stdout.strip()


class Pipeline:
    """The stages of a checkout while a flow runs them; leaving it ends whatever still runs.

    Attributes:
        root: Of the checkout.
        stages: In an order in which they can run.
        stale: Names of those that DVC did not find as they were left.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stages = stages_of(root)
        self.stale = stale_stages(root)
        self._touched: set[str] = set()
        self._running: set[subprocess.Popen[str]] = set()
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        end([each for process in tuple(self._running) for each in family(process)], seconds=DYING)

    def run(self, stage: Stage, echo: Callable[[str], object]) -> Outcome:
        """Bring a stage up to date.

        Args:
            stage: One of `stages`; those it needs are up to date.
            echo: Told each line that it prints, as it comes.

        Raises:
            StageFailedError: if it fails.
            StoppedError: if the flow run ended meanwhile.
        """
        if stage.name not in self.stale and self._touched.isdisjoint(stage.needs):
            return "unchanged"
        outcome: Outcome = "unchanged"
        last: deque[str] = deque(maxlen=REMEMBERED)
        with self._repro(stage) as process:
            for line in (each.rstrip() for each in process.stdout or ()):
                if line.startswith("Running stage"):
                    outcome = "ran"
                elif "is cached - skipping run" in line:
                    outcome = "restored"
                if line and not _DECORATION.match(line.lstrip()):
                    last.append(line)
                    echo(line)
        if self._ended.is_set():
            raise StoppedError(f"{stage.name}: stopped with its run; the next run continues from its checkpoint")
        if process.returncode:
            found = _EXIT_CODE.search(" ".join(last))
            raise StageFailedError(stage.name, int(found[1]) if found else None, tuple(last))
        if stage.name == CODE:  # every stage reads it; DVC says whose own digests are others
            self.stale = stale_stages(self.root)
        elif outcome != "unchanged":
            self._touched.add(stage.name)
        return outcome

    @contextmanager
    def _repro(self, stage: Stage) -> Iterator[subprocess.Popen[str]]:
        """A process that brings a stage up to date; it never outlives the pipeline."""
        command = tied([sys.executable, "-m", "dvc", "repro", "--single-item", "--allow-missing", stage.name])
        with subprocess.Popen(
            command, cwd=self.root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            self._running.add(process)
            if self._ended.is_set():  # the pipeline was left while the process started
                end(family(process), seconds=DYING)
            try:
                yield process
            finally:
                self._running.discard(process)
