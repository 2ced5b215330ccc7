"""An object store for tests: moto's S3 in its own process, which may refuse, hang, and come back with its objects."""

import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx
import pytest
from ports import free_port

from csd_core.objects.store import objects_at

BUCKET = "bucket"
_PROGRAM = """
import signal, sys
from moto.server import ThreadedMotoServer
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGUSR2})
store = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
store.start()
while True:
    if signal.sigwait({signal.SIGUSR1, signal.SIGUSR2}) == signal.SIGUSR1:
        store.stop()
    else:
        store.start()
"""


class Store:
    """A running store.

    Attributes:
        environment: The variables by which LanceDB finds it.
    """

    def __init__(self, process, port):
        self._process = process
        self._hangs = False
        self._url = f"http://127.0.0.1:{port}"
        self.environment = {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "y",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self._url,
            "AWS_ALLOW_HTTP": "true",
        }

    def answers(self):
        try:
            return httpx.get(self._url, trust_env=False).status_code < 500
        except httpx.TransportError:
            return False

    def wait_until(self, answers):
        end = time.monotonic() + 60
        while self.answers() != answers:
            assert self._process.poll() is None, "moto has ended"
            assert time.monotonic() < end, f"moto answers: {not answers}"
            time.sleep(0.05)

    def make_bucket(self):
        assert httpx.put(f"{self._url}/{BUCKET}", trust_env=False).status_code == 200

    def refuse(self):
        """Close its port."""
        os.kill(self._process.pid, signal.SIGUSR1)
        self.wait_until(answers=False)

    def hang(self):
        """Take connections and answer none."""
        os.kill(self._process.pid, signal.SIGSTOP)
        self._hangs = True

    def come_back(self):
        """Answer again, after `refuse` or `hang`."""
        if self._hangs:
            os.kill(self._process.pid, signal.SIGCONT)
        else:
            os.kill(self._process.pid, signal.SIGUSR2)
        self.wait_until(answers=True)


@contextmanager
def object_store():
    """A store with an empty bucket."""
    objects_at.cache_clear()  # another store had another port
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    store = Store(process, port)
    try:
        store.wait_until(answers=True)
        store.make_bucket()
        yield store
    finally:
        process.kill()
        process.wait()


@contextmanager
def store_of_this_process():
    """A store that this process and its children find by their environment."""
    with object_store() as running, pytest.MonkeyPatch.context() as environment:
        for name, value in running.environment.items():
            environment.setenv(name, value)
        yield running
