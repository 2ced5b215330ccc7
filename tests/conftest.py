"""An embedder small enough to make in a test, that onnxruntime runs like a trained one; a browser."""

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper
from playwright.sync_api import Browser, expect, sync_playwright

from csd_core.retrieval.embedder import EmbedderMetadata
from csd_core.system.processes import wait_briefly

wait_briefly()  # before any test loads torch: tests run beside each other
sys.dont_write_bytecode = False  # else each of many hundred processes compiles csd again
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
IDENTITY = ("GIT_AUTHOR_", "GIT_COMMITTER_")
PLACES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
LOOKS = ("COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE")
for variable in tuple(os.environ):
    if variable.startswith(IDENTITY) or variable in {*PLACES, *LOOKS}:
        del os.environ[variable]  # tests have repositories of their own, and read what is printed
os.environ |= dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
os.environ |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "commit.gpgsign", "GIT_CONFIG_VALUE_0": "false"}
MEMORY, ROOM = Path("/dev/shm"), 4 << 30  # noqa: S108 - where Linux keeps files in memory
"""Where tests write, if there is so much room: a disk makes each of many thousand small files wait until it is safe."""
if os.access(MEMORY, os.W_OK):
    disk = os.statvfs(MEMORY)
    if disk.f_bavail * disk.f_frsize > ROOM and not disk.f_flag & os.ST_NOEXEC:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))
hypothesis.settings.register_profile("busy", deadline=None)  # a machine with other work is slow, not wrong
hypothesis.settings.load_profile("busy")

STARTERS = re.compile(
    r"^ *(?:import|from) (?:subprocess|multiprocessing|playwright|checkout|operators|pipelines|postgres|senders"
    r"|services|shops)\b",
    re.MULTILINE,
)
"""A module that imports one of these starts processes."""
STARTING = {"browser", "finished_run", "prefect_harness", "service"}
"""Fixtures that start processes."""
LONG = (
    "test_compare_run", "test_machines", "test_reproducibility", "test_operation", "test_readme", "test_pipeline",
    "test_pages", "test_server", "test_code", "test_parameters", "test_checkout", "test_hot_upgrade",
)  # fmt: skip
"""Modules with the longest tests, the longest first."""

INSTALLED = ("chromium", "chromium-browser", "google-chrome")
QUIET = ("disable-gpu", "disable-background-networking", "disable-component-update", "disable-sync")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that start processes, and run what takes long first, so that no worker is left with it at the end."""
    for item in items:
        if _names_a_starter(item.path) or STARTING.intersection(getattr(item, "fixturenames", ())):
            item.add_marker("processes")
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


@cache
def _names_a_starter(file: Path) -> bool:
    return bool(STARTERS.search(file.read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """(name, make) -> a folder that `make(folder)` fills once for all workers; copy it before changing anything."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    shared.mkdir(exist_ok=True)

    def made(name: str, make: Callable[[Path], object]) -> Path:
        folder, whole = shared / name, shared / f"{name}.made"
        with FileLock(shared / f"{name}.lock"):
            if not whole.exists():
                shutil.rmtree(folder, ignore_errors=True)
                make(folder)
                whole.touch()
        return folder

    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, the system's or Playwright's. Where there is none its tests are skipped, but in CI they fail."""
    with sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        found = next(filter(None, map(shutil.which, INSTALLED)), str(own) if own.exists() else None)
        if found is None:
            missing = "no browser here: install chromium, or run `playwright install chromium`"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
        browser = playwright.chromium.launch(
            executable_path=found, args=[f"--{each}" for each in ("no-sandbox", *QUIET)]
        )
        expect.set_options(timeout=30_000)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def linear_embedder() -> Callable[..., Path]:
    """(file, weights (S * S, D)) -> an ONNX embedder of grey S x S images: unit(pixels / 255 @ weights)."""

    def write(file: Path, weights, *, classes=("a",), parent=None) -> Path:
        pixels, dimension = weights.shape
        size = round(pixels**0.5)
        values = {"scale": np.float32(1 / 255), "weights": np.asarray(weights, np.float32)}
        nodes = [
            helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("Mul", ["flat", "scale"], ["scaled"]),
            helper.make_node("MatMul", ["scaled", "weights"], ["features"]),
            helper.make_node("LpNormalization", ["features"], ["embeddings"], axis=1, p=2),
        ]
        graph = helper.make_graph(
            nodes,
            "linear",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", size, size, 1])],
            [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", dimension])],
            [numpy_helper.from_array(value, name) for name, value in values.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
        metadata = EmbedderMetadata(
            size=size, channels=1, resize="squash", dimension=dimension, classes=tuple(classes), parent=parent
        )
        helper.set_model_props(model, metadata.to_props())
        file.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, file)
        return file

    return write
