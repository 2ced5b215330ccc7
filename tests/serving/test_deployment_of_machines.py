"""What deploy/ starts for several machines fits together and passes its linters; no container is started."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import promql_parser
import pytest
from composed import ROOT, composed
from prometheus_client import Counter, Histogram
from ruamel.yaml import YAML

from csd_core.serving.telemetry import Metrics
from flows.ui.address import AUTH, DEFAULTS

DEPLOY = ROOT / "deploy"
GIVEN = {
    AUTH: "olga:correct-horse-battery",
    "CSD_STORE_KEY": "key",
    "CSD_STORE_SECRET": "secret",
    "CSD_OBJECTS": "/srv/objects",
    "CSD_DATABASE_PASSWORD": "long",
    "CSD_REPOSITORY": "https://git.example/search.git",
    "CSD_GRAFANA_PASSWORD": "long",
    "CSD_METRICS_KEY": "/srv/metrics.key",
}
"""What has no default."""
PROGRAMS = Path(sys.executable).parent


def compose(**given):
    return composed("deploy/compose.yaml", GIVEN | given)


SERVICES = compose()["services"]


def read(file):
    return YAML(typ="safe", pure=True).load((DEPLOY / file).read_text())


# --- linters ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["compose.yaml", "deploy/compose.yaml"])
def test_a_compose_file_follows_the_specification(file):
    command = [PROGRAMS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / file]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_passes_hadolint():
    done = subprocess.run([PROGRAMS / "hadolint", ROOT / "Dockerfile"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_proxy_takes_its_configuration():
    program = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no haproxy here: install Debian's haproxy")
    done = subprocess.run([program, "-c", "-f", DEPLOY / "haproxy.cfg"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "ALERT" not in done.stderr


# --- figures ----------------------------------------------------------------------------------------------------------


def figures():
    """Name of each figure that the service tells -> its labels."""
    found = {"up": set()}
    for figure in Metrics()._registry._collector_to_names:
        name, labels = figure._name, set(figure._labelnames)
        if isinstance(figure, Histogram):
            found |= {f"{name}_bucket": labels | {"le"}, f"{name}_sum": labels, f"{name}_count": labels}
        else:
            found[f"{name}_total" if isinstance(figure, Counter) else name] = labels
    return found


def asked():
    """(where, expression) of every alert and every panel."""
    for group in read("prometheus-rules.yaml")["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "service.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


@pytest.mark.parametrize(("where", "expression"), tuple(asked()), ids=lambda value: value.replace(" ", "-")[:40])
def test_an_expression_asks_for_figures_and_labels_that_the_service_tells(where, expression):
    known, names, labels = figures(), set(), set()

    def look(node):
        match node:
            case promql_parser.VectorSelector():
                names.add(node.name)
                labels.update(each.name for each in node.matchers.matchers)
            case promql_parser.AggregateExpr() if node.modifier:
                labels.update(node.modifier.labels)

    promql_parser.walk(promql_parser.parse(expression), look)
    assert names
    assert names <= known.keys()
    assert labels <= {"job", "instance"}.union(*(known[name] for name in names))


def test_every_figure_that_the_service_tells_is_on_the_dashboard():
    shown = " ".join(expression for _, expression in asked())
    missing = {name for name in figures() if not re.search(rf"\b{name}\b", shown)}
    assert {re.sub(r"_(sum|count|bucket)$", "", name) for name in missing} <= {
        "csd_request_seconds",
        "csd_step_seconds",
        "csd_batch_items",
    }


def test_panels_lie_beside_each_other_and_ask_the_data_source_that_is_there():
    board = json.loads((DEPLOY / "grafana" / "service.json").read_text())
    (source,) = read("grafana/datasources.yaml")["datasources"]
    taken = set()
    for panel in board["panels"]:
        asks = [panel["datasource"], *(each["datasource"] for each in panel["targets"])]
        assert all(each == {"type": source["type"], "uid": source["uid"]} for each in asks)
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    assert source["url"] == "http://prometheus:9090"


# --- what compose starts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_a_container_can_change_nothing_but_its_volumes(name):
    container = SERVICES[name]
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert int(container["user"].split(":")[0]) > 0
    assert container["mem_limit"]
    assert container["pids_limit"]
    assert "privileged" not in container
    assert re.fullmatch(r"v?\d+\.\d+(\.\d+)?", container["image"].rpartition(":")[2])
    assert all(port.startswith("127.0.0.1:") for port in container.get("ports", ()))


@pytest.mark.parametrize("name", GIVEN)
def test_a_value_that_is_not_set_stops_compose_with_what_to_do(name):
    with pytest.raises(KeyError, match="set it to"):
        compose(**{name: ""})


def test_no_two_containers_share_a_folder_but_through_the_store():
    named = [volume.partition(":") for each in SERVICES.values() for volume in each.get("volumes", ()) if ":" in volume]
    kept = [name for name, _, _ in named if not name.startswith("./")]
    assert len(kept) == len(set(kept))
    assert set(kept) == compose()["volumes"].keys()
    assert SERVICES["prefect-worker"]["volumes"] == ["/work"]  # of each replica
    assert "volumes" not in SERVICES["serve"]
    for name in ("serve", "prefect-worker"):
        assert int(SERVICES[name]["deploy"]["replicas"]) >= 2


def test_files_that_containers_are_given_are_there():
    mounted = [
        volume.partition(":")[0]
        for each in SERVICES.values()
        for volume in each.get("volumes", ())
        if isinstance(volume, str) and volume.startswith("./")
    ]
    assert len(mounted) == 6
    for each in mounted:
        assert (DEPLOY / each).is_file(), each
    rules = read("prometheus.yaml")["rule_files"]
    assert [f"./{Path(rule).name}:{rule}:ro" for rule in rules] == [SERVICES["prometheus"]["volumes"][1]]


def test_who_is_asked_for_by_name_is_on_a_network_of_who_asks():
    def meet(one, other):
        return bool(set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"]))

    together = [
        ("proxy", "serve"),
        ("serve", "object-store"),
        ("prefect-server", "postgres"),
        ("prefect-worker", "prefect-server"),
        ("prefect-worker", "object-store"),
        ("prometheus", "serve"),
        ("grafana", "prometheus"),
    ]
    assert all(meet(*pair) for pair in together)
    programs = ("prefect-server", "prefect-worker", "postgres")
    assert not any(meet(asks, runs) for asks in ("serve", "proxy", "prometheus", "grafana") for runs in programs)
    assert not meet("prefect-worker", "postgres")
    used = {network for each in SERVICES.values() for network in each["networks"]}
    assert used == compose()["networks"].keys()


def test_proxy_and_prometheus_find_every_replica_at_the_port_of_the_service():
    command = SERVICES["serve"]["command"]
    port = command[command.index("--port") + 1]
    template = re.search(r"server-template serve (\d+) serve:(\d+)", (DEPLOY / "haproxy.cfg").read_text())
    assert template[2] == port
    assert int(template[1]) >= int(SERVICES["serve"]["deploy"]["replicas"])
    (job,) = read("prometheus.yaml")["scrape_configs"]
    assert job["dns_sd_configs"][0].items() >= {"names": ["serve"], "port": int(port)}.items()
    assert job["authorization"]["credentials_file"] == f"/run/secrets/{SERVICES['prometheus']['secrets'][0]}"


def test_server_and_workers_are_told_what_they_are_told_on_one_machine():
    alone = composed("compose.yaml", GIVEN)["services"]
    server = dict(SERVICES["prefect-server"]["environment"])
    database = server.pop("PREFECT_SERVER_DATABASE_CONNECTION_URL")
    assert database == f"postgresql+asyncpg://prefect:{GIVEN['CSD_DATABASE_PASSWORD']}@postgres/prefect"
    assert server == alone["prefect-server"]["environment"]
    assert server.items() >= DEFAULTS.items()
    worker = SERVICES["prefect-worker"]["environment"]
    assert worker.items() >= alone["prefect-worker"]["environment"].items()
    for name in ("serve", "postgres", "prefect-server", "object-store"):
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_the_manual_names_every_container_and_every_value():
    manual = (ROOT / "docs" / "deployment.md").read_text()
    for name in (*SERVICES, *GIVEN):
        assert f"`{name}`" in manual or f"{name}=" in manual, name
