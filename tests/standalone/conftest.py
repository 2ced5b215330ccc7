import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from strangers import exported, linear, saved, write_images

from csd_core.cli import main

PER_CLASS = 60


@pytest.fixture(scope="session")
def digits():
    """(images (N, 8, 8) uint8, classes (N,)): the first of each class."""
    found = load_digits()
    chosen = np.sort(np.concatenate([np.flatnonzero(found.target == each)[:PER_CLASS] for each in range(10)]))
    return (found.images[chosen] * 255 / 16).round().astype(np.uint8), found.target[chosen]


@pytest.fixture(scope="session")
def photos(digits, tmp_path_factory):
    """600 small PNGs of ten digits."""
    return write_images(tmp_path_factory.mktemp("digits") / "photos", *digits)


@pytest.fixture(scope="session")
def maps():
    """Name -> (64, D) linear maps of pixels, fitted on other digits than those of the folder.

    `weak` and `good` see the same 16 directions, `weak` with the wrong weights; `wide` has more dimensions, `random`
    knows nothing.
    """
    found = load_digits()
    rest = np.concatenate([np.flatnonzero(found.target == each)[PER_CLASS:] for each in range(10)])
    flat, classes = found.images[rest].reshape(-1, 64) / 16, found.target[rest]
    directions = PCA(16, random_state=0).fit(flat).components_.T
    within = LinearDiscriminantAnalysis(solver="eigen", shrinkage=0.1).fit(flat @ directions, classes).covariance_
    draw = np.random.default_rng(0)
    return {
        "weak": directions * np.linspace(1, 6, 16) ** 2,
        "good": directions @ np.linalg.cholesky(np.linalg.inv(within)),
        "wide": PCA(20, random_state=0).fit(flat).components_.T,
        "random": draw.normal(size=(64, 2)) @ draw.normal(size=(2, 16)),
        "mean": flat.mean(axis=0),
    }


@pytest.fixture(scope="session")
def models(maps, tmp_path_factory):
    """Name -> ONNX file. Foreign ones take float pixels (N, 1, 8, 8) between 0 and 1; `ours` is in csd's form."""
    folder = tmp_path_factory.mktemp("models")

    def foreign(name):
        matrix = maps[name]
        return saved(linear(matrix, bias=-maps["mean"] @ matrix), folder / f"{name}.onnx")

    return {name: foreign(name) for name in ("weak", "good", "wide", "random")} | {
        "ours": saved(exported(maps["weak"]), folder / "ours.onnx"),
        "ours-better": saved(exported(maps["good"]), folder / "ours-better.onnx"),
    }


@pytest.fixture
def csd(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder; gives exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        try:
            main([str(each) for each in arguments])
        except SystemExit as exit_:
            code = exit_.code or 0
        else:
            code = 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
