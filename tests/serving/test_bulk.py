"""Bulk embedding: the same file, byte for byte, whatever interrupts it."""

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from projects import pixels_of

from csd_core.data.decode import decode
from csd_core.live.images import content_id, encode_png
from csd_core.retrieval.embedder import Embedder
from csd_core.serving.bulk.embed import embed_folder
from csd_core.serving.bulk.files import list_files
from csd_core.system.errors import ArtifactError, BusyError, DataError, ParamsError
from csd_core.system.locks import Lock

FILES = 30
DIMENSION = 16
SMALL = {"batch": 4, "part_rows": 8}
"""Four parts of the FILES images, the last with fewer."""


@pytest.fixture(scope="session")
def model(tmp_path_factory, linear_embedder):
    weights = np.random.default_rng(0).normal(size=(64, DIMENSION))
    return linear_embedder(tmp_path_factory.mktemp("bulk") / "embedder.onnx", weights)


@pytest.fixture
def embedder(model):
    return Embedder.load(model, device="cpu", threads=1)


@pytest.fixture
def folder(tmp_path):
    """Images at two depths, of several formats and sizes, and two files that are no images."""
    root = tmp_path / "images"
    (root / "deep").mkdir(parents=True)
    for number, pixels in enumerate(pixels_of(1, FILES - 2, seed=3)):
        place = root / "deep" if number % 3 else root
        image = Image.fromarray(pixels[..., 0]).resize((8 + number, 8))
        image.save(place / f"{number:03}.dat", ("PNG", "BMP", "JPEG")[number % 3])
    (root / "deep" / "010.txt").write_text("no image")
    (root / "empty.png").touch()
    return root


class Breaking:
    """An embedder that breaks after some calls."""

    def __init__(self, embedder, calls, how):
        self.digest, self.metadata = embedder.digest, embedder.metadata
        self._embedder, self._left, self._how = embedder, calls, how

    def __call__(self, images, *, batch):
        self._left -= 1
        if self._left < 0:
            self._how()
        return self._embedder(images, batch=batch)


class Counting(Breaking):
    """An embedder that knows how many images it was given."""

    def __init__(self, embedder):
        super().__init__(embedder, 10**9, None)
        self.images = 0

    def __call__(self, images, *, batch):
        self.images += len(images)
        return super().__call__(images, batch=batch)


def stop():
    raise RuntimeError("stopped")


def written(target):
    """The files of a result, by name."""
    return {path.name: path.read_bytes() for path in target.parent.iterdir() if path.name.startswith("out")}


@pytest.fixture
def uninterrupted(tmp_path, folder, embedder):
    target = tmp_path / "uninterrupted" / "out.parquet"
    embed_folder(folder, target, embedder=embedder, threads=1, **SMALL)
    return written(target)


def test_a_row_is_the_path_the_content_id_and_the_vector_of_an_image(tmp_path, folder, embedder):
    target = tmp_path / "out.parquet"
    outcome = embed_folder(folder, target, embedder=embedder, **SMALL)
    table = pq.read_table(target)
    paths = table["path"].to_pylist()
    assert (outcome.rows, outcome.rejected, len(paths)) == (FILES - 2, 2, FILES - 2)
    assert paths == sorted(paths)
    assert {"000.dat", "deep/001.dat"} <= set(paths)
    images = np.stack([decode(folder / path, embedder.metadata.form) for path in paths])
    assert table["id"].to_pylist() == [content_id(image) for image in images]
    np.testing.assert_allclose(np.array(table["vector"].to_pylist(), np.float32), embedder(images), atol=1e-6)


def test_the_file_says_which_model_made_it(tmp_path, folder, embedder):
    target = tmp_path / "out.parquet"
    embed_folder(folder, target, embedder=embedder)
    schema = pq.read_schema(target)
    assert str(schema.field("vector").type) == f"fixed_size_list<element: float>[{DIMENSION}]"
    assert schema.names == ["path", "id", "vector"]
    assert schema.metadata == {
        b"csd.format": b"1",
        b"csd.model": embedder.digest.encode(),
        b"csd.dimension": str(DIMENSION).encode(),
    }


