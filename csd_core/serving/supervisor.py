"""Keeps the processes of a service alive: one that died is started again, soon at first, then ever more slowly.

uvicorn's own supervisor kills a worker that does not answer a ping within seconds. One that still imports, on a slow or
busy machine, cannot answer; so there every worker is killed before it is ready, again and again. Here a process that
runs is left alone, and whether it answers is for `/readyz` to say.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from csd_core.system.processes import ended

STEADY_SECONDS = 60.0
"""A worker that ran for so long was well; the next one starts at once."""
FIRST_WAIT, LONGEST_WAIT = 1.0, 30.0
"""Seconds before a worker is started again after it died young, doubled each time."""
log = logging.getLogger("csd.serving")


@dataclass(slots=True)
class _Place:
    """One worker's place: who holds it, since when, and when the next one may.

    Attributes:
        started: Of the monotonic clock.
        next_start: When it is filled again; None while a process holds it.
        wait: Seconds of the last wait; 0 after a worker that was well.
        served: A worker of this place has started up at least once.
        asked: It was asked whether it has, and has not answered yet.
    """

    started: float
    next_start: float | None = None
    wait: float = 0.0
    served: bool = False
    asked: bool = field(default=False, kw_only=True)


class Supervisor(Multiprocess):
    """uvicorn's supervisor with another idea of which worker is dead.

    Attributes:
        failed: Why it gave up; empty if it was told to end.
    """

    failed = ""

    def __init__(self, *arguments: object, clock: Callable[[], float] = time.monotonic, **more: object) -> None:
        super().__init__(*arguments, **more)  # type: ignore[arg-type]
        self._clock = clock
        self._places: list[_Place] = []

    def init_processes(self) -> None:
        """Start all workers."""
        super().init_processes()
        self._places = [_Place(self._clock()) for _ in self.processes]

    def keep_subprocess_alive(self) -> None:
        """Start again what died; give up if none ever started up and one cannot."""
        for number in range(len(self.processes)):
            if self.should_exit.is_set():
                return
            self._look_at(number)

    def handle_hup(self) -> None:
        """Say that there is nothing to load again: releases are followed, and other code needs a new service."""
        log.info(
            "SIGHUP does nothing: a new release is served automatically; restart the service for new code or parameters"
        )

    handle_ttin = handle_ttou = handle_hup

    def _look_at(self, number: int) -> None:
        place, process = self._places[number], self.processes[number]
        if place.next_start is not None:
            if self._clock() >= place.next_start:
                self._fill(number)
            return
        if process.process.is_alive():
            self._ask(place, process)
            return
        process.join()
        lived = self._clock() - place.started
        how = ended(process.exitcode)
        if process.exitcode == STARTUP_FAILURE and not any(each.served for each in self._places):
            self.failed = f"worker {process.pid} could not start; its log lines above say why"
            self.should_exit.set()
            return
        place.wait = 0.0 if lived >= STEADY_SECONDS else min(max(FIRST_WAIT, 2 * place.wait), LONGEST_WAIT)
        place.next_start = self._clock() + place.wait
        log.error(
            "worker ended",
            extra={
                "worker": process.pid,
                "reason": f"{how} {lived:.1f} s after its start",
                "next_start_s": place.wait,
            },
        )

    def _fill(self, number: int) -> None:
        process = Process(self.config, self.sockets)
        process.start()
        self.processes[number] = process
        place = self._places[number]
        place.started, place.next_start, place.asked = self._clock(), None, False

    @staticmethod
    def _ask(place: _Place, process: Process) -> None:
        """Note whether it has started up, without waiting for its answer."""
        if place.served:
            return
        try:
            if not place.asked:
                process.parent_conn.send(b"ping")
                place.asked = True
            elif process.parent_conn.poll(0):
                place.served, place.asked = bool(process.parent_conn.recv()), False
        except (OSError, EOFError):  # it is ending; the next look finds it ended
            return
