"""A plan for a gallery in a store, and how it is carried out there."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from shops import Made, drawn
from strangers import write_images
from test_stores import all_of

from csd_core.cli import main
from csd_core.engine.processes import LocalEngine
from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.plan_folder import PlanFolder
from csd_core.standalone.stored.application import apply_to_store
from csd_core.stores.address import open_store
from csd_core.stores.protocol import refuse_other
from csd_core.system.errors import ArtifactError, BusyError
from csd_core.system.yaml_file import read_yaml
from csd_core.upgrade.policy_file import DEFAULT

FIRST = 1000
"""Number of the first item: its image is called so, whatever its class."""


@pytest.fixture(scope="module")
def images(digits, tmp_path_factory):
    """600 images of ten digits, called by the numbers of the items."""
    root = tmp_path_factory.mktemp("numbered") / "photos"
    for path in sorted(write_images(root, *digits).rglob("*.png")):
        path.rename(path.with_name(f"{int(path.stem) + FIRST}.png"))
    return root


@pytest.fixture(scope="module")
def items(digits):
    """(ids, images (N, 8, 8, 1)) of the shop."""
    return np.arange(FIRST, FIRST + len(digits[0])).astype(str), digits[0][..., None]


def succeed(csd, *arguments):
    code, printed, errors = csd("upgrade", *arguments)
    assert code == 0, errors
    return printed


def vectors_of(address):
    store = open_store(address)
    try:
        return all_of(store.rows())
    finally:
        store.close()


def policy(folder, **gate):
    """A policy that takes what is asked for."""
    values = read_yaml(DEFAULT)
    limits = ("max_regression", "max_task_regression", "max_total_regression", "max_excess_flips", "max_map_regression")
    values["gate"] |= {"min_gain": -1.0} | dict.fromkeys(limits, 1.0) | gate
    (folder / "policy.yaml").write_text(str(values))
    return folder / "policy.yaml"


@pytest.fixture(scope="module")
def planned(models, images, items, tmp_path_factory):
    """(allowed, kind of store) -> the folder of a plan from `ours` to `ours-better`, made once."""
    made = {}

    def make(shop, allowed):
        exact = shop.kind != "qdrant"  # Qdrant stores vectors normalised
        if (allowed, exact) not in made:
            folder = tmp_path_factory.mktemp("planned")
            with pytest.raises(SystemExit) as stopped:
                chosen = policy(folder, allowed=[allowed])
                which = ("--images", images, "--store", shop.address, "--policy", chosen, "-o", folder / "plan")
                main([str(each) for each in ("upgrade", "plan", models["ours"], models["ours-better"], *which)])
            assert not stopped.value.code
            made[allowed, exact] = folder / "plan"
        return made[allowed, exact]

    return make


@pytest.fixture
def shop(made, models, items):
    """A store of each kind, with the vectors of `ours`."""
    ids, pixels = items
    return made(ids, Embedder.load(models["ours"])(pixels))


def test_a_killed_upgrade_is_finished_undone_and_made_again(csd, planned, shop, items, models):
    ids, _ = items
    plan, before = planned(shop, "adapt"), vectors_of(shop.address)
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run([sys.executable, script, shop.address, plan, "write", "3"], check=False)
    assert done.returncode == -9
    shop.insert(["77"], drawn(1, 16))  # meanwhile; the plan does not know it
    shop.change(ids[0], drawn(1, 16, seed=1)[0])  # its second vector is written, and of no use now
    assert vectors_of(shop.address).keys() == {*ids, "77"}

    code, _, errors = csd("upgrade", "apply", plan, "--store", shop.address, "--max-failed", "0")
    assert (code, "2 rows would have no vector, --max-failed allows 0, such as " in errors) == (3, True), errors
    printed = succeed(csd, "apply", plan, "--store", shop.address)
    assert "0 rows embedded, 599 mapped, 0 kept, 0 added, 2 failed and left out\n" in printed
    assert "  77 is not in the plan\n" in printed
    assert f"  {ids[0]} has another vector than when it was planned\n" in printed
    assert "Recall@1 of 300 queries on the rows as written" in printed
    after = vectors_of(shop.address)
    adapter = onnxruntime.InferenceSession(
        plan / json.loads((plan / "serving.json").read_text())["groups"][0]["map_by"]
    )
    mapped = adapter.run(None, {"vectors": np.array([before[each] for each in ids])})[0]
    assert set(after) == set(ids[1:])
    assert np.allclose([after[each] for each in ids[1:]], mapped[1:], atol=1e-5)

    code, _, errors = csd("upgrade", "apply", plan, "--store", shop.address)
    assert "this plan is applied already" in errors
    succeed(csd, "undo", plan, "--store", shop.address)
    undone = vectors_of(shop.address)
    assert set(undone) == {*ids, "77"}
    assert all(np.array_equal(undone[each], before[each]) for each in ids[1:])
    assert np.allclose(undone[ids[0]], drawn(1, 16, seed=1)[0])
    succeed(csd, "apply", plan, "--store", shop.address)
    succeed(csd, "clean", plan, "--store", shop.address)
    code, _, errors = csd("upgrade", "undo", plan, "--store", shop.address)
    assert "is not active, so there is nothing to undo" in errors


@pytest.fixture
def parquet(tmp_path, server, models, items):
    """One kind of store, for what is the same in all."""
    return Made("parquet", tmp_path, server, items[0], Embedder.load(models["ours"])(items[1]))


class Meanwhile:
    """A store of which rows change after they were written and judged, right before the switch."""

    def __init__(self, store, change):
        self._store, self._change, self._read = store, change, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def rows(self):
        self._read += 1
        if self._read == 2:
            self._change()
        return self._store.rows()


def test_rows_that_change_until_the_switch_are_left_out(planned, parquet, items, tmp_path):
    ids, _ = items

    def change():
        parquet.change(ids[0], drawn(1, 16)[0])
        parquet.insert(["77"], drawn(1, 16))

    store = open_store(parquet.address)
    done = apply_to_store(
        PlanFolder.load(planned(parquet, "adapt")), Meanwhile(store, change), images=None, work=tmp_path / "work",
        engine=LocalEngine(), max_rows_per_second=None, max_failed=2,
    )  # fmt: skip
    assert done.failed == {"77": "is not in the plan", ids[0]: "has another vector than when it was planned"}
    assert set(all_of(store.rows())) == set(ids[1:])


def test_ids_that_occur_twice_are_refused(csd, parquet, images, items, models):
    parquet.insert(items[0][:1], Embedder.load(models["ours"])(items[1][:1]))
    code, _, errors = csd("upgrade", *plan_arguments(models, images, parquet), "-o", "plan")
    assert (code, f"id {FIRST} occurs 2 times; an upgrade goes by ids" in errors) == (6, True)


def plan_arguments(models, images, shop):
    return ("plan", models["ours"], models["ours-better"], "--images", images, "--store", shop.address)


def test_rows_are_re_embedded_from_their_images_and_the_next_plan_knows_which(csd, parquet, images, items, models):
    ids, pixels = items
    chosen = policy(Path(), allowed=["partial"])
    values = read_yaml(chosen)
    values["upgrade"]["partial"] = {"shares": [0.5], "orders": ["random"], "rest": "adapt"}
    chosen.write_text(str(values))
    printed = succeed(
        csd, *plan_arguments(models, images, parquet), "--policy", chosen, "--price-per-image", "0.5", "-o", "plan"
    )
    assert "300 rows to embed, 300 to map, 0 to keep; 38,400 bytes of vectors, about" in printed
    assert "150.00 for the images" in printed
    code, _, errors = csd("upgrade", "apply", "plan", "--store", parquet.address)
    assert (code, "--images: the plan re-embeds 300 images" in errors) == (2, True)
    gone = min(images.rglob("*.png"))
    kept = gone.read_bytes()
    gone.unlink()
    try:
        printed = succeed(csd, "apply", "plan", "--store", parquet.address, "--images", images)
    finally:
        gone.write_bytes(kept)
    assert "rows embedded, 300 mapped" in printed or "300 rows embedded" in printed
    after, new = vectors_of(parquet.address), Embedder.load(models["ours-better"])(pixels)
    native = [row for row, each in enumerate(ids) if each in after and np.allclose(after[each], new[row], atol=1e-5)]
    assert 299 <= len(native) <= 301

    again = ("plan", models["ours-better"], models["ours"], "--images", images, "--store", parquet.address)
    code, _, errors = csd("upgrade", *again, "-o", "next")
    assert "finish it and give its plan with --previous" in errors
    code, printed, errors = csd("upgrade", *again, "--previous", "plan", "-o", "next", "--policy", policy(Path()))
    assert code in (0, 7), errors
    assert "impossible" not in printed  # adapters were fitted for rows of both kinds


def test_a_way_that_changes_no_stored_row_writes_nothing_and_says_how_to_serve_it(csd, parquet, images, models):
    before = Path(parquet.address.removeprefix("parquet://")).read_bytes()
    succeed(csd, *plan_arguments(models, images, parquet), "--policy", policy(Path(), allowed=["merge"]), "-o", "plan")
    printed = succeed(csd, "apply", "plan", "--store", parquet.address)
    assert "no stored row changes; serve what plan/serving.json says" in printed
    assert Path(parquet.address.removeprefix("parquet://")).read_bytes() == before
    serving = json.loads(Path("plan/serving.json").read_text())
    (group,) = serving["groups"]
    assert group["map_by"] is None
    assert group["query_model"] != serving["new_model"]
    assert Path("plan", group["query_model"]).is_file()
    assert Path("plan", serving["new_model"]).is_file()


def test_vectors_of_another_model_are_refused(csd, parquet, images, models):
    code, _, errors = csd(
        "upgrade", "plan", models["ours-better"], models["ours"], "--images", images, "--store", parquet.address,
        "-o", "plan",
    )  # fmt: skip
    assert (code, "of 64 rows looked at, the old model makes the vector of" in errors) == (6, True)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # of the lock file that Qdrant's leaves open
def test_two_upgrades_of_a_store_at_once_are_refused(made, opened):
    shop = made(["1", "2"], drawn(2, 4))
    store = opened(shop.address)

    def another():  # in a thread of its own, for a lock may be taken again by the thread that holds it
        with opened(shop.address).alone():
            pass

    with store.alone(), ThreadPoolExecutor(1) as elsewhere, pytest.raises(BusyError):
        elsewhere.submit(another).result()


def test_an_upgrade_waits_for_the_one_that_the_store_holds(made, opened):
    store = opened(made(["1", "2"], drawn(2, 4)).address)
    store.begin("0123abcd", 4)
    with pytest.raises(ArtifactError, match="unfinished vectors of upgrade 0123abcd; remove them with"):
        refuse_other(store.held(), "89abcdef", store.name)
