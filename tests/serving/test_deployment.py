"""What the Dockerfile, compose.yaml and the alerts say holds for this project; no container is started."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path

import fsspec
import httpx
import psutil
import pytest
from composed import composed
from patience import PATIENCE
from ports import free_port
from ruamel.yaml import YAML

from csd_core.serving import telemetry
from csd_core.serving.http.edge import OPEN
from csd_core.serving.server import GRACE_SECONDS
from csd_core.system.errors import ParamsError
from flows.ui.address import AUTH, DEFAULTS, ServerAddress
from flows.ui.server import POOL

ROOT = Path(__file__).parents[2]
OURS = {"serve": "serve", "prefect-server": "flows", "prefect-worker": "flows"}
"""Services of our images -> target of the Dockerfile."""
GIVEN = {
    AUTH: "olga:correct-horse-battery",
    "CSD_STORE_KEY": "key",
    "CSD_STORE_SECRET": "secret",
    "CSD_OBJECTS": "/srv/objects",
}
"""What has no default."""


def instructions():
    """(stage, instruction, its words) of the Dockerfile, continued lines joined, comments left out."""
    text = "\n".join(line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.startswith("#"))
    stage = None
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        name, rest = line.split(maxsplit=1)
        if name == "FROM":
            stage = rest.split()[-1]
        yield stage, name, rest


def parents():
    """Stage -> what it is made from."""
    return {stage: rest.split()[0] for stage, name, rest in instructions() if name == "FROM"}


def last(stage, name):
    """The last such instruction of a stage or of those it is made from."""
    while stage in parents():
        found = [rest for where, each, rest in instructions() if (where, each) == (stage, name)]
        if found:
            return found[-1]
        stage = parents()[stage]
    return None


def exec_form(text):
    return json.loads(text[text.index("[") :])


def compose(**given):
    return composed("compose.yaml", GIVEN | given)


def services():
    return compose()["services"]


def test_the_dockerfile_copies_only_files_that_there_are_and_that_a_build_is_given():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert ignore[1] == "*"
    admitted = [line.removeprefix("!") for line in ignore if line.startswith("!")]
    copied = [
        source
        for _, name, rest in instructions()
        if name == "COPY" and "--from" not in rest
        for source in shlex.split(rest)[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, each) for each in admitted), source


@pytest.mark.parametrize(("stage", "extra"), [("serve-builder", "serve,store"), ("flows-builder", "flows")])
def test_an_image_is_installed_with_an_extra_of_the_project_and_its_tested_versions(stage, extra):
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installs = [rest for where, name, rest in instructions() if (where, name) == (stage, "RUN")]
    asked = [re.findall(r"'\.\[([\w,]+)\]'", each) for each in installs]
    assert asked == [[extra], []]
    assert set(extra.split(",")) <= known["optional-dependencies"].keys()
    assert "--constraint constraints.txt" in installs[0]
    assert "==" not in installs[0]  # what has no extra of its own would have no tested version
    assert "--no-deps" in installs[1]
    assert last("serve", "LABEL") is not None
    assert f'org.opencontainers.image.version="{known["version"]}"' in last("runtime", "LABEL")


def test_scheduled_retraining_opens_an_object_store_with_tested_versions():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for name in ("dvc-s3", "s3fs", "aiobotocore", "botocore", "fsspec"):
        assert pins[name] == version(name), name
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["flows"]
    assert [each for each in asked if each.startswith("dvc[s3]")]
    assert "s3" in fsspec.get_filesystem_class("s3").protocol


def test_the_image_of_the_service_is_made_by_default_and_shares_no_layer_with_torch():
    assert list(parents())[-1] == "serve"
    assert parents()["serve"] == "runtime"
    assert "serve-builder" in last("serve", "COPY")
    assert "torch" not in " ".join(rest for stage, _, rest in instructions() if stage in ("serve", "serve-builder"))


def test_base_images_are_pinned_and_no_package_registry_is_named():
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG PYTHON=3\.11\.\d+-slim-\w+$", text, re.MULTILINE)
    assert {base for base in parents().values() if base not in parents()} == {"python:${PYTHON}"}
    for each in ("Dockerfile", "compose.yaml"):
        assert not re.search(r"index-url|pypi|https://", (ROOT / each).read_text()), each


@pytest.mark.parametrize("target", ["serve", "flows"])
def test_an_image_runs_as_a_numeric_user_who_is_not_root_and_starts_without_a_shell(target):
    user, group = last(target, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0
    assert exec_form(last(target, "CMD"))
    assert last(target, "STOPSIGNAL") == "SIGTERM"
    assert last(target, "WORKDIR") == last("serve", "VOLUME") == "/project"


def test_what_is_written_in_an_image_goes_to_the_project_or_to_tmp():
    said = " ".join(rest for _, name, rest in instructions() if name == "ENV")
    for name in ("HOME", "PREFECT_HOME", "DVC_SITE_CACHE_DIR"):
        assert re.search(rf"\b{name}=/tmp\b", said), name


def test_the_command_of_the_service_is_one_that_csd_takes():
    command = exec_form(last("serve", "CMD"))
    assert command[:2] == ["csd", "serve"]
    help_text = subprocess.run(
        [sys.executable, "-m", "csd_core.cli", "serve", "--help"], capture_output=True, text=True, check=True
    ).stdout
    for option in [*filter(lambda word: word.startswith("--"), command), "--workers"]:
        assert option in help_text


def test_the_check_of_the_service_asks_what_is_open_without_a_key():
    checks = [exec_form(last("serve", "HEALTHCHECK")), services()["serve"]["healthcheck"]["test"][1:]]
    assert checks[0] == checks[1]
    port = exec_form(last("serve", "CMD"))[-1]
    path = re.search(rf"http://127\.0\.0\.1:{port}(/\w+)'", checks[0][-1])[1]
    assert path in OPEN


def test_the_check_fails_where_nothing_answers():
    code = exec_form(last("serve", "HEALTHCHECK"))[-1]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        code = code.replace(":8000", f":{nobody.getsockname()[1]}")
        assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode != 0


def test_the_check_passes_where_the_service_is_ready(service):
    code = exec_form(last("serve", "HEALTHCHECK"))[-1].replace("http://127.0.0.1:8000", service)
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"http_proxy": "http://127.0.0.1:9"})


@pytest.mark.parametrize("name", [*OURS, "object-store"])
def test_a_container_can_change_nothing_but_its_volumes(name):
    container = services()[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert int(container["user"].split(":")[0]) > 0
    assert all(re.fullmatch(r"/tmp:size=\d+[mg]", each) for each in container["tmpfs"])  # noqa: S108 - of the container
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert "privileged" not in container


def test_every_image_has_a_fixed_tag():
    for container in services().values():
        tag = container["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), container["image"]


def test_ports_are_reached_from_this_machine_alone():
    published = [port for container in services().values() for port in container["ports"]]
    assert len(published) == len(set(published))
    assert all(port.startswith("127.0.0.1:") for port in published)


@pytest.mark.parametrize(("name", "target"), OURS.items())
def test_compose_agrees_with_the_dockerfile(name, target):
    container = services()[name]
    built = [
        each["build"]["target"]
        for each in services().values()
        if each.get("image") == container["image"] and "build" in each
    ]
    assert built == [target]
    exposed = last(target, "EXPOSE").split()
    assert container["ports"][0].rpartition(":")[2] in exposed
    assert container["user"] == last(target, "USER")
    if name != "prefect-server":
        assert container["volumes"][0]["target"] == last(target, "WORKDIR")


def test_the_service_is_given_the_time_that_its_requests_may_take():
    assert int(services()["serve"]["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS


def test_the_service_cannot_reach_what_runs_programs():
    networks = {name: set(container["networks"]) for name, container in services().items()}
    assert not networks["serve"] & (networks["prefect-server"] | networks["prefect-worker"] | networks["object-store"])


@pytest.mark.parametrize("name", GIVEN)
def test_a_password_that_is_not_set_stops_compose_with_what_to_do(name):
    with pytest.raises(KeyError, match="set it to"):
        compose(**{name: ""})


def test_the_server_of_flows_is_told_what_make_ui_tells_it():
    told = services()["prefect-server"]["environment"]
    server_address = ServerAddress.checked("0.0.0.0", 4200, auth=GIVEN[AUTH])  # noqa: S104 - of the container
    wanted = server_address.environment({}, home=Path("/prefect"))
    elsewhere = {
        "PREFECT_UI_URL": "http://127.0.0.1:4200",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1:4200",
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": "/tmp/ui",  # noqa: S108 - of the container
    }  # by the port of this machine, not by the container's name; and nothing is written beside the code
    of_runs = {"CSD_REPORTS_URL", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY"}
    assert told == {name: value for name, value in (wanted | elsewhere).items() if name not in of_runs}
    assert told.items() >= DEFAULTS.items()


def test_alerts_name_figures_that_the_service_has():
    rules = YAML(typ="safe").load((ROOT / "deploy" / "prometheus-rules.yaml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asked = {name for each in expressions for name in re.findall(r"\bcsd_\w+", each)}
    known = set(re.findall(r'"(csd_\w+)"', Path(telemetry.__file__).read_text()))
    assert {re.sub(r"_bucket$", "", name) for name in asked} <= known
    assert len(asked) >= 4


def test_alerts_and_their_remedies_are_in_the_manual():
    manual = (ROOT / "docs" / "serving.md").read_text()
    rules = YAML(typ="safe").load((ROOT / "deploy" / "prometheus-rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert f"`{rule['alert']}`" in manual, rule["alert"]


# --- the worker's script ----------------------------------------------------------------------------------------------

WORKER = [sys.executable, str(ROOT / "deploy" / "worker.py")]
TOY = '''
import time

from prefect import flow

from flows.ui.parent_watchdog import ends_with_its_worker


@flow
def toy(seconds: float = 0.0) -> None:
    """Waits."""
    with ends_with_its_worker():
        time.sleep(seconds)
'''
DEPLOYMENT = f"""
name: toy
deployments:
  - name: toy
    entrypoint: toy.py:toy
    work_pool: {{name: {POOL}, job_variables: {{stream_output: false}}}}