def test_files_that_are_no_images_are_named_with_a_reason(tmp_path, folder, embedder):
    outcome = embed_folder(folder, tmp_path / "out.parquet", embedder=embedder)
    assert outcome.rejections == tmp_path / "out.rejected.csv"
    with outcome.rejections.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [
            ["path", "reason"],
            ["deep/010.txt", "is not an image of a known format"],
            ["empty.png", "is empty (0 bytes)"],
        ]


def test_a_bad_file_changes_no_other_row(tmp_path, folder, embedder, uninterrupted):
    before = pq.read_table(tmp_path / "uninterrupted" / "out.parquet")
    (folder / "deep" / "001.dat").write_bytes(b"broken now")
    target = tmp_path / "out.parquet"
    embed_folder(folder, target, embedder=embedder, **SMALL)
    after = pq.read_table(target)
    kept = [row for row, path in enumerate(before["path"].to_pylist()) if path != "deep/001.dat"]
    assert after.equals(before.take(kept))


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path, folder, embedder, uninterrupted, threads):
    target = tmp_path / "again" / "out.parquet"
    embed_folder(folder, target, embedder=embedder, threads=threads, **SMALL)
    assert written(target) == uninterrupted


@pytest.mark.parametrize("calls", [0, 3, 5, 7])
def test_a_run_that_broke_goes_on_to_the_same_bytes(tmp_path, folder, embedder, uninterrupted, calls):
    target = tmp_path / "again" / "out.parquet"
    with pytest.raises(RuntimeError, match="stopped"):
        embed_folder(folder, target, embedder=Breaking(embedder, calls, stop), threads=1, **SMALL)
    assert not target.exists()
    again = Counting(embedder)
    embed_folder(folder, target, embedder=again, threads=2, **SMALL)
    assert again.images == FILES - calls // 2 * 8  # two calls a part
    assert written(target) == uninterrupted
    assert sorted(path.name for path in target.parent.iterdir()) == ["out.parquet", "out.rejected.csv"]


KILLED = """
import os, shutil, signal, sys
from pathlib import Path
from test_bulk import SMALL, Breaking
from csd_core.retrieval.embedder import Embedder
from csd_core.serving.bulk.embed import embed_folder
from csd_core.serving.bulk.parts import Parts

folder, target, model = map(Path, sys.argv[1:4])
when = sys.argv[4]
embedder = Embedder.load(model, device="cpu", threads=1)
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def calls():
    return Breaking(embedder, 5, die)

def removal():
    Parts.remove = die
    return embedder

def midst_of_removal():
    shutil.rmtree = die
    return embedder

embed_folder(folder, target, embedder=locals()[when](), threads=1, **SMALL)
"""


