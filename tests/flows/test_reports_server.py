import base64
import http.client
import os
import socket
import threading

import pytest
from patience import PATIENCE
from ports import free_port

from flows.ui.reports import serving

AUTH = "olga:correct-horse-battery"


def home():
    return b"<p>home</p>"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "retrainings"
    folder.mkdir()
    for age, name in enumerate(("2026-11-25-quiet-otter.html", "2026-11-24-bold-lynx.html")):
        (folder / name).write_text(f"<p>{name}</p>", "utf-8")
        os.utime(folder / name, (1_000_000 - age, 1_000_000 - age))
    (folder / "2026-11-25-quiet-otter.json").write_text("{}", "utf-8")
    (tmp_path / "secret.html").write_text("secret", "utf-8")
    return folder


@pytest.fixture
def ask(folder):
    """(path, method, headers) -> status, headers, body."""
    with serving(folder, ("127.0.0.1", port := free_port()), home=home, auth=None):
        yield asking(port)


def asking(port):
    def ask(path, method="GET", headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        connection.putrequest(method, path, skip_host="Host" in (headers or {}))
        for name, value in (headers or {}).items():
            connection.putheader(name, value)
        connection.endheaders()
        response = connection.getresponse()
        answer = response.status, dict(response.headers), response.read().decode()
        connection.close()
        return answer

    return ask


def test_a_report_is_served_as_html_that_may_load_and_run_nothing(ask):
    status, headers, body = ask("/2026-11-25-quiet-otter.html")
    assert (status, body) == (200, "<p>2026-11-25-quiet-otter.html</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    policy = headers["Content-Security-Policy"].split("; ")
    assert {"default-src 'none'", "img-src data:", "style-src 'unsafe-inline'", "frame-ancestors 'none'"} <= set(policy)
    assert not any("script" in directive or "http" in directive for directive in policy)


def test_head_tells_the_length_without_the_page(ask):
    status, headers, body = ask("/2026-11-25-quiet-otter.html", "HEAD")
    assert (status, headers["Content-Length"], body) == (200, "34", "")


def test_a_query_changes_nothing(ask):
    assert ask("/2026-11-25-quiet-otter.html?x=/../1")[0] == 200


def test_the_home_page_stands_at_the_address_itself(ask):
    status, headers, body = ask("/")
    assert (status, headers["Content-Type"], body) == (200, "text/html; charset=utf-8", "<p>home</p>")


def test_the_list_names_the_newest_first_and_reports_only(ask, folder):
    (folder / "link.html").symlink_to("2026-11-24-bold-lynx.html")
    (folder / "folder.html").mkdir()
    (folder / "<script>.html").write_text("no", "utf-8")
    status, headers, body = ask("/retrainings")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert body.index('href="/2026-11-25-quiet-otter.html"') < body.index('href="/2026-11-24-bold-lynx.html"')
    assert body.count("<li>") == 2
    assert "1970-01-12 13:46 UTC" in body


def test_without_reports_the_list_says_so(tmp_path):
    with serving(tmp_path / "not there", ("127.0.0.1", port := free_port()), home=home, auth=None):
        status, _, body = asking(port)("/retrainings")
    assert status == 200
    assert "There is none yet." in body


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.html",
        "/%2e%2e/secret.html",
        "/..%2fsecret.html",
        "/%252e%252e/secret.html",
        "//etc/passwd",
        "/2026-11-25-quiet-otter.json",
        "/2026-11-25-quiet-otter.html/",
        "/2026-11-25-quiet-otter.html%00",
        "/2026-11-25-quiet-otter.html%0a",
        "/./2026-11-25-quiet-otter.html",
        "/.hidden.html",
        "/no-such-report.html",
        "http://127.0.0.1/secret.html",
    ],
)
def test_nothing_but_the_reports_themselves_is_served(ask, folder, path):
    (folder / ".hidden.html").write_text("secret", "utf-8")
    status, headers, body = ask(path)
    assert (status, body) == (404, "there is no such report\n")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_links_pipes_and_folders_are_not_followed(ask, folder):
    (folder / "link.html").symlink_to(folder.parent / "secret.html")
    (folder / "folder.html").mkdir()
    os.mkfifo(folder / "pipe.html")
    assert [ask(f"/{name}.html")[0] for name in ("link", "folder", "pipe")] == [404, 404, 404]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_changed(ask, folder, method):
    before = sorted(folder.iterdir())
    assert ask("/2026-11-25-quiet-otter.html", method)[0] == 501
    assert sorted(folder.iterdir()) == before


def basic(credentials):
    return {"Authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def test_with_a_password_every_request_must_give_it(folder):
    with serving(folder, ("127.0.0.1", port := free_port()), home=home, auth=AUTH):
        ask = asking(port)
        for path in ("/", "/2026-11-25-quiet-otter.html", "/no-such-report.html"):
            for headers in ({}, basic("olga:wrong"), {"Authorization": "Bearer x"}, {"Authorization": "Bäsic"}):
                status, answered, body = ask(path, headers=headers)
                assert (status, body) == (401, "user and password, please\n")
                assert answered["WWW-Authenticate"].startswith("Basic realm=")
        assert ask("/2026-11-25-quiet-otter.html", headers=basic(AUTH))[0] == 200


def test_a_slow_reader_keeps_nobody_waiting(ask, folder):
    (folder / "large.html").write_bytes(b"x" * 20_000_000)
    with socket.create_connection(("127.0.0.1", port_of(ask)), timeout=PATIENCE) as slow:
        slow.sendall(b"GET /large.html HTTP/1.0\r\n\r\n")
        assert ask("/2026-11-25-quiet-otter.html")[0] == 200


def port_of(ask):
    return ask.__closure__[0].cell_contents


def test_the_port_is_free_and_no_thread_is_left_afterwards(folder):
    before = set(threading.enumerate())
    port = free_port()
    for _ in range(2):
        with serving(folder, ("127.0.0.1", port), home=home, auth=None):
            assert asking(port)("/")[0] == 200
    own = set(threading.enumerate()) - before
    for thread in own:
        thread.join(PATIENCE)
    assert not any(thread.is_alive() for thread in own)


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:4201", 200), ("localhost", 200), ("[::1]:4201", 200), ("rebound.example:4201", 421), ("", 421)],
)
def test_a_foreign_name_that_leads_to_this_machine_gets_nothing(ask, host, status):
    assert ask("/2026-11-25-quiet-otter.html", headers={"Host": host})[0] == status