"""


def clean():
    return {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT", "CSD"))}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "PREFECT_API_URL: is not set"),
        ({"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_UI_URL": "http://127.0.0.1:9"}, "has no prefect.yaml"),
    ],
)
def test_the_worker_says_in_one_line_what_it_lacks(tmp_path, given, said):
    done = subprocess.run(WORKER, check=False, cwd=tmp_path, env=clean() | given, capture_output=True, text=True)
    assert done.returncode == ParamsError.exit_code
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_worker_deploys_no_flow_of_a_clone_that_runs_would_not_find(tmp_path):
    for command in (["init", "--quiet", "--initial-branch", "main"], ["add", "--all"]):
        (tmp_path / "prefect.yaml").write_text(DEPLOYMENT)
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    identity = ["-c", "user.name=Tester", "-c", "user.email=tester@localhost"]
    subprocess.run(["git", "-C", str(tmp_path), *identity, "commit", "--quiet", "--message", "a project"], check=True)
    given = {
        "PREFECT_API_URL": "http://127.0.0.1:9/api",
        "PREFECT_UI_URL": "http://127.0.0.1:9",
        "CSD_REPOSITORY": str(tmp_path),
        "CSD_PROJECTS": str(tmp_path / "mine"),
    }
    done = subprocess.run(WORKER, check=False, cwd=tmp_path, env=clean() | given, capture_output=True, text=True)
    assert done.returncode == ParamsError.exit_code
    assert "prefect.yaml: has no flows.runs.clone.own_clone under pull" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_worker_serves_no_report_without_a_password(tmp_path):
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENT)
    given = {"PREFECT_API_URL": "http://127.0.0.1:9/api", "PREFECT_UI_URL": "http://127.0.0.1:9"}
    done = subprocess.run(WORKER, check=False, cwd=tmp_path, env=clean() | given, capture_output=True, text=True)
    assert done.returncode == ParamsError.exit_code
    assert AUTH in done.stderr


def awaited(holds, within=PATIENCE):
    deadline = time.monotonic() + within
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.2)
    return found


@contextmanager
def process(command, *, log, **options):
    with log.open("w") as output:
        running = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, **options)
    try:
        yield running
    finally:
        if running.poll() is None:
            running.terminate()
            running.wait(60)


@pytest.mark.slow
def test_server_and_worker_as_compose_starts_them_run_a_flow_and_end_with_nothing_left(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "prefect.yaml").write_text(DEPLOYMENT)
    port, reports = free_port(), free_port()

    def told(name):
        here = json.dumps(services()[name]["environment"]).replace("prefect-server:4200", f"127.0.0.1:{port}")
        values = json.loads(here.replace("4200", str(port)))
        elsewhere = {"PREFECT_HOME": name, "PREFECT_SERVER_UI_STATIC_DIRECTORY": "ui"}
        return clean() | values | {variable: str(tmp_path / each) for variable, each in elsewhere.items()}

    user, _, password = GIVEN[AUTH].partition(":")
    with (
        process(
            [sys.executable, "-m", "prefect", "server", "start"],
            log=tmp_path / "server.log",
            env=told("prefect-server"),
        ),
        httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api", auth=(user, password), trust_env=False, timeout=60
        ) as client,
    ):

        def healthy():
            try:
                return httpx.get(f"http://127.0.0.1:{port}/api/health", trust_env=False, timeout=60).status_code == 200
            except httpx.TransportError:
                return False

        awaited(healthy)
        log = tmp_path / "worker-output.log"
        command = [*WORKER, "--port", str(reports), "--workers", "2"]
        with process(command, log=log, cwd=tmp_path, env=told("prefect-worker")) as worker:
            awaited(lambda: "At work." in log.read_text() or worker.poll() is not None)
            assert "At work." in log.read_text(), log.read_text()
            assert httpx.get(f"http://127.0.0.1:{reports}/", trust_env=False, timeout=60).status_code == 401
            token = client.get("/csrf-token", params={"client": "test"}).json()["token"]
            client.headers.update({"Prefect-Csrf-Token": token, "Prefect-Csrf-Client": "test"})
            deployment = client.post("/deployments/filter", json={}).json()[0]["id"]
            run = client.post(
                f"/deployments/{deployment}/create_flow_run", json={"parameters": {"seconds": 300}}
            ).json()["id"]

            def state():
                return client.get(f"/flow_runs/{run}").json()["state"]["type"]

            awaited(lambda: state() == "RUNNING")
            family = psutil.Process(worker.pid).children(recursive=True)
            worker.send_signal(signal.SIGTERM)  # as a container is stopped
            assert worker.wait(60) == 0
            assert "1 of its runs stopped" in log.read_text()
            assert not [each for each in family if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
            awaited(lambda: state() == "CRASHED")
