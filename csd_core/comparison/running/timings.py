"""How long the stages of a cell ran: side effects, kept beside the artefacts and never in them."""

import re
import time
from pathlib import Path

from pydantic import Field

from csd_core.records.stages import Record

SAVED_EVERY = 5.0
"""Seconds of a running stage that a killed run forgets at most."""

RUNS = re.compile(r"Running stage '([^']+)'")
CACHED = re.compile(r"Stage '([^']+)' is cached")
ENDS = ("Stage '", "Updating lock file", "Generating lock file", "ERROR: ")


class StageTime(Record):
    """One stage that really ran; over all the runs it took, if it was interrupted."""

    seconds: float
    finished: bool


class Timings(Record):
    """timings.json: stage -> its time, of those that did not come from DVC's cache."""

    stages: dict[str, StageTime] = Field(default_factory=dict)

    @classmethod
    def of(cls, file: Path) -> "Timings":
        """Read what a cell's watch wrote; empty where nothing ran."""
        return cls.load(file) if file.is_file() else cls()


class Watch:
    """Measures the stages of `dvc repro` by what it prints.

    Attributes:
        running: The stage at work now.
    """

    def __init__(self, file: Path) -> None:
        self.running: str | None = None
        self._file = file
        self._stages = dict(Timings.of(file).stages)
        self._before = self._started = self._saved = 0.0

    def see(self, line: str) -> None:
        """Take in one line of DVC's output."""
        runs, cached = RUNS.match(line), CACHED.match(line)
        if runs or line.startswith(ENDS):
            self.stop(finished=not line.startswith("ERROR: "))
        if runs:
            self._start(runs[1])
        elif cached:
            self._stages.pop(cached[1], None)  # what it took with other inputs is not what it takes
            self._save()
        elif self.running and time.monotonic() - self._saved > SAVED_EVERY:
            self._note(finished=False)

    def stop(self, *, finished: bool) -> None:
        """The running stage, if there is one, has ended."""
        if self.running:
            self._note(finished=finished)
            self.running = None

    def _start(self, stage: str) -> None:
        former = self._stages.get(stage)
        self._before = former.seconds if former and not former.finished else 0.0
        self._started = time.monotonic()
        self.running = stage
        self._note(finished=False)

    def _note(self, *, finished: bool) -> None:
        seconds = self._before + time.monotonic() - self._started
        self._stages[str(self.running)] = StageTime(seconds=round(seconds, 2), finished=finished)
        self._save()

    def _save(self) -> None:
        self._saved = time.monotonic()
        Timings(stages=self._stages).save(self._file)
