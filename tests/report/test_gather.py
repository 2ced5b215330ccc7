import shutil
from dataclasses import replace

import numpy as np
import pytest
from ruamel.yaml import YAML
from safetensors.numpy import save_file

from csd_core.data.shards import load_shard
from csd_core.data.tables import read_table
from csd_core.records.stages import Champion
from csd_core.records.verdict import Ledger
from csd_core.report.collect import collect
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace


@pytest.fixture
def copied(promoted, tmp_path):
    """A line of three tasks to spoil."""
    shutil.copytree(promoted.files.root, tmp_path / "line")
    return Workspace(tmp_path / "line")


def test_only_test_items_are_measured(promoted):
    shards = [load_shard(promoted.files.shard(task)) for task in ("t1", "t2", "t3")]
    expected = [len(shard.rows("test")) for shard in shards]
    assert promoted.report_data.figures.items.tolist() == expected
    assert promoted.report_data.figures.all_seen[-1].queries == sum(expected)


def test_a_carried_champion_is_no_generation_of_its_own(carried):
    assert [champion.task for champion in carried.report_data.generations] == ["t1", "t3", "t4"]
    assert [task.generation for task in carried.report_data.tasks] == [0, 0, 1, 2]


def test_a_rejected_first_task_leaves_a_stage_without_a_champion(late):
    assert [task.generation for task in late.report_data.tasks] == [None, 0, 1]
    assert late.report_data.figures.all_seen[0] is None


def test_every_promotion_that_replaced_a_champion_has_examples(carried):
    assert [(each.previous, each.task, each.strategy) for each in carried.report_data.upgrades] == [
        ("t1", "t3", "backfill"),
        ("t3", "t4", "keep"),
    ]


def provenances_of(gallery):
    """Of each row."""
    return [Provenance(*each) for each in zip(gallery.embedded_by.tolist(), gallery.adapters.tolist(), strict=True)]


def nearest(query, rows, provenances, gallery, *, own):
    """The five best rows of a gallery that one model searches, a row at a time."""

    def score(row):
        group = gallery.searched_by(provenances[row])
        cosine = float(query @ rows[row])
        return float(group.score(cosine)) if group else cosine

    others = [row for row in range(len(rows)) if row != own]
    return sorted(others, key=lambda row: (-score(row), row))[:5]


@pytest.mark.parametrize("report_data", ["promoted", "carried", "mixed", "narrowed"])
def test_neighbours_after_an_upgrade_are_those_of_the_gallery_that_was_promoted(request, report_data):
    told = request.getfixturevalue(report_data)
    seen = [task.name for task in told.report_data.tasks]
    for upgrade in told.report_data.upgrades:
        tasks = seen[: seen.index(upgrade.task) + 1]
        shards = [load_shard(told.files.shard(task)) for task in tasks]
        ids = np.concatenate([shard.ids[shard.rows("test")] for shard in shards])
        images = np.concatenate([shard.images[shard.rows("test")] for shard in shards])
        gallery = Gallery.load(told.files.gallery(upgrade.task))
        row_of = {identity: row for row, identity in enumerate(gallery.ids.tolist())}
        at = np.array([row_of[identity] for identity in ids.tolist()])
        rows, provenances = np.asarray(gallery.vectors)[at], provenances_of(gallery.take(at))
        queries = Embedder.load(told.files.champion_embedder(upgrade.task) / "embedder.onnx")(images)
        for example in upgrade.shown:
            expected = nearest(queries[example.item], rows, provenances, gallery, own=example.item)
            assert [neighbour.item for neighbour in example.after] == expected


