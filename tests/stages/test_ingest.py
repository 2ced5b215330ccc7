import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stage_params import change_params

from csd_core.data.canonical import load_source
from csd_core.stages.ingest import main
from csd_core.system.errors import DataError, ParamsError

DIGITS = {"digits": {"kind": "digits", "limit_per_class": 5}}
ONE_TASK = {"t1": ("digits", None)}
PHOTOS = {"photos": {"path": "raw/photos", "layout": "classes"}}


def fashion(*, download):
    settings = {"kind": "fashion-mnist", "path": "raw/fashion", "download": download, "limit_per_class": None}
    return {"fashion": settings}


def test_digits_need_neither_network_nor_files(configure, capsys):
    files = configure(published=DIGITS, tasks=ONE_TASK)
    main("digits")
    found = load_source(files.source("digits"))
    assert found.record.kind == "digits"
    assert found.images.shape == (50, 8, 8, 1)
    assert capsys.readouterr().out == "digits: 50 images of 10 classes; left out: 0 duplicates, 0 unusable files\n"


def test_a_folder_is_taken_in_from_beside_params_and_its_oddities_are_said(configure, capsys, monkeypatch):
    files = configure(folders=PHOTOS, tasks={"t1": ("photos", None)}, max_rejected=1)
    for label, level in (("cat", 1), ("dog", 2)):
        folder = Path("raw/photos") / label
        folder.mkdir(parents=True)
        Image.new("L", (30, 20), level).save(folder / "1.png")
    Path("raw/photos/empty").mkdir()
    Path("raw/photos/cat/big.png").write_bytes(Path("raw/photos/cat/1.png").read_bytes())
    Image.new("L", (90, 90), 3).save("raw/photos/dog/bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 5000)
    main("photos")
    assert load_source(files.source("photos")).record.images == 2
    why = "(`csd sources rejected photos` says why)"
    assert capsys.readouterr().out.splitlines() == [
        'photos: class "empty" has no files; it is left out',
        f"photos: 2 images of 2 classes; left out: 1 duplicates, 1 unusable files {why}",
    ]


def black_icons(classes):
    for number, label in enumerate(classes):
        folder = Path("raw/photos") / label
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[: 8 + 4 * number, :, 3] = 255
        Image.fromarray(pixels).save(folder / f"{number}.png")


def test_icons_that_vanish_on_the_background_are_told_loudly_with_the_remedy(configure, capsys):
    configure(folders=PHOTOS, tasks={"t1": ("photos", None)})
    black_icons(["icon"] * 4)
    main("photos")
    *_, summary, loud = capsys.readouterr().out.splitlines()
    assert "photos: 1 images of 1 classes; left out: 3 duplicates" in summary
    assert loud.startswith("photos: ATTENTION: 3 images left out though their files show something else")
    assert "transparency lies on black" in loud
    assert "write images.background: " in loud


def test_icons_of_several_classes_that_vanish_stop_the_run_and_are_told_too(configure, capsys):
    configure(folders=PHOTOS, tasks={"t1": ("photos", None)})
    black_icons(["cat", "dog", "cow"])
    with pytest.raises(DataError, match="2 are copies of an image in another class"):
        main("photos")
    assert "photos: ATTENTION: 2 images left out" in capsys.readouterr().out


def test_on_a_background_that_shows_them_icons_stay_apart(configure, capsys):
    files = configure(folders=PHOTOS, tasks={"t1": ("photos", None)})
    change_params(files.root, lambda values: values["images"].update(background="grey"))
    black_icons(["icon"] * 4)
    main("photos")
    assert load_source(files.source("photos")).record.images == 4
    assert "ATTENTION" not in capsys.readouterr().out


def test_too_many_bad_files_are_one_line_and_an_exit_code(configure):
    files = configure(folders=PHOTOS, tasks={"t1": ("photos", None)})
    Path("raw/photos/cat").mkdir(parents=True)
    Image.new("L", (3, 3)).save("raw/photos/cat/1.png")
    Path("raw/photos/cat/2.png").touch()
    done = subprocess.run(
        [sys.executable, "-m", "csd_core.stages.ingest", "photos"],
        check=False,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert done.returncode == DataError.exit_code
    assert done.stderr.count("\n") == 1
    assert "1 files are unusable, data.max_rejected allows 0" in done.stderr
    assert files.rejected("photos").is_file()
    assert not files.source("photos").exists()


def test_an_unknown_source_is_refused(configure):
    configure(published=DIGITS, tasks=ONE_TASK)
    with pytest.raises(ParamsError, match="ingest digit: there is no such source; known: digits"):
        main("digit")


def test_without_download_a_missing_set_is_named_and_nothing_is_fetched(configure, monkeypatch):
    configure(published=fashion(download=False), tasks={"t1": ("fashion", None)}, size=28)
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)  # importing it would fail
    with pytest.raises(DataError, match=r"raw/fashion lacks train-images-idx3-ubyte.gz, .*download: true"):
        main("fashion")


def pretend_torchvision(monkeypatch, fetch):
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    module = types.ModuleType("torchvision.datasets")
    module.FashionMNIST = fetch
    monkeypatch.setitem(sys.modules, "torchvision.datasets", module)


def test_a_failed_download_says_what_else_to_do(configure, monkeypatch):
    configure(published=fashion(download=True), tasks={"t1": ("fashion", None)}, size=28)

    def fail(root, *, download):
        assert (root, download) == ("raw/fashion", True)
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz")

    pretend_torchvision(monkeypatch, fail)
    with pytest.raises(DataError, match=r"cannot be fetched into raw/fashion \(Error downloading .*apt-get install"):
        main("fashion")


def test_a_download_is_checked_like_any_copy_and_not_repeated(configure, monkeypatch):
    configure(published=fashion(download=True), tasks={"t1": ("fashion", None)}, size=28)
    fetched = []

    def fetch(root, *, download):
        fetched.append(download)
        folder = Path(root) / "FashionMNIST" / "raw"
        folder.mkdir(parents=True)
        for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
            np.zeros(8, np.uint8).tofile(folder / f"{name}-ubyte.gz")

    pretend_torchvision(monkeypatch, fetch)
    for _ in range(2):
        with pytest.raises(DataError, match="not a whole gzip file"):
            main("fashion")
    assert fetched == [True]


def test_ingesting_digits_loads_no_torch(configure):
    configure(published=DIGITS, tasks=ONE_TASK)
    code = (
        "import sys; from csd_core.stages.ingest import main; main('digits'); "
        "sys.exit(any(name.split('.')[0] in ('torch', 'torchvision') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, env={"PYTHONPATH": str(Path(__file__).parents[2])})
    assert done.returncode == 0
