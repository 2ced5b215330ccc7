"""Test queries over the gallery that a promoted upgrade would serve, in a project whose candidate was backfilled."""

import shutil

import numpy as np
import pytest
from stage_params import change_params

from csd_core.comparison.results.test_queries import ask_test_queries
from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.retrieval.metrics import recall_over
from csd_core.retrieval.parts import parts_of
from csd_core.upgrade.compatibility import paired

ANYTHING = {
    "max_regression": 1.0,
    "max_task_regression": 1.0,
    "max_total_regression": 1.0,
    "max_excess_flips": 1.0,
    "max_map_regression": 1.0,
    "min_gain": -1.0,
}


def promote(folder, decide, project, decision, **gate):
    """Decide about the second task in a copy of the project with another policy."""
    root = shutil.copytree(project, folder / decision)
    change_params(root, lambda values: values["gate"].update({**ANYTHING, **gate}))
    return decide(root, "t2", decision)


def finished(params, **gate):
    """The parameters of a project that ends with its second task, with another policy."""
    tasks = {task: params.tasks[task] for task in ("t1", "t2")}
    return params.model_copy(update={"tasks": tasks, "gate": params.gate.model_copy(update=gate)})


def searched(files):
    """What the test queries find in the gallery that is served after the second task."""
    pool = ItemPool(shards=[load_shard(files.shard(task)) for task in ("t1", "t2")])
    gallery, lineage = Gallery.load(files.gallery("t2")), Lineage.load(files.lineage("t2"))
    asked = pool.rows("test")
    vectors = {
        digest: pool.embed(asked, Embedder.load(lineage.models[digest], device="cpu"))
        for digest in gallery.query_models
    }
    parts = parts_of(
        gallery.vectors,
        gallery.groups(),
        gallery.scoring,
        query_model=gallery.query_models[0],
        queries=vectors.__getitem__,
    )
    own = [gallery.ids.tolist().index(each) for each in pool.ids[asked]]
    return recall_over(parts, query_labels=pool.labels[asked], gallery_labels=gallery.labels, k=(1,), own=own)


@pytest.mark.parametrize("way", ["keep", "adapt", "merge", "partial"])
def test_the_galleries_are_those_that_promoting_or_rejecting_serves(checked_digits, decide, tmp_path, way):
    today, upgraded, cell = (
        promote(tmp_path, decide, checked_digits, decision) for decision in ("reject", way, "backfill")
    )
    first, second = searched(today), searched(upgraded)
    pairs = paired(first, second, np.ones(len(first.rank), np.bool_))
    measured = tuple(ask_test_queries(cell.root, finished(cell.params(), allowed=[way])))
    assert {each.after for each in measured} == {"t2"}
    found = {each.measure: each.value for each in measured}
    assert found["test_queries"] == pairs.queries > 0
    assert (found["test_lost"], found["test_gained"]) == (pairs.lost, pairs.gained)
    assert found["test_bound"] > pairs.difference


def test_of_a_rejected_candidate_no_query_of_test_is_asked(checked_digits, decide, tmp_path):
    cell = promote(tmp_path, decide, checked_digits, "backfill", min_gain=1.0)
    assert not tuple(ask_test_queries(cell.root, finished(cell.params())))
