"""`csd ui` with a real server and worker, in a project of its own."""

import base64
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import psutil
import pytest
from operators import FAR_HOUR
from patience import PATIENCE
from ports import free_port

from csd_core.system.errors import CsdError
from flows.ui.address import AUTH, ServerAddress
from flows.ui.server import POOL, Interruption, LocalStack
from flows.ui.setup import AUTOMATION

KNOWN = ("olga", "correct-horse-battery")

TOY = '''
import os
import time
from pathlib import Path

from prefect import flow

from flows.ui.parent_watchdog import ends_with_its_worker


@flow
def toy(seconds: float = 0.0) -> str:
    """Waits."""
    with ends_with_its_worker():
        Path("toy.pid").write_text(str(os.getpid()))
        time.sleep(seconds)
    return os.environ["CSD_REPORTS_URL"]
'''
DEPLOYMENTS = f"""
name: toy
deployments:
  - name: toy
    entrypoint: toy.py:toy
    work_pool: {{name: {POOL}, job_variables: {{stream_output: false}}}}
    schedules: [{{cron: "0 {FAR_HOUR} * * *", timezone: UTC, slug: nightly}}]
"""


class Ui:
    """A running `csd ui`.

    Attributes:
        folder: Its project.
        port: Its server's.
        process: It.
    """

    def __init__(self, folder, *, port=None, host="127.0.0.1", **environment):
        self.folder, self.host, self.port = folder, host, port or free_port()
        self.output = folder / f"output-{self.port}"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "csd_core.cli",
                    "ui",
                    "--host",
                    host,
                    "--port",
                    str(self.port),
                    "--workers",
                    "2",
                ],
                cwd=folder,
                env=clean_environment() | environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.secret = environment.get(AUTH)

    def says(self, words, *, within=PATIENCE):
        await_that(lambda: words in self.output.read_text() or self.process.poll() is not None, words, within=within)
        assert words in self.output.read_text(), self.output.read_text()
        return self

    def everything(self):
        """All processes that it started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def ends(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)

    def ask(self, path, body=None, *, method="POST"):
        """Ask the API as its own client would."""
        headers = {}
        if self.secret:
            headers["Authorization"] = "Basic " + base64.b64encode(self.secret.encode()).decode()
        api = f"http://127.0.0.1:{self.port}/api"
        with httpx.Client(base_url=api, headers=headers, trust_env=False, timeout=60) as client:
            token = client.get("/csrf-token", params={"client": "test"}).raise_for_status().json()["token"]
            csrf = {"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"}
            answer = client.request(method, path, json=body or {}, headers=csrf).raise_for_status()
            return answer.json() if answer.content else None

    def start_run(self, **parameters):
        deployment = self.ask("/deployments/filter")[0]["id"]
        return self.ask(f"/deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"]

    def run(self, number):
        return self.ask("/flow_runs/filter", {"flow_runs": {"id": {"any_": [number]}}})[0]

    def awaits(self, number, state, *, within=PATIENCE):
        await_that(lambda: self.run(number)["state"]["type"] == state, f"the run {state}", within=within)


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSD"))}


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return True
    return False


def await_that(holds, what, *, within=PATIENCE):
    deadline = time.monotonic() + within
    while not holds():
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        time.sleep(0.1)


def lives(process):
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def project(folder):
    folder.mkdir(exist_ok=True)
    (folder / "toy.py").write_text(TOY)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS)
    return folder


@pytest.fixture
def start(tmp_path):
    """(host, environment) -> a `csd ui` of one project, however often; it is ended with the test."""
    started = []

    def start(**options):
        started.append(Ui(project(tmp_path), **options))
        return started[-1]

    yield start
    for ui in started:
        if ui.process.poll() is None:
            ui.ends(signal.SIGTERM)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    ui = Ui(project(tmp_path_factory.mktemp("project")))
    yield ui.says("Ctrl-C stops all.")
    assert ui.ends() == 0


@pytest.mark.slow
def test_the_addresses_are_printed_and_the_server_answers(running):
    home = f"Home:     http://127.0.0.1:{running.port + 1}\n"
    assert f"{home}Flows:    http://127.0.0.1:{running.port}\n" in running.output.read_text()
    page = httpx.get(f"http://127.0.0.1:{running.port}/", trust_env=False, timeout=60, headers={"Accept": "text/html"})
    assert "Prefect" in page.raise_for_status().text
    settings = httpx.get(f"http://127.0.0.1:{running.port}/ui-settings", trust_env=False, timeout=60).json()
    assert (settings["api_url"], settings["default_ui"]) == ("/api", "v1")


@pytest.mark.slow
def test_a_deployed_run_is_taken_by_the_worker_and_knows_where_the_reports_are(running):
    number = running.start_run()
    running.awaits(number, "COMPLETED")
    assert running.run(number)["work_pool_name"] == POOL
    log = {"logs": {"flow_run_id": {"any_": [number]}}}
    await_that(
        lambda: "Finished in state Completed()" in [each["message"] for each in running.ask("/logs/filter", log)],
        "its log",
    )


@pytest.mark.slow
def test_a_cron_schedule_yields_runs_to_come(running):
    filters = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    await_that(lambda: running.ask("/flow_runs/filter", filters), "a scheduled run")
    assert f"T{FAR_HOUR:02}:00:00" in running.ask("/flow_runs/filter", filters)[0]["expected_start_time"]


@pytest.mark.slow
def test_started_twice_it_names_the_address_and_does_nothing_else(running):
    second = Ui(running.folder, port=running.port + 2)
    assert second.process.wait(150) == 0
    assert second.output.read_text() == f"The server of this project runs already: http://127.0.0.1:{running.port}\n"


@pytest.mark.slow
def test_the_reports_of_the_project_are_served(running):
    reports = running.folder / "operations" / "retrainings"
    reports.mkdir(exist_ok=True)
    (reports / "2026-11-25-quiet-otter.html").write_text("<p>report</p>")
    address = f"http://127.0.0.1:{running.port + 1}"
    listed = httpx.get(f"{address}/retrainings", trust_env=False, timeout=60).text
    assert "/2026-11-25-quiet-otter.html" in listed
    assert httpx.get(f"{address}/2026-11-25-quiet-otter.html", trust_env=False, timeout=60).text == "<p>report</p>"


@pytest.mark.slow
def test_a_page_of_another_site_can_neither_read_nor_change(running):
    address = f"http://127.0.0.1:{running.port}/api"
    read = httpx.get(f"{address}/health", headers={"Origin": "http://evil.example"}, trust_env=False, timeout=60)
    assert "access-control-allow-origin" not in read.headers
    changed = httpx.post(f"{address}/deployments/filter", json={}, trust_env=False, timeout=60)
    assert changed.status_code == 403


def automations(ui):
    return [each for each in ui.ask("/automations/filter") if each["name"] == AUTOMATION]


@pytest.mark.slow
def test_ctrl_c_once_and_again_leaves_nothing_but_the_checkpoint(start):
    ui = start().says("Ctrl-C stops all.")
    number = ui.start_run(seconds=600)
    ui.awaits(number, "RUNNING")
    everything = ui.everything()
    run = psutil.Process(int(await_content(ui.folder / "toy.pid")))
    assert run in everything
    ui.process.send_signal(signal.SIGINT)
    ui.says("Stopping ...")
    assert ui.ends() == 0
    assert not [process for process in everything if lives(process)]
    assert is_free(ui.port)
    assert is_free(ui.port + 1)
    assert "1 run is stopped; the next run continues from the checkpoint\nStopped.\n" in ui.output.read_text()
    assert state_in_database(ui, number) == "CRASHED"


def await_content(file):
    await_that(lambda: file.exists() and file.read_text(), file.name)
    return file.read_text()


def state_in_database(ui, number):
    """What the server wrote down before it ended."""
    database = sqlite3.connect(ui.folder / "operations" / "prefect" / "prefect.db")
    try:
        return database.execute("SELECT state_type FROM flow_run WHERE id = ?", (number,)).fetchone()[0]
    finally:
        database.close()


def schedules(ui):
    return ui.ask("/deployments/filter")[0]["schedules"]


@pytest.mark.slow
def test_after_a_power_cut_the_lost_run_is_marked_as_crashed_and_a_schedule_that_was_switched_off_stays_off(start):
    ui = start().says("Ctrl-C stops all.")
    (schedule,) = schedules(ui)
    assert schedule["active"]
    deployment = f"/deployments/{ui.ask('/deployments/filter')[0]['id']}"
    ui.ask(f"{deployment}/schedules/{schedule['id']}", {"active": False}, method="PATCH")
    number = ui.start_run(seconds=600)
    ui.awaits(number, "RUNNING")
    run = psutil.Process(int(await_content(ui.folder / "toy.pid")))
    beats = {"filter": {"event": {"name": ["prefect.flow-run.heartbeat"]}}}
    await_that(lambda: ui.ask("/events/filter", beats)["events"], "a heartbeat")
    everything = ui.everything()
    first = automations(ui)
    run.suspend()  # a run that lives sees its worker gone, and tells the server
    ui.ends(signal.SIGKILL)
    run.kill()
    await_that(lambda: not [process for process in everything if lives(process)], "nothing is left")
    await_that(lambda: is_free(ui.port) and is_free(ui.port + 1), "the ports are free")

    assert state_in_database(ui, number) == "RUNNING"

    again = start(port=ui.port).says("Ctrl-C stops all.")
    assert automations(again) == first
    assert [(each["slug"], each["active"]) for each in schedules(again)] == [("nightly", False)]
    again.awaits(number, "CRASHED")
    assert again.run(number)["state"]["message"].startswith("No heartbeat for 90 s")


@pytest.mark.slow
def test_on_all_addresses_everything_asks_for_the_password_and_nothing_shows_it(start):
    ui = start(host="0.0.0.0", **{AUTH: ":".join(KNOWN)}).says("Ctrl-C stops all.")  # noqa: S104 - with a password
    api = f"http://127.0.0.1:{ui.port}/api"
    for auth in (None, ("olga", "wrong-horse-battery")):
        assert httpx.get(f"{api}/admin/version", auth=auth, trust_env=False, timeout=60).status_code == 401
        assert httpx.get(f"http://127.0.0.1:{ui.port + 1}", auth=auth, trust_env=False, timeout=60).status_code == 401
    assert httpx.get(f"{api}/admin/version", auth=KNOWN, trust_env=False, timeout=60).status_code == 200
    assert httpx.get(f"http://127.0.0.1:{ui.port + 1}", auth=KNOWN, trust_env=False, timeout=60).status_code == 200
    number = ui.start_run(seconds=5)
    ui.awaits(number, "RUNNING")
    arguments = [" ".join(process.cmdline()) for process in (psutil.Process(ui.process.pid), *ui.everything())]
    assert len(arguments) == 4
    ui.awaits(number, "COMPLETED")
    assert ui.ends() == 0
    # Whole, plain or as HTTP sends it: part of it may be in a name that Prefect draws for a run, as in bold-seahorse.
    secrets = (KNOWN[1].encode(), base64.b64encode(":".join(KNOWN).encode()))
    texts = {str(file): file.read_bytes() for file in ui.folder.rglob("*") if file.is_file()}
    texts |= {f"arguments of {each[:40]}": each.encode() for each in arguments}
    assert not [where for where, text in texts.items() if any(secret in text for secret in secrets)]


def failing(folder, *arguments, **environment):
    """`csd ui` that must not start: exit code, and its one message."""
    done = subprocess.run(
        [sys.executable, "-m", "csd_core.cli", "ui", *arguments],
        cwd=folder,
        env=clean_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    return done.returncode, done.stderr


def test_another_host_without_a_password_is_refused_before_anything_starts(tmp_path):
    code, message = failing(project(tmp_path), "--host", "0.0.0.0")  # noqa: S104 - it is refused
    assert code == 2
    assert message.startswith("--host 0.0.0.0: other machines can reach this address")
    assert message.count("\n") == 1
    assert not (tmp_path / "operations").exists()


def test_a_port_in_use_is_refused_before_anything_starts(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        code, message = failing(project(tmp_path), "--port", str(other.getsockname()[1]))
    assert code == 1
    assert "address already in use by " in message
    assert message.endswith("; choose another: csd ui --port ...\n")
    assert not (tmp_path / "operations" / "prefect" / "logs").exists()


@pytest.mark.slow
def test_a_server_that_does_not_start_is_told_with_its_last_lines(tmp_path):
    port = free_port()
    broken = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "nonsense"}
    code, message = failing(project(tmp_path), "--port", str(port), **broken)
    assert code == 1
    assert message.startswith("the server did not start; its last lines:\n  ")
    assert message.endswith("(log: operations/prefect/logs/server.log)\n")
    assert is_free(port)
    assert is_free(port + 1)


def test_elsewhere_than_in_a_project_nothing_starts(tmp_path):
    code, message = failing(tmp_path)
    assert (code, message) == (2, f"{tmp_path}: has no prefect.yaml; start in the folder of the project\n")


def test_no_runs_at_a_time_is_an_error(tmp_path):
    code, message = failing(project(tmp_path), "--workers", "0")
    assert (code, message) == (2, "--workers 0: give the number of runs at a time, 1 or more\n")


@pytest.fixture
def station(tmp_path):
    """A station whose programs are ours to choose."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    server_address = ServerAddress.checked("127.0.0.1", free_port(), auth=None)
    yield LocalStack(server_address, workers=1, folder=tmp_path, interruption=Interruption())
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_a_deployment_that_fails_is_told_with_its_last_lines(station):
    with pytest.raises(CsdError, match=r"^deploy failed; its last lines:\n  no such flow\n\(log: .*deploy\.log\)$"):
        station._complete("deploy", sys.executable, "-c", "raise SystemExit('no such flow')")


