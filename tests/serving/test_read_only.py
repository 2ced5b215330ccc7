"""A project, or its live gallery alone, that becomes read-only while the service runs."""

import os
import subprocess
from contextlib import contextmanager

import httpx
import pytest
from services import address, png, published, put, search, serving


@contextmanager
def read_only(folder):
    """Mount a folder read-only, in place."""
    if subprocess.run(["mount", "--bind", folder, folder], check=False).returncode:
        pytest.skip("a folder is mounted read-only, which root may not do here")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="a folder is mounted read-only, which root alone may do")
@pytest.mark.parametrize(("part", "named"), [(".", ".csd/"), ("live", "live: ")])
def test_writes_are_told_the_folder_and_the_remedy_and_searches_go_on(tmp_path, part, named):
    project = published(tmp_path / "project", "none")
    with serving(project) as running:
        assert put(running.url, "kept", png(0), label="live").status_code == 201
        with read_only(project.root / part):
            for answer in (
                put(running.url, "new", png(1), label="live"),
                httpx.delete(address(running.url, "kept"), timeout=60),
            ):
                told = answer.json()
                assert (answer.status_code, told["type"]) == (503, "urn:csd:problem:storage-read-only"), told
                assert told["detail"].startswith(named)
                assert str(tmp_path) not in told["detail"]
                assert "Read-only file system" in told["detail"]
                assert told["detail"].endswith("; mount it writable and try again")
                assert search(running.url, png(0)).status_code == 200
        assert put(running.url, "new", png(1), label="live").status_code == 201
        assert httpx.delete(address(running.url, "kept"), timeout=60).status_code == 204
    assert "new" in project.rows()
    assert "kept" not in project.rows()
    assert project.findings() == ()
