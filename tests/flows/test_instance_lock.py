import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from ports import free_port

from csd_core.system.errors import CsdError
from flows.ui.address import ServerAddress
from flows.ui.instance_lock import InstanceLock, answers, refuse_taken


@contextmanager
def answering(body=b"true"):
    """Yield the address of a server that gives one answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/api/health" else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def holder(tmp_path):
    """A process that holds the place, and announces the address it is given on its standard input."""
    program = (
        "import sys; from pathlib import Path; from flows.ui.instance_lock import InstanceLock\n"
        f"mine = InstanceLock(Path({str(tmp_path)!r})); mine.claim(lambda: None); print('held', flush=True)\n"
        "for line in sys.stdin: mine.announce(line.strip()); print('announced', flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def announce(holder, url):
    holder.stdin.write(f"{url}\n")
    holder.stdin.flush()
    assert holder.stdout.readline() == "announced\n"


def no_pause():
    pytest.fail("there is nothing to wait for")


def test_the_first_takes_the_place(tmp_path):
    assert InstanceLock(tmp_path).claim(no_pause) is None


def test_the_second_is_told_the_address_of_the_first(tmp_path, holder):
    with answering() as url:
        announce(holder, url)
        assert InstanceLock(tmp_path).claim(no_pause) == url


def test_one_that_is_starting_is_waited_for(tmp_path, holder):
    with answering() as url:
        assert InstanceLock(tmp_path).claim(lambda: announce(holder, url)) == url


def test_one_that_is_stopping_is_waited_for_and_followed(tmp_path, holder):
    def stop():
        holder.kill()
        holder.wait()

    assert InstanceLock(tmp_path).claim(stop) is None


def test_one_that_never_answers_is_an_error(tmp_path, holder):
    announce(holder, "http://127.0.0.1:9")
    with pytest.raises(CsdError, match=r"^another `csd ui` of this project is starting or stopping since 0\.1 s"):
        InstanceLock(tmp_path).claim(lambda: time.sleep(0.06), wait=0.1)


def test_a_place_whose_holder_was_killed_is_free_and_its_address_forgotten(tmp_path, holder):
    with answering() as url:
        announce(holder, url)
        holder.kill()
        holder.wait()
        assert InstanceLock(tmp_path).claim(no_pause) is None
        assert [file.name for file in tmp_path.iterdir()] == ["ui.lock"]


def test_a_place_that_was_given_free_can_be_taken(tmp_path):
    first = InstanceLock(tmp_path)
    first.claim(no_pause)
    first.announce("http://127.0.0.1:9")
    first.withdraw()
    first.release()
    assert InstanceLock(tmp_path).claim(no_pause) is None


def test_only_a_healthy_server_answers():
    with answering() as url:
        assert answers(url)
    with answering(b"false") as url:
        assert not answers(url)
    assert not answers("http://127.0.0.1:9")


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use_is_named_with_its_user_and_the_remedy(offset):
    first = free_port()
    port = first + offset
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with pytest.raises(CsdError) as caught:
            refuse_taken(ServerAddress.checked("127.0.0.1", first, auth=None))
    assert str(caught.value).startswith(f"port {port} of 127.0.0.1 cannot be used: address already in use by ")
    assert f"process {os.getpid()}" in str(caught.value)
    assert str(caught.value).endswith("; choose another: csd ui --port ...")


def test_an_address_of_another_machine_cannot_be_listened_at():
    with pytest.raises(CsdError, match=r"^port 4200 of 192\.0\.2\.7 cannot be used: cannot assign requested address; "):
        refuse_taken(ServerAddress.checked("192.0.2.7", 4200, auth="olga:correct-horse-battery"))
