"""Every command and snippet of the README is run, in order: in a checkout, and in a project of one's own images."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress

import httpx
import pytest
from checkout import INSTALLED, ROOT, Project, make_photos
from patience import PATIENCE
from ports import free_port

pytestmark = pytest.mark.slow

README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", README, flags=re.DOTALL)


def commands(block):
    return [line for line in block.splitlines() if line and not line.startswith("#")]


def test_the_readme_has_what_this_test_runs():
    assert [kind for kind, _ in BLOCKS] == ["sh", "sh", "python", "sh", "sh", "sh", "sh", "sh"]
    assert commands(BLOCKS[0][1]) == ["make run", "make test"]


_, DVC, PYTHON, OWN, MORE, INBOX, REPLAY, PRODUCTION = (block for _, block in BLOCKS)
BASH = ("bash", "-euo", "pipefail", "-c")


def test_the_blocks_of_a_checkout_run_in_order(finished_run, tmp_path):
    first, printed = finished_run  # of `make run`
    assert "Report: report/index.html" in printed
    checkout = first.copy(tmp_path / "project")
    # `make test` would run this test again; that it would run the tests is all that can be asked here
    assert "pytest" in checkout.run("make", "--dry-run", "test").stdout
    assert "Nothing to do" in checkout.run("make", INSTALLED, "run").stdout
    checkout.run(*BASH, DVC)
    checkout.run(sys.executable, "-c", PYTHON + "\nassert vectors.shape == (2, embedder.metadata.dimension)")


def test_your_own_images_are_served_in_three_lines_and_the_other_blocks_follow(tmp_path):
    make_photos(tmp_path / "photos", ("cat", "dog"))
    home, shop = Project(tmp_path), Project(tmp_path / "shop")
    init, run, serve = commands(OWN)
    assert "40 images of 2 classes" in home.run(*BASH, init).stdout
    assert "Recall@1" in home.run(*BASH, run).stdout
    assert hits_of(shop, serve, tmp_path / "photos" / "cat" / "0.png") == ["cat"] * 10

    make_photos(shop.root / "data" / "raw" / "more-photos", ("owl",), brightness=100)
    for block in (MORE, INBOX, REPLAY, PRODUCTION):
        shop.run(*BASH, block)
    assert list(shop.files.gallery("t2").iterdir())
    assert "rolled back" in (shop.root / "releases" / "audit.jsonl").read_text(encoding="utf-8")


def hits_of(project, command, image):
    """The classes that the service of a README's line finds for an image; it listens at a port of its own."""
    port = free_port()
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
    line = command.replace("csd serve", f"exec csd serve --port {port}")
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", line], cwd=project.root, env={**os.environ, "PATH": path}
    ) as service:
        try:
            url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + PATIENCE
            while time.monotonic() < deadline:
                assert service.poll() is None
                with suppress(httpx.TransportError):
                    if httpx.get(f"{url}/readyz").is_success:
                        break
                time.sleep(0.2)
            rows = project.csd("query", str(image), "--url", url).stdout.splitlines()[1:-1]
        finally:
            service.send_signal(signal.SIGINT)
    return [row.split()[2] for row in rows]
