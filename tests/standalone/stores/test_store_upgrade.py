"""A plan for a gallery in a store, and how it is carried out there."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from shops import Made, drawn
from test_stores import all_of

from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.plan_folder import PlanRecord
from csd_core.stores.address import open_store
from csd_core.system.yaml_file import read_yaml
from csd_core.upgrade.policy_file import DEFAULT
from strangers import write_images

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
    from csd_core.cli import main

    made = {}

    def make(shop, allowed):
        exact = shop.kind != "qdrant"  # Qdrant stores vectors normalised
        if (allowed, exact) not in made:
            folder = tmp_path_factory.mktemp("planned")
            with pytest.raises(SystemExit) as stopped:
                main(
                    ["upgrade", "plan", str(models["ours"]), str(models["ours-better"]), "--images", str(images)]
                    + ["--store", shop.address, "--policy", str(policy(folder, allowed=[allowed]))]
                    + ["--price-per-image", "0.5", "-o", str(folder / "plan")]
                )
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
    for place, count in (("write", 3), ("begin", 1), ("write", 2)):
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("killed.py"), shop.address, plan, place, str(count)], check=False
        )
        assert done.returncode == -9
    shop.insert(["77"], drawn(1, 12))  # meanwhile; the plan does not know it
    assert vectors_of(shop.address).keys() == {*ids, "77"}

    code, _, errors = csd("upgrade", "apply", plan, "--store", shop.address, "--max-failed", "0")
    assert (code, "1 rows would have no vector, --max-failed allows 0, such as 77: is not in the plan" in errors) == (
        3,
        True,
    )
    printed = succeed(csd, "apply", plan, "--store", shop.address)
    assert "0 rows embedded, 600 mapped, 0 kept, 0 added, 1 failed and left out\n  77 is not in the plan" in printed
    assert "Recall@1 of 300 queries on the rows as written" in printed
    after = vectors_of(shop.address)
    adapter = onnxruntime.InferenceSession(
        plan / json.loads((plan / "serving.json").read_text())["groups"][0]["map_by"]
    )
    mapped = adapter.run(None, {"vectors": np.array([before[each] for each in ids])})[0]
    assert set(after) == set(ids)
    assert np.allclose([after[each] for each in ids], mapped, atol=1e-5)

    code, _, errors = csd("upgrade", "apply", plan, "--store", shop.address)
    assert "this plan is applied already" in errors
    succeed(csd, "undo", plan, "--store", shop.address)
    undone = vectors_of(shop.address)
    assert set(undone) == {*ids, "77"}
    assert all(np.array_equal(undone[each], before[each]) for each in ids)
    succeed(csd, "apply", plan, "--store", shop.address)
    succeed(csd, "clean", plan, "--store", shop.address)
    code, _, errors = csd("upgrade", "undo", plan, "--store", shop.address)
    assert "is not active, so there is nothing to undo" in errors