def killed(folder, target, model, when):
    """Run a process that is killed after some calls, or before or in the midst of the removal of the parts."""
    here = Path(__file__).parent
    folders = [here, here.parent / "production", here.parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-c", KILLED, str(folder), str(target), str(model), when]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(tmp_path, folder, model, embedder, uninterrupted, capsys):
    target = tmp_path / "again" / "out.parquet"
    killed(folder, target, model, "calls")
    assert (target.parent / ".out.parquet.parts" / "part-00000.parquet").is_file()
    embed_folder(folder, target, embedder=embedder, threads=2, **SMALL)
    assert f"of {FILES} files were embedded by an earlier run" in capsys.readouterr().out
    assert written(target) == uninterrupted


@pytest.mark.parametrize("when", ["removal", pytest.param("midst_of_removal", marks=pytest.mark.slow)])
def test_what_a_run_leaves_that_is_killed_when_its_file_is_whole_goes_with_the_next(
    tmp_path, folder, model, embedder, uninterrupted, when
):
    target = tmp_path / "again" / "out.parquet"
    killed(folder, target, model, when)
    left = target.parent / ".out.parquet.parts"
    assert left.is_dir()
    with pytest.raises(ParamsError, match="is there already"):
        embed_folder(folder, target, embedder=embedder, **SMALL)
    assert not left.exists()
    assert written(target) == uninterrupted


@pytest.mark.slow
def test_what_a_run_leaves_that_is_killed_when_its_file_is_whole_saves_an_overwrite_the_work(
    tmp_path, folder, model, embedder, uninterrupted
):
    target = tmp_path / "again" / "out.parquet"
    killed(folder, target, model, "removal")
    again = Counting(embedder)
    embed_folder(folder, target, embedder=again, overwrite=True, **SMALL)
    assert again.images == 0
    assert written(target) == uninterrupted
    assert not (target.parent / ".out.parquet.parts").exists()


@pytest.mark.parametrize("former", ["whole", pytest.param("killed", marks=pytest.mark.slow)])
def test_the_parts_of_an_overwrite_that_broke_are_kept_from_a_run_without(tmp_path, folder, model, embedder, former):
    target = tmp_path / "again" / "out.parquet"
    if former == "killed":
        killed(folder, target, model, "removal")
    else:
        embed_folder(folder, target, embedder=embedder, **SMALL)
    (folder / "000.dat").write_bytes(encode_png(pixels_of(9, 1, seed=9)[0]))
    with pytest.raises(RuntimeError, match="stopped"):
        embed_folder(folder, target, embedder=Breaking(embedder, 5, stop), overwrite=True, threads=1, **SMALL)
    with pytest.raises(ParamsError, match="is there already"):
        embed_folder(folder, target, embedder=embedder, **SMALL)
    again = Counting(embedder)
    embed_folder(folder, target, embedder=again, overwrite=True, **SMALL)
    assert again.images == FILES - 16


def broken_off(folder, target, embedder):
    with pytest.raises(RuntimeError, match="stopped"):
        embed_folder(folder, target, embedder=Breaking(embedder, 5, stop), threads=1, **SMALL)


def test_other_files_start_anew_and_the_run_says_so(tmp_path, folder, embedder, capsys):
    target = tmp_path / "out.parquet"
    broken_off(folder, target, embedder)
    (folder / "000.dat").write_bytes(encode_png(pixels_of(9, 1, seed=9)[0]))
    again = Counting(embedder)
    embed_folder(folder, target, embedder=again, **SMALL)
    assert again.images == FILES
    assert "had other files; this run starts from the beginning" in capsys.readouterr().out


def test_another_model_starts_anew_and_the_run_says_so(tmp_path, folder, embedder, linear_embedder, capsys):
    target = tmp_path / "out.parquet"
    broken_off(folder, target, embedder)
    other = Embedder.load(linear_embedder(tmp_path / "other.onnx", np.ones((64, 4))), device="cpu", threads=1)
    assert embed_folder(folder, target, embedder=other, **SMALL).rows == FILES - 2
    assert "had another model; this run starts from the beginning" in capsys.readouterr().out
    assert len(pq.read_table(target)["vector"][0]) == 4


def test_another_batch_starts_anew_for_bytes_may_depend_on_it(tmp_path, folder, embedder, capsys):
    target = tmp_path / "out.parquet"
    broken_off(folder, target, embedder)
    embed_folder(folder, target, embedder=embedder, **{**SMALL, "batch": 3})
    assert "had another batch size; this run starts from the beginning" in capsys.readouterr().out


def test_a_part_that_is_cut_off_is_made_anew(tmp_path, folder, embedder, uninterrupted):
    target = tmp_path / "again" / "out.parquet"
    broken_off(folder, target, embedder)
    part = target.parent / ".out.parquet.parts" / "part-00001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    embed_folder(folder, target, embedder=embedder, **SMALL)
    assert written(target) == uninterrupted


def test_a_part_that_is_damaged_inside_is_made_anew_by_the_next_run(tmp_path, folder, embedder, uninterrupted):
    target = tmp_path / "again" / "out.parquet"
    broken_off(folder, target, embedder)
    part = target.parent / ".out.parquet.parts" / "part-00001.parquet"
    content = part.read_bytes()
    part.write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(ArtifactError, match="part-00001.parquet: damaged .* run again"):
        embed_folder(folder, target, embedder=embedder, **SMALL)
    embed_folder(folder, target, embedder=embedder, **SMALL)
    assert written(target) == uninterrupted


def test_a_plan_that_cannot_be_read_starts_anew(tmp_path, folder, embedder, uninterrupted, capsys):
    target = tmp_path / "again" / "out.parquet"
    broken_off(folder, target, embedder)
    (target.parent / ".out.parquet.parts" / "plan.json").write_text("{}")
    embed_folder(folder, target, embedder=embedder, **SMALL)
    assert "had another format; this run starts from the beginning" in capsys.readouterr().out
    assert written(target) == uninterrupted


def test_a_file_that_is_there_is_kept_unless_it_may_be_replaced(tmp_path, folder, embedder):
    target = tmp_path / "out.parquet"
    target.write_text("mine")
    with pytest.raises(ParamsError, match="is there already; .* --overwrite"):
        embed_folder(folder, target, embedder=embedder)
    assert target.read_text() == "mine"
    embed_folder(folder, target, embedder=embedder, overwrite=True)
    assert pq.read_table(target).num_rows == FILES - 2


def test_a_result_without_rejections_takes_the_list_of_the_former_one_away(tmp_path, folder, embedder):
    target = tmp_path / "out.parquet"
    embed_folder(folder, target, embedder=embedder)
    (folder / "empty.png").unlink()
    (folder / "deep" / "010.txt").unlink()
    outcome = embed_folder(folder, target, embedder=embedder, overwrite=True)
    assert (outcome.rejected, outcome.rejections) == (0, None)
    assert not (tmp_path / "out.rejected.csv").exists()


def test_an_output_inside_the_folder_is_no_input(folder, embedder):
    target = folder / "out.parquet"
    first = embed_folder(folder, target, embedder=embedder)
    again = embed_folder(folder, target, embedder=embedder, overwrite=True)
    assert (again.rows, again.rejected) == (first.rows, first.rejected) == (FILES - 2, 2)


def test_a_folder_without_images_is_an_error_that_leaves_only_the_reasons(tmp_path, embedder):
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "a.txt").write_text("no image")
    with pytest.raises(DataError, match="none of its 1 files could be embedded; .*out.rejected.csv says why"):
        embed_folder(folder, tmp_path / "out.parquet", embedder=embedder)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "out.rejected.csv"]


