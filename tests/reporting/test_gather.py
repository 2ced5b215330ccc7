import shutil

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from csd_core.data.shards import load_shard
from csd_core.errors import ArtifactError
from csd_core.records import Champion, Ledger
from csd_core.reporting.examples import nearest
from csd_core.reporting.gather import gather
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.workspace import Workspace


@pytest.fixture
def copied(promoted, tmp_path):
    """A line of three tasks to spoil."""
    shutil.copytree(promoted.files.root, tmp_path / "line")
    return Workspace(tmp_path / "line")


def test_only_test_items_are_measured(promoted):
    shards = [load_shard(promoted.files.shard(task)) for task in ("t1", "t2", "t3")]
    expected = [len(shard.rows("test")) for shard in shards]
    assert promoted.story.figures.items.tolist() == expected
    assert promoted.story.figures.all_seen[-1].queries == sum(expected)


def test_a_carried_champion_is_no_generation_of_its_own(carried):
    assert [champion.task for champion in carried.story.generations] == ["t1", "t3", "t4"]
    assert [task.generation for task in carried.story.tasks] == [0, 0, 1, 2]


def test_a_rejected_first_task_leaves_a_stage_without_a_champion(late):
    assert [task.generation for task in late.story.tasks] == [None, 0, 1]
    assert late.story.figures.all_seen[0] is None


def test_every_promotion_that_replaced_a_champion_has_examples(carried):
    assert [(each.former, each.task, each.strategy) for each in carried.story.upgrades] == [
        ("t1", "t3", "backfill"),
        ("t3", "t4", "keep"),
    ]


@pytest.mark.parametrize("story", ["promoted", "carried"])
def test_neighbours_after_an_upgrade_are_those_of_the_gallery_that_was_promoted(request, story):
    told = request.getfixturevalue(story)
    seen = [task.name for task in told.story.tasks]
    for upgrade in told.story.upgrades:
        tasks = seen[: seen.index(upgrade.task) + 1]
        shards = [load_shard(told.files.shard(task)) for task in tasks]
        ids = np.concatenate([shard.ids[shard.rows("test")] for shard in shards])
        images = np.concatenate([shard.images[shard.rows("test")] for shard in shards])
        gallery = Gallery.load(told.files.gallery(upgrade.task))
        row_of = {identity: row for row, identity in enumerate(gallery.ids.tolist())}
        rows = np.asarray(gallery.vectors)[[row_of[identity] for identity in ids.tolist()]]
        queries = Embedder.load(told.files.champion_embedder(upgrade.task) / "embedder.onnx")(images)
        for example in upgrade.shown:
            own = np.array([example.item])
            expected = nearest(queries[own], rows, own=own, count=5)[0].tolist()
            assert [neighbour.item for neighbour in example.after] == expected


def test_neighbours_before_an_upgrade_are_the_champions_on_its_gallery(promoted):
    """The status quo: stored rows as they are, new items as the champion embeds them."""
    upgrade = promoted.story.upgrades[1]
    shards = [load_shard(promoted.files.shard(task)) for task in ("t1", "t2", "t3")]
    images = np.concatenate([shard.images[shard.rows("test")] for shard in shards])
    ids = np.concatenate([shard.ids[shard.rows("test")] for shard in shards])
    champion = Embedder.load(promoted.files.champion_embedder("t2") / "embedder.onnx")
    rows = champion(images)
    gallery = Gallery.load(promoted.files.gallery("t2"))
    for row, identity in enumerate(ids.tolist()):
        stored = np.flatnonzero(gallery.ids == identity)
        if len(stored):
            rows[row] = gallery.vectors[stored[0]]
    for example in upgrade.shown:
        own = np.array([example.item])
        expected = nearest(champion(images)[own], rows, own=own, count=5)[0].tolist()
        assert [neighbour.item for neighbour in example.before] == expected


def test_thumbnails_are_the_images_of_their_items(promoted):
    shards = [load_shard(promoted.files.shard(task)) for task in ("t1", "t2", "t3")]
    images = np.concatenate([shard.images[shard.rows("test")] for shard in shards])
    shown = promoted.story.thumbnails
    assert (shown.tiles == images[list(shown.items)]).all()
    assert set(shown.items) == set().union(*(upgrade.items for upgrade in promoted.story.upgrades))


def test_the_parameters_are_whole_but_for_where_they_ran(promoted):
    shown = YAML(typ="safe").load(promoted.story.parameters)
    assert shown == promoted.files.params().model_dump(mode="json", exclude={"runtime"})
    assert list(shown) == [name for name in type(promoted.files.params()).model_fields if name != "runtime"]


def test_a_champion_that_is_not_the_ledgers_is_refused(copied):
    path = copied.champion_embedder("t2") / "champion.json"
    Champion.load(path).model_copy(update={"digest": "0" * 64}).save(path)
    with pytest.raises(ArtifactError, match="champion.json: is model 000000000000 of t2, the ledger has"):
        gather(copied, copied.params())


def test_a_ledger_of_other_tasks_is_refused(copied):
    ledger = Ledger.load(copied.ledger("t3"))
    Ledger(entries=ledger.entries[:2]).save(copied.ledger("t3"))
    with pytest.raises(ArtifactError, match="has tasks t1, t2, the shards t1, t2, t3"):
        gather(copied, copied.params())


def test_a_missing_classifier_is_refused(copied):
    save_file({"other": np.zeros(1, np.float32)}, copied.champion_model("t1") / "weights.safetensors")
    with pytest.raises(ArtifactError, match="no readable classifier.weight"):
        gather(copied, copied.params())


def test_a_classifier_of_another_shape_is_refused(copied):
    weights = {"classifier.weight": np.zeros((2, 3), np.float32)}
    save_file(weights, copied.champion_model("t1") / "weights.safetensors")
    with pytest.raises(ArtifactError, match="is 2 x 3, the champion has 4 classes and 10 dimensions"):
        gather(copied, copied.params())


def test_a_line_without_test_images_is_told_without_figures(untested):
    assert untested.story.figures.all_seen == (None,)
    assert untested.story.thumbnails.items == ()