@pytest.mark.parametrize("report_data", ["promoted", "mixed"])
def test_neighbours_before_an_upgrade_are_the_champions_on_its_gallery(request, report_data):
    """The status quo: stored rows as they are, new items as the champion embeds them."""
    told = request.getfixturevalue(report_data)
    upgrade = told.report_data.upgrades[1]
    shards = [load_shard(told.files.shard(task)) for task in ("t1", "t2", "t3")]
    images = np.concatenate([shard.images[shard.rows("test")] for shard in shards])
    ids = np.concatenate([shard.ids[shard.rows("test")] for shard in shards])
    champion = Embedder.load(told.files.champion_embedder("t2") / "embedder.onnx")
    rows, provenances = champion(images), [Provenance(champion.digest, "")] * len(images)
    gallery = Gallery.load(told.files.gallery("t2"))
    for row, identity in enumerate(ids.tolist()):
        stored = np.flatnonzero(gallery.ids == identity)
        if len(stored):
            rows[row] = gallery.vectors[stored[0]]
            (provenances[row],) = gallery.take(stored).groups()
    for example in upgrade.shown:
        expected = nearest(champion(images)[example.item], rows, provenances, gallery, own=example.item)
        assert [neighbour.item for neighbour in example.before] == expected


def kinds(task):
    return [(group.kind, len(group.adapters), group.rows) for group in task.groups]


def test_rows_are_told_apart_by_how_they_came_to_be(mixed):
    first, partial, adapt, rejected = mixed.report_data.tasks
    digests = [champion.digest for champion in mixed.report_data.generations]
    assert kinds(first) == [("made", 0, 256)]
    assert kinds(partial) == [("made", 0, 192 + 192), ("mapped", 1, 64)]
    assert kinds(adapt) == [("mapped", 1, 384), ("mapped", 2, 64), ("made", 0, 192)]
    assert [group.embedded_by for group in adapt.groups] == [digests[1], digests[0], digests[2]]
    assert kinds(rejected) == [("mapped", 1, 384), ("mapped", 2, 64), ("made", 0, 192 + 128)]
    assert [task.old_rows for task in mixed.report_data.tasks] == [0, 256, 448, 640]


def test_rows_that_were_kept_lie_in_an_older_space(promoted):
    assert kinds(promoted.report_data.tasks[2]) == [("kept", 0, 256), ("kept", 0, 192), ("made", 0, 192)]


def test_a_gallery_before_the_first_model_has_no_rows(late):
    assert late.report_data.tasks[0].groups == ()
    assert [task.old_rows for task in late.report_data.tasks] == [0, 0, 448]


def test_the_chosen_alternative_is_that_of_the_verdict(mixed):
    chosen = [task.chosen and task.chosen.name for task in mixed.report_data.tasks]
    assert chosen == ["first model", "partial 75 %", "adapt", None]
    assert [task.name for task in mixed.report_data.replacements] == ["t2", "t3"]


def test_where_test_images_are_not_stored_nothing_is_shown(unstored):
    assert unstored.report_data.upgrades == ()
    assert not unstored.report_data.stores_test
    assert unstored.report_data.figures.items.tolist() == [64, 48]
    assert unstored.metrics.tasks["t2"].lost is None


def test_a_gallery_that_is_not_the_ledgers_is_refused(copied):
    gallery = Gallery.load(copied.gallery("t2"))
    gallery.take(np.arange(len(gallery) - 1)).save(copied.gallery("t2"))
    with pytest.raises(ArtifactError, match="gallery: is gallery [0-9a-f]{12}, the ledger has [0-9a-f]{12}; run"):
        collect(copied, copied.params())


def replaced_gallery(files, task, gallery):
    """Put another gallery in a task's place, and in the ledger."""
    gallery.save(files.gallery(task))
    ledger = Ledger.load(files.ledger("t3"))
    entries = [
        entry.model_copy(update={"gallery": gallery.digest}) if entry.task == task else entry
        for entry in ledger.entries
    ]
    Ledger(entries=tuple(entries)).save(files.ledger("t3"))


