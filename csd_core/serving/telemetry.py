"""Figures for Prometheus and structured logs."""

import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable that names the folder in which several processes share their figures."""
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_OWN = frozenset({*logging.makeLogRecord({}).__dict__, "message", "asctime", "color_message"})
"""Attributes of a log record that `extra` did not add."""
_to_json = json.JSONEncoder(default=str).encode
_COUNTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


class Metrics:
    """The figures of one process; several share them through files."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self._registry = registry
        self._requests = Counter(
            "csd_requests_total", "Requests answered.", ["route", "method", "status"], registry=registry
        )
        self._request_seconds = Histogram(
            "csd_request_seconds", "Seconds of a whole request.", ["route"], buckets=_SECONDS, registry=registry
        )
        self._step_seconds = Histogram(
            "csd_step_seconds",
            "Seconds of a step: decode, wait for a batch, embed and search of one, write of a commit; load of rows.",
            ["step"],
            buckets=_SECONDS,
            registry=registry,
        )
        self._wait_seconds = self._step_seconds.labels("wait")
        self._batch = Histogram("csd_batch_items", "Items in a batch.", ["kind"], buckets=_COUNTS, registry=registry)
        self._waiting = Gauge(
            "csd_waiting", "Requests that are being answered.", multiprocess_mode="livesum", registry=registry
        )
        self._release = Gauge(
            "csd_release", "Number of the release served.", ["variant"], multiprocess_mode="livemin", registry=registry
        )
        self._rows = Gauge(
            "csd_gallery_rows", "Rows of the gallery that is searched.", multiprocess_mode="livemin", registry=registry
        )
        self._refused = Gauge(
            "csd_refused", "1 while the active release is refused.", multiprocess_mode="livemax", registry=registry
        )
        self._cache = Counter("csd_cache_total", "Query images looked up.", ["outcome"], registry=registry)
        self._upgrades = Counter("csd_upgrades_total", "Releases served or refused.", ["outcome"], registry=registry)
        self._variant: str | None = None
        self._hit, self._miss = self._cache.labels("hit"), self._cache.labels("miss")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._step_seconds.labels(name).observe(time.perf_counter() - started)

    def request(self, *, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route).observe(seconds)

    def waiting(self, count: int) -> None:
        """Say how many requests are being answered."""
        self._waiting.set(count)

    def batch(self, kind: str, waits: Sequence[float]) -> None:
        """Count a batch.

        Args:
            kind: What is done with it.
            waits: Seconds that each of its items waited for it to begin.
        """
        self._batch.labels(kind).observe(len(waits))
        for seconds in waits:
            self._wait_seconds.observe(seconds)

    def release(self, number: int, *, variant: str) -> None:
        """Say which release is served."""
        if self._variant is not None and self._variant != variant:
            if os.environ.get(MULTIPROCESS):
                self._release.labels(self._variant).set(math.inf)  # the files of several processes forget no label
            else:
                self._release.clear()
        self._variant = variant
        self._release.labels(variant).set(number)

    def gallery_rows(self, count: int) -> None:
        """Say how many rows are searched."""
        self._rows.set(count)

    def cache(self, *, hit: bool) -> None:
        """Count a query image that was looked up."""
        (self._hit if hit else self._miss).inc()

    def upgrade(self, *, served: bool) -> None:
        """Count a release that was taken or refused."""
        self._upgrades.labels("served" if served else "refused").inc()

    def refused(self, *, yes: bool) -> None:
        """Say whether the active release is refused."""
        self._refused.set(int(yes))

    def render(self) -> tuple[bytes, str]:
        """Return the figures of all processes as text, and its content type."""
        registry = self._registry
        if os.environ.get(MULTIPROCESS):
            registry = CollectorRegistry()
            registry.register(_Shared())
        return generate_latest(registry), CONTENT_TYPE_LATEST


class _Shared(Collector):
    """The figures of all processes, without the variants that none of them serves any more."""

    def collect(self) -> Iterable[Metric]:
        """Read them from the shared files."""
        for family in MultiProcessCollector(None).collect():  # type: ignore[no-untyped-call]
            family.samples = [sample for sample in family.samples if not math.isinf(sample.value)]
            yield family


def forget_dead(folder: Path) -> None:
    """Take processes that have ended out of the sums."""
    for file in folder.glob("*_*.db"):
        process = file.stem.rpartition("_")[2]
        if process.isdecimal() and not _lives(int(process)):
            mark_process_dead(int(process), str(folder))  # type: ignore[no-untyped-call]


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _JsonLines(logging.Formatter):
    """Writes a record as one JSON object: level, logger, message, whatever `extra` adds, and the time in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record."""
        line = {"level": record.levelname, "logger": record.name, "message": record.getMessage()}
        line |= {name: value for name, value in record.__dict__.items() if name not in _OWN}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        line["time"] = datetime.fromtimestamp(record.created, UTC).isoformat()
        return _to_json(line)


def configure_logs(level: str) -> None:
    """Write logs to stderr, one JSON object a line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines())
    for name in ("csd.serving", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.propagate = False
        logger.setLevel(level)
