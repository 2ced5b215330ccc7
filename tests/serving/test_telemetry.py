import io
import json
import logging
import os
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

from csd_core.serving.telemetry import MULTIPROCESS, Metrics, configure_logs, forget_dead


def figures(text):
    """Sample name and labels -> value."""
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def shown(metrics):
    content, kind = metrics.render()
    assert kind.startswith("text/plain")
    return figures(content.decode())


def test_every_figure_is_told():
    metrics = Metrics()
    metrics.request(route="/v1/search", method="POST", status=200, seconds=0.02)
    with metrics.step("search"):
        pass
    metrics.batch("embed", [0.25, 0.5, 0.0])
    metrics.waiting(2)
    metrics.release(4, variant="int8")
    metrics.gallery_rows(70)
    metrics.cache(hit=True)
    metrics.cache(hit=False)
    metrics.upgrade(served=True)
    metrics.upgrade(served=False)
    metrics.refused(yes=True)
    told = shown(metrics)
    assert told["csd_requests_total", ("method", "POST"), ("route", "/v1/search"), ("status", "200")] == 1
    assert told["csd_request_seconds_sum", ("route", "/v1/search")] == 0.02
    assert told["csd_step_seconds_count", ("step", "search")] == 1
    assert told["csd_batch_items_sum", ("kind", "embed")] == 3
    assert told["csd_step_seconds_count", ("step", "wait")] == 3
    assert told["csd_step_seconds_sum", ("step", "wait")] == 0.75
    assert told[("csd_waiting",)] == 2
    assert told["csd_release", ("variant", "int8")] == 4
    assert told[("csd_gallery_rows",)] == 70
    assert [told["csd_cache_total", ("outcome", outcome)] for outcome in ("hit", "miss")] == [1, 1]
    assert [told["csd_upgrades_total", ("outcome", outcome)] for outcome in ("served", "refused")] == [1, 1]
    assert told[("csd_refused",)] == 1


def test_a_step_that_fails_is_timed_too():
    metrics = Metrics()
    with pytest.raises(ValueError, match="bad"), metrics.step("decode"):
        raise ValueError("bad")
    assert shown(metrics)["csd_step_seconds_count", ("step", "decode")] == 1


def test_a_variant_that_is_no_longer_served_is_not_told():
    metrics = Metrics()
    metrics.release(3, variant="int8")
    metrics.release(4, variant="fp32")
    told = shown(metrics)
    assert told["csd_release", ("variant", "fp32")] == 4
    assert ("csd_release", ("variant", "int8")) not in told


def in_a_process(folder, code):
    """Standard output of Python code in a process of its own that shares its figures in `folder`."""
    code = "from csd_core.serving.telemetry import *\nmetrics = Metrics()\n" + code
    environment = os.environ | {MULTIPROCESS: str(folder)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


RENDER = "\nprint(metrics.render()[0].decode())"


def test_several_processes_share_figures_and_the_dead_leave_only_their_counts(tmp_path):
    in_a_process(
        tmp_path,
        "metrics.release(3, variant='fp32'); metrics.gallery_rows(10); metrics.refused(yes=True); metrics.waiting(5)\n"
        "metrics.cache(hit=True)",
    )
    both = (
        "metrics.release(4, variant='fp32'); metrics.gallery_rows(20); metrics.refused(yes=False); metrics.waiting(1)\n"
    )
    before = figures(in_a_process(tmp_path, both + "metrics.cache(hit=True)" + RENDER))
    assert before["csd_release", ("variant", "fp32")] == 3
    assert before[("csd_waiting",)] == 6
    told = figures(in_a_process(tmp_path, f"forget_dead(Path({str(tmp_path)!r}))\n" + both + RENDER))
    assert told["csd_release", ("variant", "fp32")] == 4
    assert told[("csd_gallery_rows",)] == 20
    assert told[("csd_refused",)] == 0
    assert told[("csd_waiting",)] == 1
    assert told["csd_cache_total", ("outcome", "hit")] == 2


def test_processes_forget_a_variant_that_none_serves_any_more(tmp_path):
    moves = "metrics.release(3, variant='int8'); metrics.release(4, variant='fp32')"
    told = figures(in_a_process(tmp_path, moves + RENDER))
    assert told["csd_release", ("variant", "fp32")] == 4
    assert ("csd_release", ("variant", "int8")) not in told
    back = figures(in_a_process(tmp_path, moves + "; metrics.release(5, variant='int8')" + RENDER))
    assert back["csd_release", ("variant", "int8")] == 5


class Living:
    """A process that shares its figures in a folder and does what it is told."""

    def __init__(self, folder):
        code = "import sys\nfrom csd_core.serving.telemetry import *\nmetrics = Metrics()\n"
        code += "for line in sys.stdin:\n    exec(line)\n    print('# done', flush=True)"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code],
            env=os.environ | {MULTIPROCESS: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, code):
        """What it prints."""
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()
        return "".join(iter(self.process.stdout.readline, "# done\n"))

    def variants(self):
        """Variant -> release, as it tells them for all."""
        told = figures(self(RENDER.strip()))
        return {labels[0][1]: value for (name, *labels), value in told.items() if name == "csd_release"}


@pytest.fixture
def living(tmp_path):
    """Two processes that share their figures."""
    both = [Living(tmp_path), Living(tmp_path)]
    yield both
    for each in both:
        each.process.stdin.close()
        assert each.process.wait(10) == 0
        each.process.stdout.close()


@pytest.mark.parametrize(("old", "new"), [("int8", "fp32"), ("fp32", "int8")])
def test_living_processes_tell_a_variant_as_long_as_one_of_them_serves_it(living, old, new):
    first, second = living
    for each in living:
        each(f"metrics.release(3, variant={old!r})")
    assert first.variants() == second.variants() == {old: 3}
    first(f"metrics.release(4, variant={new!r})")
    assert first.variants() == second.variants() == {old: 3, new: 4}
    second(f"metrics.release(4, variant={new!r})")
    assert first.variants() == second.variants() == {new: 4}


def test_a_living_process_is_not_forgotten(tmp_path):
    file = tmp_path / f"gauge_livesum_{os.getpid()}.db"
    file.touch()
    forget_dead(tmp_path)
    assert file.exists()


@pytest.fixture
def logged(monkeypatch):
    """What `configure_logs` lets through, as dicts; the loggers are put back."""
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    loggers = [logging.getLogger(name) for name in ("csd.serving", "uvicorn")]
    before = [(logger.handlers, logger.propagate, logger.level) for logger in loggers]
    configure_logs("INFO")
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    for logger, (handlers, propagate, level) in zip(loggers, before, strict=True):
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


def test_a_log_line_is_one_object_with_a_time_in_utc_and_its_extras(logged):
    logging.getLogger("csd.serving").info("answered", extra={"path": "/v1/a\nb", "status": 200, "key": None})
    (line,) = logged()
    assert datetime.fromisoformat(line.pop("time")).utcoffset() == timedelta(0)
    assert line == {
        "level": "INFO",
        "logger": "csd.serving",
        "message": "answered",
        "path": "/v1/a\nb",
        "status": 200,
        "key": None,
    }


def test_a_traceback_and_a_line_of_uvicorn_are_objects_too(logged):
    logging.getLogger("csd.serving").error("failed", exc_info=ValueError("bad"))
    logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[1mStarted"})
    logging.getLogger("csd.serving").debug("not at this level")
    failed, started = logged()
    assert "ValueError: bad" in failed["exc_info"]
    assert (started["logger"], started["message"]) == ("uvicorn.error", "Started")
    assert "color_message" not in started