def test_an_interruption_ends_the_step_that_is_under_way(station):
    os.kill(os.getpid(), signal.SIGINT)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        station._complete("deploy", sys.executable, "-c", "import time; time.sleep(900)")
    assert time.monotonic() - started < PATIENCE


def test_a_server_that_is_silent_for_too_long_is_given_up(station, monkeypatch):
    monkeypatch.setattr("flows.ui.server.STARTING", 0.0)
    silent = station._start("server", sys.executable, "-c", "import time; time.sleep(900)")
    with pytest.raises(CsdError, match=r"^the server does not answer after 0 s; its last lines:"):
        station._await_answer(silent)
    silent.end()


def test_a_server_that_ends_is_noticed(station):
    with pytest.raises(CsdError, match=r"^the server ended; its last lines:\n  out of memory"):
        station._watch(station._start("server", sys.executable, "-c", "print('out of memory')"))


@pytest.fixture
def server(station):
    server = station._start("server", sys.executable, "-c", "import time; time.sleep(900)")
    yield server
    server.end()


def test_a_worker_that_ends_at_once_is_not_started_again_and_again(station, server):
    station._worker = station._start("worker", sys.executable, "-c", "print('no such pool')")
    with pytest.raises(CsdError, match=r"^the worker ended; its last lines:\n  no such pool"):
        station._watch(server)


def test_a_worker_that_ends_after_a_while_is_started_again(station, server, monkeypatch, capsys):
    monkeypatch.setattr("flows.ui.server.SHORT_LIFE", 0.0)
    station._worker = station._start("worker", sys.executable, "-c", "print('killed')")

    def start_worker():
        os.kill(os.getpid(), signal.SIGTERM)
        return station._start("worker", sys.executable, "-c", "")

    monkeypatch.setattr(station, "_start_worker", start_worker)
    with pytest.raises(KeyboardInterrupt):
        station._watch(server)
    station._worker.end()
    assert "Starting the worker again: the worker ended; its last lines:\n  killed" in capsys.readouterr().out