def test_a_missing_and_an_empty_folder_are_refused(tmp_path, embedder):
    with pytest.raises(DataError, match="there is no such folder"):
        embed_folder(tmp_path / "nowhere", tmp_path / "out.parquet", embedder=embedder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="there are no files in it"):
        embed_folder(tmp_path / "empty", tmp_path / "out.parquet", embedder=embedder)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_folder_as_output_is_refused_even_to_overwrite(tmp_path, folder, embedder):
    with pytest.raises(ParamsError, match="is a folder"):
        embed_folder(folder, tmp_path, embedder=embedder, overwrite=True)


@pytest.mark.parametrize("numbers", [{"batch": 0}, {"threads": -1}])
def test_impossible_numbers_are_refused(tmp_path, folder, embedder, numbers):
    with pytest.raises(ParamsError, match="at least 1 image"):
        embed_folder(folder, tmp_path / "out.parquet", embedder=embedder, **numbers)


HOLDING = """
import sys
from pathlib import Path
from csd_core.system.locks import Lock

with Lock(Path(sys.argv[1]), what="out.parquet").held():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_runs_do_not_write_the_same_file_at_once(tmp_path, folder, embedder):
    lock = tmp_path / ".out.parquet.parts" / "lock"
    command = [sys.executable, "-c", HOLDING, str(lock)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="out.parquet is in use by process"):
            embed_folder(folder, tmp_path / "out.parquet", embedder=embedder)
        other.stdin.close()
    with Lock(lock, what="out.parquet").held(wait=0):
        assert not (tmp_path / "out.parquet").exists()


def test_hidden_files_links_to_folders_and_pipes_are_not_opened(tmp_path):
    root = tmp_path / "found"
    (root / "b").mkdir(parents=True)
    (root / ".git").mkdir()
    for name in ("b/2.png", "a.png", ".hidden.png", ".git/x.png", "Thumbs.db"):
        (root / name).touch()
    (root / "loop").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nothing")
    (root / "c.png").symlink_to(root / "a.png")
    os.mkfifo(root / "pipe")
    listing = list_files(root)
    assert [entry.path for entry in listing.entries] == ["a.png", "b/2.png", "c.png"]
    assert [tuple(rejection) for rejection in listing.rejected] == [
        ("gone", "cannot be read: No such file or directory"),
        ("loop", "is a link to a folder, which is not followed; copy the folder here"),
        ("pipe", "is neither a file nor a folder"),
    ]


def test_a_name_that_is_not_utf8_is_rejected(tmp_path):
    (tmp_path / os.fsdecode(b"\xff.png")).touch()
    listing = list_files(tmp_path)
    assert listing.entries == ()
    assert listing.rejected[0].reason == "has a name that is not UTF-8; rename it"
