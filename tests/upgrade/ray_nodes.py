"""A Ray cluster of real processes on loopback: a head without cores, and nodes with one core each."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil
from patience import PATIENCE
from ports import free_port

STORE = 80 << 20
os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}  # Ray reads them when it is loaded


class RayNodes:
    """The cluster.

    Attributes:
        address: Of the head.
    """

    def __init__(self, nodes):
        self.address = f"127.0.0.1:{free_port()}"
        self._scratch = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
        self._started = []
        try:
            port = self.address.rpartition(":")[2]
            head = ("--head", "--include-dashboard", "false", "--port", port, "--num-cpus", "0")
            self._wait_for(self._start(*head, "--temp-dir", self._scratch))  # a node asks it only a few times
            self.nodes = [self.join() for _ in range(nodes)]
        except BaseException:
            self.stop()
            raise

    def join(self):
        """Start a node, and return its process; two that start at once take each other's ports, and one gives up."""
        return self._wait_for(self._start("--address", self.address, "--num-cpus", "1"))

    def _wait_for(self, node):
        for _ in range(int(PATIENCE * 10)):
            assert node.poll() is None, "the node gave up"
            with suppress(psutil.NoSuchProcess):  # a zombie is one, too
                if any("DashboardAgent" in " ".join(each.cmdline()) for each in self._below(node)):
                    return node
            time.sleep(0.1)
        raise AssertionError("the node never started")

    def _start(self, *options):
        own = ("--block", "--node-ip-address", "127.0.0.1")
        # a node is a machine that has csd installed and sees no file of the driver's
        path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
        quick = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
        process = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", *own, "--object-store-memory", str(STORE), *options],
            env=os.environ | quick | {"PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0", "HOME": self._scratch},
            cwd=self._scratch,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def kill(self, node):
        """Kill a node as a power cut does: the raylet, and all below it."""
        with suppress(psutil.NoSuchProcess):  # it has ended
            for process in self._below(node):
                with suppress(psutil.NoSuchProcess):
                    process.kill()

    def _below(self, node):
        found = [psutil.Process(node.pid)]
        return [*found[0].children(recursive=True), *found]

    def stop(self):
        for process in self._started:
            self.kill(process)
            process.wait()
        shutil.rmtree(self._scratch, ignore_errors=True)
