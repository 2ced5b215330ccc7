"""A machine on which no process that decodes images starts: the operator is told, and no file is called damaged."""

import io
import subprocess
import sys

import httpx
import pytest
from PIL import Image
from projects import pixels_of
from services import png, published, search, serving

BROKEN = "import os, sys\nif any('decoder_child' in each for each in sys.orig_argv): os._exit(7)\n"
REASON = "no process for decoding images starts: ended with code 7; free memory and processes of this machine"


def bmp():
    """A sound image that this process does not decode itself."""
    buffer = io.BytesIO()
    Image.fromarray(pixels_of(0, 1, seed=1)[0, ..., 0]).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "sitecustomize.py").write_text(BROKEN)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return published(tmp_path / "project", "none")


def test_the_service_answers_503_logs_the_reason_and_goes_on(project):
    with serving(project) as running:
        answer = httpx.post(f"{running.url}/v1/search", content=bmp(), headers={"Content-Type": "image/bmp"})
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:csd:problem:no-decoder"), answer.text
        assert answer.headers["Retry-After"] == "10"
        (line,) = [each for each in running.log() if each.get("message") == "no decoder"]
        assert REASON in line["reason"]
        assert line["request_id"] == answer.json()["request_id"]
        assert search(running.url, png(0)).status_code == 200


def test_a_command_ends_with_one_line_and_rejects_no_file(project):
    (project.root / "photos").mkdir()
    (project.root / "photos" / "a.bmp").write_bytes(bmp())
    done = subprocess.run(
        [sys.executable, "-m", "csd_core.cli", "embed", "photos", "-o", "out.parquet"],
        cwd=project.root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "decoding" in line]
    assert len(errors) == 1, done.stderr
    assert REASON in errors[0]
    assert "Traceback" not in done.stderr
    assert not (project.root / "out.rejected.csv").exists()
