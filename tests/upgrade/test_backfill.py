import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import Pipe
from pathlib import Path

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import TensorProto, helper, numpy_helper

from csd_core.data.canonical import CanonicalSet
from csd_core.data.shards import cut_shard, write_shard
from csd_core.engine.pace import Pace
from csd_core.engine.processes import SPAWN, LocalEngine, Throttle
from csd_core.engine.work import Job
from csd_core.params.model import SplitShares, Task
from csd_core.records.stages import SourceRecord
from csd_core.retrieval.embedder import Embedder, EmbedderMetadata, digest_of
from csd_core.system.atomic import write_text
from csd_core.system.errors import ArtifactError, BusyError, CompatibilityError, CsdError, DataError, ParamsError
from csd_core.upgrade.backfill.embedding import ShardEmbedder
from csd_core.upgrade.backfill.engine import backfill
from csd_core.upgrade.backfill.images import Fetched, ShardFolders
from csd_core.upgrade.backfill.shards import BATCH, ShardTask, plan_shards

ITEMS, ROWS, SIZE, DIMENSION = 400, 150, 16, 24
"""Three shards, the last one shorter; their last batches are not full."""


def convolutional_net(seed=0):
    """An embedder with the operators of a trained one: convolutions, a pool, a matrix product, unit length.

    A row also leans on the number of images in the call, as it may in the last bits wherever a kernel picks its sums
    by shape: so a test sees whether calls have the same shapes, whatever this machine's kernels do.
    """
    draw = np.random.default_rng(seed)
    weights = {
        "scale": np.float32(1 / 255),
        "first": draw.normal(size=(16, 3, 3, 3), scale=0.3),
        "second": draw.normal(size=(32, 16, 3, 3), scale=0.1),
        "last": draw.normal(size=(DIMENSION, 32)),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["channels_first"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["channels_first", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("GlobalAveragePool", ["d"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Gemm", ["f", "last"], ["g"], transB=1),
        helper.make_node("Shape", ["images"], ["n"], start=0, end=1),
        helper.make_node("Cast", ["n"], ["count"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["count", "scale"], ["lean"]),
        helper.make_node("Add", ["g", "lean"], ["h"]),
        helper.make_node("LpNormalization", ["h"], ["embeddings"], axis=1, p=2),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("images", TensorProto.UINT8, ["n", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", DIMENSION])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = EmbedderMetadata(
        size=SIZE, channels=3, resize="squash", dimension=DIMENSION, classes=("a",), parent=None
    )
    helper.set_model_props(model, metadata.to_props())
    return model


def item_ids(count=ITEMS):
    return np.array([f"{number * 7919 % 100_003:06}" for number in range(count)])


def image_of(identity):
    return np.random.default_rng(int(identity)).integers(0, 256, (SIZE, SIZE, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A source that draws each image from its id. Some ids cannot be read; others do something first.

    One that is `elsewhere` is seen by nobody but the process that opened it.
    """

    missing: tuple[str, ...] = ()
    kills_at: str | None = None
    fails_at: str | None = None
    pauses_at: str | None = None
    marker: Path = Path()
    log: Path | None = None
    elsewhere: bool = False

    def mark(self):
        return str(os.getpid()) if self.elsewhere else "drawn"

    def images(self, ids, /):
        if self.log:
            self.log.with_name(f"by-{os.getpid()}").touch()
            with self.log.open("a") as file:
                file.write("".join(f"{identity}\n" for identity in ids))
        if self.kills_at in ids.tolist():
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails_at in ids.tolist():
            raise DataError("the store of images is shut")
        if self.pauses_at in ids.tolist():
            write_text(self.marker / "paused", str(os.getpid()))
            while not (self.marker / "released").exists():
                time.sleep(0.01)
        read = ~np.isin(ids, self.missing)
        images = np.array([image_of(identity) for identity in ids[read]], np.uint8).reshape(-1, SIZE, SIZE, 3)
        return Fetched(images=images, read=read, reasons=dict.fromkeys(ids[~read].tolist(), "gone"))


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "embedder.onnx"
    onnx.save(convolutional_net(), path)
    return path


@pytest.fixture(scope="session")
def serial(model, tmp_path_factory):
    """Bytes of every row, by id, of an undisturbed run in one process."""
    done = run(model, tmp_path_factory.mktemp("serial"))
    return by_id(done)


def run(model, folder, *, ids=None, source=None, workers=1, **options):
    options = {"shard_rows": ROWS, "engine": LocalEngine(workers=workers)} | options
    return backfill(item_ids() if ids is None else ids, model=model, source=source or Drawn(), folder=folder, **options)


def by_id(done):
    return {str(identity): vector.tobytes() for identity, vector in zip(done.ids, done.vectors, strict=True)}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_shards_are_ranges_of_ids_that_depend_on_the_set_of_ids_alone():
    ids = item_ids()
    plan = plan_shards(ids, rows=ROWS)
    assert [len(shard.ids) for shard in plan] == [150, 150, 100]
    assert [shard.number for shard in plan] == [0, 1, 2]
    np.testing.assert_array_equal(np.concatenate([shard.ids for shard in plan]), np.sort(ids))
    shuffled = plan_shards(np.random.default_rng(0).permutation(ids), rows=ROWS)
    assert [shard.digest for shard in shuffled] == [shard.digest for shard in plan]
    assert len({shard.digest for shard in plan}) == 3


def test_an_id_asked_for_twice_is_refused(model, tmp_path):
    with pytest.raises(DataError, match="id 000000 is asked for twice"):
        run(model, tmp_path, ids=np.append(item_ids(), "000000"))


# --- equal bytes ------------------------------------------------------------------------------------------------------


def test_the_vectors_are_the_models(model, serial):
    embedder = Embedder.load(model, device="cpu")
    for shard in plan_shards(item_ids(), rows=ROWS):
        expected = embedder(np.array([image_of(identity) for identity in shard.ids]), batch=BATCH)
        found = np.array([np.frombuffer(serial[identity], np.float32) for identity in shard.ids.tolist()])
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.std(found, axis=0).min() > 1e-4  # the net tells images apart, or the tests below could not fail


def test_two_processes_give_each_row_the_bytes_of_one(model, serial, tmp_path):
    assert by_id(run(model, tmp_path, workers=2)) == serial


def test_the_order_asked_for_is_the_order_of_rows_and_changes_no_bytes(model, serial, tmp_path):
    ids = np.random.default_rng(1).permutation(item_ids())
    done = run(model, tmp_path, ids=ids)
    np.testing.assert_array_equal(done.ids, ids)
    assert by_id(done) == serial
    np.testing.assert_array_equal(np.load(tmp_path / "vectors.npy"), done.vectors)


def test_a_throttled_run_gives_the_same_bytes(model, serial, tmp_path):
    assert by_id(run(model, tmp_path, workers=2, max_rows_per_second=5000)) == serial


def test_a_missing_image_changes_no_other_row(model, serial, tmp_path):
    missing = tuple(sorted(item_ids()[[0, 5, 399]].tolist()))
    done = run(model, tmp_path, source=Drawn(missing=missing))
    assert by_id(done) == {identity: row for identity, row in serial.items() if identity not in missing}
    assert [(failure.id, failure.reason) for failure in done.failed] == [(identity, "gone") for identity in missing]


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition):
    for _ in range(6000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


SCRIPT = """
from pathlib import Path
from test_backfill import Drawn, run

if __name__ == "__main__":
    here = Path({here!r})
    source = Drawn(pauses_at={pauses_at!r}, marker=here)
    run(Path({model!r}), here / "work", source=source, workers={workers})
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_run_killed_in_the_middle_goes_on_to_the_same_bytes(model, serial, tmp_path, workers):
    second = plan_shards(item_ids(), rows=ROWS)[1]
    script = tmp_path / "killed.py"
    script.write_text(
        SCRIPT.format(here=str(tmp_path), model=str(model), pauses_at=str(second.ids[-1]), workers=workers)
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    running = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": path})
    work = tmp_path / "work"
    try:
        wait_until(lambda: (tmp_path / "paused").exists() and (work / "shard-00000" / "shard.json").exists())
    finally:
        running.kill()
        running.wait()
    (tmp_path / "released").touch()
    pid = int((tmp_path / "paused").read_text())
    wait_until(lambda: not alive(pid))
    # a worker that outlived its parent wrote nothing more
    assert not (work / "shard-00001").exists()
    assert not (work / "vectors.npy").exists()

    log = tmp_path / "log"
    assert by_id(run(model, work, source=Drawn(log=log), workers=workers)) == serial
    assert not set(log.read_text().split()) & set(plan_shards(item_ids(), rows=ROWS)[0].ids)


# --- what an earlier run left -----------------------------------------------------------------------------------------


def test_finished_shards_are_not_embedded_again(model, serial, tmp_path):
    run(model, tmp_path)
    log = tmp_path / "log"
    assert by_id(run(model, tmp_path, source=Drawn(log=log))) == serial
    assert not log.exists()


def test_progress_counts_what_an_earlier_run_did(model, tmp_path, monkeypatch, capsys):
    run(model, tmp_path)
    shutil.rmtree(tmp_path / "shard-00001")
    monkeypatch.setattr("csd_core.system.console.PLAIN_INTERVAL", 0.0)
    run(model, tmp_path)
    counts = [line.split("·")[0] for line in capsys.readouterr().out.splitlines() if line.startswith("backfill")]
    assert counts == [f"backfill: {done} of 400 " for done in (314, 378, 400)]


def test_only_batches_with_a_missing_image_are_tried_again(model, serial, tmp_path):
    missing = str(np.sort(item_ids())[70])  # in the second batch of the first shard
    run(model, tmp_path, source=Drawn(missing=(missing,)))
    log = tmp_path / "log"
    done = run(model, tmp_path, source=Drawn(log=log))
    assert not done.failed
    assert by_id(done) == serial
    assert log.read_text().split() == np.sort(item_ids())[BATCH : 2 * BATCH].tolist()


def test_an_image_that_stays_missing_stays_listed(model, tmp_path):
    source = Drawn(missing=(str(item_ids()[3]), str(item_ids()[200])))
    first, second = run(model, tmp_path, source=source), run(model, tmp_path, source=source, workers=2)
    assert second.failed == first.failed
    assert by_id(second) == by_id(first)


def test_shards_of_another_model_are_done_again(model, serial, tmp_path):
    other = tmp_path / "other.onnx"
    onnx.save(convolutional_net(seed=1), other)
    work = tmp_path / "work"
    assert by_id(run(other, work)) != serial
    assert by_id(run(model, work)) == serial


def test_shards_of_other_ids_are_done_again(model, serial, tmp_path):
    run(model, tmp_path, ids=item_ids()[:300])
    assert by_id(run(model, tmp_path)) == serial


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "record"])
def test_a_damaged_shard_is_done_again(model, serial, tmp_path, damage):
    run(model, tmp_path)
    vectors, record = tmp_path / "shard-00001" / "vectors.npy", tmp_path / "shard-00001" / "shard.json"
    content = vectors.read_bytes()
    if damage == "flip":
        vectors.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut":
        vectors.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        vectors.unlink()
    else:
        record.write_text("{")
    assert by_id(run(model, tmp_path)) == serial
    assert vectors.read_bytes() == content


def test_a_second_backfill_in_the_folder_is_refused(model, tmp_path):
    with (
        FileLock(tmp_path / ".lock"),
        pytest.raises(BusyError, match="backfill .* is in use by another process; try again"),
    ):
        run(model, tmp_path)


def test_a_model_that_changes_on_the_way_is_refused(model, tmp_path):
    changed = tmp_path / "embedder.onnx"
    onnx.save(convolutional_net(seed=1), changed)
    embed = ShardEmbedder(model=changed, digest=digest_of(model), source=Drawn(), device="cpu")
    with pytest.raises(ArtifactError, match=f"the backfill began with {digest_of(model)[:12]}; put that model back"):
        embed(ShardTask(shard=plan_shards(item_ids())[0]), Pace())


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_worker_that_dies_is_one_line_and_finished_shards_stay(model, serial, tmp_path):
    third = plan_shards(item_ids(), rows=ROWS)[2]
    with pytest.raises(
        CsdError, match=r"was killed \(SIGKILL.* while it worked on shard 2 .*run again to continue"
    ) as told:
        run(model, tmp_path, source=Drawn(kills_at=str(third.ids[-1])), workers=2)
    assert "\n" not in str(told.value)
    kept = [number for number in range(3) if (tmp_path / f"shard-{number:05}" / "shard.json").exists()]
    assert kept
    assert 2 not in kept
    log = tmp_path / "log"
    assert by_id(run(model, tmp_path, source=Drawn(log=log), workers=2)) == serial
    for number in kept:
        assert not set(log.read_text().split()) & set(plan_shards(item_ids(), rows=ROWS)[number].ids)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_source_reaches_the_caller_as_it_is(model, tmp_path, workers):
    with pytest.raises(DataError, match="^the store of images is shut$"):
        run(model, tmp_path, source=Drawn(fails_at=str(item_ids()[250])), workers=workers)


def test_images_that_do_not_fit_the_model_are_refused(model, tmp_path):
    class Small:
        def images(self, ids, /):
            return Fetched(images=np.zeros((len(ids), 4, 4, 3), np.uint8), read=np.ones(len(ids), bool), reasons={})

    with pytest.raises(CompatibilityError, match=r"images are uint8 \(64, 4, 4, 3\)"):
        run(model, tmp_path, source=Small())


@pytest.mark.parametrize(
    ("images", "read", "reasons"), [(63, 64, {}), (63, 63, {}), (64, 63, {}), (63, 63, {"another": "gone"})]
)
def test_a_source_that_loses_an_image_without_a_word_is_refused(model, tmp_path, images, read, reasons):
    class Lossy:
        def images(self, ids, /):
            return Fetched(
                images=np.zeros((images, SIZE, SIZE, 3), np.uint8), read=np.arange(len(ids)) < read, reasons=reasons
            )

    with pytest.raises(DataError, match="it must account for each"):
        run(model, tmp_path, source=Lossy())


def test_no_rows_are_a_finished_backfill(model, tmp_path):
    done = run(model, tmp_path, ids=[])
    assert done.complete().shape == (0, DIMENSION)


def test_rows_none_of_which_can_be_read_are_all_listed(model, tmp_path):
    ids = item_ids(70)
    done = run(model, tmp_path, ids=ids, source=Drawn(missing=tuple(ids.tolist())))
    assert done.vectors.shape == (0, DIMENSION)
    assert [failure.id for failure in done.failed] == sorted(ids.tolist())
    with pytest.raises(DataError, match=r"70 of 70 images could not be read, such as 000000 \(gone\)"):
        done.complete()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"workers": 0}, "workers is 0, it must be at least 1"),
        ({"max_rows_per_second": 0.0}, "max_rows_per_second is 0.0, it must be above 0"),
        ({"max_rows_per_second": float("nan")}, "max_rows_per_second is nan, it must be above 0"),
    ],
)
def test_impossible_options_are_refused(model, tmp_path, option, message):
    with pytest.raises(ParamsError, match=message):
        run(model, tmp_path, **option)


def test_a_missing_model_and_a_folder_that_cannot_be_made_are_one_line_each(model, tmp_path):
    with pytest.raises(ArtifactError, match="nowhere.onnx: there is no such model"):
        run(tmp_path / "nowhere.onnx", tmp_path / "work")
    (tmp_path / "taken").touch()
    with pytest.raises(ArtifactError, match=r"taken: cannot be written \(File exists\)"):
        run(model, tmp_path / "taken")


# --- processes and throttle -------------------------------------------------------------------------------------------


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def test_a_throttle_spaces_rows_and_makes_up_for_no_idle_time():
    clock = Clock()
    throttle = Throttle(10, clock=clock, sleep=clock.sleep)
    starts = []
    for _ in range(3):
        throttle(5)
        starts.append(clock.now)
    assert starts == pytest.approx([100.0, 100.5, 101.0])
    clock.now = 200.0
    for _ in range(2):
        throttle(20)
        starts.append(clock.now)
    assert starts[3:] == pytest.approx([200.0, 202.0])


def count_rows(item, pace):
    pace.admit(item)
    pace.report(item)
    return item


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_rows_of_all_processes_are_throttled_together_and_reported(workers):
    began = time.monotonic()
    reported = []
    engine = LocalEngine(workers=workers)
    rows = [100, 200, 300]
    job = Job(work=count_rows, items=rows, max_rows_per_second=1000, report=reported.append)
    assert sorted(engine.each(job)) == list(enumerate(rows))
    assert sorted(reported) == rows
    assert time.monotonic() - began >= 300 / 1000  # whoever comes last waits for the two before


def test_stopping_early_leaves_no_process_behind():
    engine = LocalEngine(workers=2)
    working = engine.each(Job(work=count_rows, items=[1, 2, 3, 4]))
    next(working)
    working.close()
    assert not SPAWN.active_children()


# --- the pipeline's images --------------------------------------------------------------------------------------------


@pytest.fixture
def shard_folders(tmp_path):
    """Two shards of drawn images."""
    folders = []
    for number, label in enumerate(("a", "b")):
        ids = item_ids(60)[30 * number : 30 * (number + 1)]
        record = SourceRecord(name="drawn", kind="test", images=30, rejected=0, duplicates=0, classes=(label,))
        source = CanonicalSet(
            record=record,
            images=np.array([image_of(identity) for identity in ids]),
            ids=ids,
            labels=np.full(30, label),
            source_splits=np.full(30, ""),
            paths=ids,
        )
        task = Task(previous="init", recipe="first", source="drawn", classes=None)
        shares = SplitShares(seed=1, select=0.2, gate=0.2, test=0.2, group=None)
        cut = cut_shard(source, task, shares, name=label, earlier=np.empty(0, np.str_))
        folders.append(tmp_path / "shards" / label)
        write_shard(folders[-1], source, cut, task=label)
    return ShardFolders(tuple(folders))


def test_images_come_from_shard_folders_in_any_order_with_one_or_two_processes(model, tmp_path, shard_folders):
    ids = np.random.default_rng(0).permutation(item_ids(60))
    once = run(model, tmp_path / "1", ids=ids, source=shard_folders, shard_rows=25)
    twice = run(model, tmp_path / "2", ids=ids, source=shard_folders, shard_rows=25, workers=2)
    drawn = run(model, tmp_path / "drawn", ids=ids, shard_rows=25)
    np.testing.assert_array_equal(once.complete(), drawn.complete())
    np.testing.assert_array_equal(twice.complete(), drawn.complete())


def test_an_id_of_no_shard_is_listed(shard_folders):
    fetched = shard_folders.images(np.array(["zz", *item_ids(2), "yy"]))
    assert fetched.read.tolist() == [False, True, True, False]
    assert fetched.reasons == {"zz": "no image in the shards", "yy": "no image in the shards"}
    np.testing.assert_array_equal(fetched.images, [image_of(identity) for identity in item_ids(2)])


def test_shard_folders_travel_without_their_images(shard_folders):
    shard_folders.images(item_ids(1))
    here, there = Pipe()
    here.send(shard_folders)
    here.send(shard_folders)
    assert len(there.recv_bytes()) < 1000
    assert there.recv() == shard_folders


def test_a_missing_shard_is_an_error_not_a_list_of_failures(model, tmp_path, shard_folders):
    shutil.rmtree(shard_folders.folders[1])
    with pytest.raises(ArtifactError, match=r"shards/b/shard.json: missing"):
        run(model, tmp_path / "work", ids=item_ids(60), source=shard_folders, workers=2, shard_rows=25)
