"""A live gallery in a temporary folder, and galleries of random vectors to put in it."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from csd_core.live.gallery import LiveGallery
from csd_core.retrieval.gallery import Gallery


@pytest.fixture
def live(tmp_path) -> LiveGallery:
    return LiveGallery.open(str(tmp_path / "live"), lock=tmp_path / "write.lock", root=tmp_path)


@pytest.fixture(scope="session")
def gallery_of_items() -> Callable[..., Gallery]:
    """(rows, prefix, model, dimension, seed) -> items PREFIX0, PREFIX1, ... of four classes and two tasks."""

    def make(rows: int, *, prefix: str = "item-", model: str = "model-1", dimension: int = 8, seed: int = 0) -> Gallery:
        vectors = np.random.default_rng(seed).standard_normal((rows, dimension)).astype(np.float32)
        number = np.arange(rows)
        return Gallery.embedded(
            ids=np.array([f"{prefix}{i}" for i in range(rows)], np.str_),
            labels=np.array(["a", "b", "c", "d"])[number % 4],
            tasks=np.array(["t1", "t2"])[number % 2],
            splits=np.full(rows, "train"),
            vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True),
            model=model,
        )

    return make


@pytest.fixture(scope="session")
def files_with() -> Callable[[Path, bytes], list[str]]:
    """(folder, needle) -> names of the files below it that contain the bytes."""

    def find(folder: Path, needle: bytes) -> list[str]:
        return sorted(str(path) for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes())

    return find


@pytest.fixture(scope="session")
def preloaded(tmp_path_factory) -> Callable[[str], Path]:
    """(C file beside this one) -> a library to load before the C library."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    folder = tmp_path_factory.mktemp("preloaded")

    def build(name: str) -> Path:
        if not compiler or sys.platform != "linux":
            pytest.skip("a C compiler builds the library for Linux")
        built = folder / f"{name}.so"
        source = Path(__file__).with_name(name)
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(built), str(source), "-ldl"]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip(f"this C compiler cannot build {name}")
        return built

    return build