def test_a_gallery_that_lacks_a_test_item_is_refused(copied):
    gallery = Gallery.load(copied.gallery("t2"))
    replaced_gallery(copied, "t2", gallery.take(np.delete(np.arange(len(gallery)), 6)))
    assert gallery.splits[6] == "test"
    with pytest.raises(ArtifactError, match="has rows of 111 test items, 112 arrived by t2"):
        collect(copied, copied.params())


def test_a_test_row_of_no_known_item_is_refused(copied):
    gallery = Gallery.load(copied.gallery("t2"))
    ids = gallery.ids.copy()
    ids[6] = "f" * 64
    replaced_gallery(copied, "t2", replace(gallery, ids=ids))
    with pytest.raises(ArtifactError, match=f"1 test rows are of no test item, such as {'f' * 64}"):
        collect(copied, copied.params())


def test_thumbnails_are_the_images_of_their_items(promoted):
    shards = [load_shard(promoted.files.shard(task)) for task in ("t1", "t2", "t3")]
    tests = [shard.images[shard.rows("test")] for shard in shards]
    images = np.concatenate([*tests, *(shard.images for shard in shards)])  # beyond those of test by position
    shown = promoted.report_data.thumbnails
    assert (shown.tiles == images[list(shown.items)]).all()
    pairs = [pair for task in promoted.report_data.tasks for each in task.mistakes for pair in each.pairs]
    assert set(shown.items) == set().union(*pairs, *(upgrade.items for upgrade in promoted.report_data.upgrades))


def test_every_picture_has_the_file_that_it_is_in_its_source(promoted):
    tables = [
        read_table(promoted.files.shard(task) / "items.parquet", ("path", "source", "split"))
        for task in ("t1", "t2", "t3")
    ]
    rows = [
        (f"{path} in {source}", split)
        for table in tables
        for path, source, split in zip(*(table[name].tolist() for name in ("path", "source", "split")), strict=True)
    ]
    files = [file for file, split in rows if split == "test"] + [file for file, _ in rows]  # as pictures are numbered
    shown = promoted.report_data.files
    assert shown == {item: files[item] for item in promoted.report_data.thumbnails.items}


def test_the_parameters_are_whole_but_for_where_they_ran(promoted):
    shown = YAML(typ="safe").load(promoted.report_data.parameters)
    assert shown == promoted.files.params().model_dump(mode="json", exclude={"runtime"})
    assert list(shown) == [name for name in type(promoted.files.params()).model_fields if name != "runtime"]


def test_a_champion_that_is_not_the_ledgers_is_refused(copied):
    path = copied.champion_embedder("t2") / "champion.json"
    Champion.load(path).model_copy(update={"digest": "0" * 64}).save(path)
    with pytest.raises(ArtifactError, match="champion.json: is model 000000000000 of t2, the ledger has"):
        collect(copied, copied.params())


def test_a_ledger_of_other_tasks_is_refused(copied):
    ledger = Ledger.load(copied.ledger("t3"))
    Ledger(entries=ledger.entries[:2]).save(copied.ledger("t3"))
    with pytest.raises(ArtifactError, match="has tasks t1, t2, the shards t1, t2, t3"):
        collect(copied, copied.params())


def test_a_missing_classifier_is_refused(copied):
    save_file({"other": np.zeros(1, np.float32)}, copied.champion_model("t1") / "weights.safetensors")
    with pytest.raises(ArtifactError, match="no readable classifier.weight"):
        collect(copied, copied.params())


def test_a_classifier_of_another_shape_is_refused(copied):
    weights = {"classifier.weight": np.zeros((2, 3), np.float32)}
    save_file(weights, copied.champion_model("t1") / "weights.safetensors")
    with pytest.raises(ArtifactError, match="is 2 x 3, the champion has 4 classes and 10 dimensions"):
        collect(copied, copied.params())


def test_a_line_without_test_images_is_told_without_figures(untested):
    assert untested.report_data.figures.all_seen == (None,)
    assert untested.report_data.thumbnails.items == ()
