import socket
from pathlib import Path

import pytest

from csd_core.system.errors import ParamsError
from flows.ui.address import AUTH, ServerAddress

GOOD = "olga:correct-horse-battery"


@pytest.mark.parametrize(("host", "address"), [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1"), ("::1", "::1")])
def test_this_machine_alone_needs_no_password(host, address):
    assert ServerAddress.checked(host, 4200, auth=None).host == address


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])  # noqa: S104 - it is refused
def test_an_address_that_others_reach_is_refused_without_a_password(host):
    with pytest.raises(ParamsError, match=rf"^--host {host}: other machines .*; set {AUTH} to user:password"):
        ServerAddress.checked(host, 4200, auth=None)
    assert ServerAddress.checked(host, 4200, auth=GOOD).host == host


@pytest.mark.parametrize("auth", ["", "olga", ":correct-horse-battery", "olga:short", "olga:correct-hörse-battery"])
def test_a_weak_or_malformed_password_is_refused_wherever_the_server_listens_and_not_shown(auth):
    with pytest.raises(ParamsError, match=rf"^{AUTH}: expected user:password in ASCII, .* 12 characters$"):
        ServerAddress.checked("127.0.0.1", 4200, auth=auth)


def test_the_password_is_not_in_what_a_traceback_shows():
    assert "horse" not in repr(ServerAddress.checked("127.0.0.1", 4200, auth=GOOD))


@pytest.mark.parametrize("port", [0, -1, 65535])
def test_a_port_without_a_next_one_is_refused(port):
    with pytest.raises(ParamsError, match=rf"^--port {port}: give a port from 1 to 65534"):
        ServerAddress.checked("127.0.0.1", port, auth=None)


def test_a_host_that_nobody_knows_is_named():
    with pytest.raises(ParamsError, match=r"^--host no-such-host\.invalid: there is no such host"):
        ServerAddress.checked("no-such-host.invalid", 4200, auth=None)


def test_the_pages_of_reports_are_at_the_next_port():
    server_address = ServerAddress.checked("127.0.0.1", 4300, auth=None)
    assert (server_address.url, server_address.ui_url) == ("http://127.0.0.1:4300", "http://127.0.0.1:4300")
    assert server_address.reports_url == "http://127.0.0.1:4301"


def test_an_address_of_version_6_stands_in_brackets():
    assert ServerAddress.checked("::1", 4300, auth=None).url == "http://[::1]:4300"


def test_on_all_addresses_programs_here_use_the_loopback_and_people_the_machines_name():
    server_address = ServerAddress.checked("0.0.0.0", 4300, auth=GOOD)  # noqa: S104 - with a password
    assert server_address.url == "http://127.0.0.1:4300"
    assert server_address.ui_url == f"http://{socket.gethostname()}:4300"


def environment(given=None, *, auth=None):
    return ServerAddress.checked("127.0.0.1", 4300, auth=auth).environment(given or {}, home=Path("operations/prefect"))


def test_the_processes_are_told_where_the_server_and_the_reports_are():
    told = environment()
    assert told["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
    assert told["PREFECT_SERVER_API_PORT"] == "4300"
    assert told["CSD_REPORTS_URL"] == "http://127.0.0.1:4301"
    assert told["PREFECT_HOME"] == str(Path("operations/prefect").absolute())
    assert "PREFECT_API_AUTH_STRING" not in told


def test_nothing_is_reported_to_others():
    told = environment()
    assert told["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert told["PREFECT_SERVER_UI_V2_ENABLED"] == "false"
    assert told["DO_NOT_TRACK"] == "1"


def test_a_restarted_server_knows_who_holds_a_slot_and_which_runs_were_alive():
    told = environment()
    assert told["PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE"].endswith(".filesystem")
    assert told["PREFECT_SERVER_EVENTS_EXPIRED_BUCKET_BUFFER"] == "P30D"
    assert told["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_pages_of_other_sites_may_not_call_the_server():
    told = environment({"PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "*"})
    assert told["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:4300"
    assert told["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"


def test_the_worker_gets_the_password_that_the_server_asks_for():
    told = environment({"PREFECT_API_AUTH_STRING": "of:another-server"}, auth=GOOD)
    assert told["PREFECT_API_AUTH_STRING"] == told[AUTH] == GOOD


def test_what_was_said_about_database_and_reverse_proxy_stays():
    given = {
        "PREFECT_HOME": "/srv/prefect",
        "PREFECT_UI_URL": "https://flows.example",
        "CSD_REPORTS_URL": "https://reports.example",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": "postgresql+asyncpg://db/prefect",
    }
    assert environment(given).items() >= given.items()


def test_what_speaks_of_another_server_is_left_out():
    other = {"PREFECT_PROFILE": "cloud", "PREFECT_API_KEY": "pnu_key", "PREFECT_API_AUTH_STRING": "a:b"}
    assert not environment(other).keys() & other.keys()
    assert environment({"PREFECT_API_URL": "https://elsewhere/api"})["PREFECT_API_URL"] == "http://127.0.0.1:4300/api"
