import numpy as np
import pytest
from published_sets import cifar, cub, known_as, pack
from ruamel.yaml import YAML

from csd_core.data.canonical import load_source
from csd_core.data.shards import load_shard
from csd_core.data.sources import cifar as cifar_source
from csd_core.data.sources import cub as cub_source
from csd_core.data.sources.cifar import CIFAR10, CIFAR100
from csd_core.stages import ingest, init, split
from csd_core.system.errors import DataError


@pytest.fixture
def in_colour(configure):
    """(source, settings, classes of each task) -> a project of that one source, with colour images of 32 pixels."""

    def make(name, settings, tasks):
        files = configure(
            published={name: settings}, tasks={task: (name, classes) for task, classes in tasks.items()}, size=32
        )
        path = files.root / "params.yaml"
        values = YAML(typ="safe").load(path)
        values["images"]["channels"] = 3
        values["training"]["network"] |= {"mean": [0.5] * 3, "std": [0.25] * 3}
        values["split"] |= {"select": 0.2, "gate": 0.2, "test": 0.0}
        with path.open("w", encoding="utf-8") as file:
            YAML().dump(values, file)
        return files

    return make


@pytest.mark.parametrize("real", [CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def test_cifar_becomes_shards_that_keep_its_test_set(real, in_colour, monkeypatch, capsys):
    kind, names = real.archive.kind, real.labels[-1].names[0]
    tasks = {"t1": [f"{names}000", f"{names}001"], "t2": [f"{names}002", f"{names}003"]}
    files = in_colour(kind, {"kind": kind, "path": real.archive.name, "limit_per_class": None}, tasks)
    members, truth, published = cifar(real, rows=40, classes=4)
    monkeypatch.setattr(
        cifar_source, real.archive.kind.upper(), known_as(published, pack(files.root / real.archive.name, members))
    )
    ingest.main(kind)
    init.main()
    for task in tasks:
        split.main(task)
    test, train = 40, 40 * len(real.train)
    assert f"{kind}: {test + train} images of 4 classes; left out: 0 duplicates, 0 unusable" in capsys.readouterr().out
    for number, task in enumerate(tasks):
        shard = load_shard(files.shard(task))
        assert shard.record.classes == tuple(tasks[task])
        counts = {role: int((shard.splits == role).sum()) for role in ("train", "select", "gate", "test")}
        assert counts["test"] == test // 2
        assert sum(counts.values()) == (test + train) // 2
        assert min(counts.values()) > 0
        images, classes = truth[real.test[0].name]
        mine = {image.tobytes() for image in images[classes // 2 == number]}
        assert {image.tobytes() for image in shard.images[shard.rows("test")]} == mine


def test_birds_become_shards_and_their_files_are_read_again_to_the_same_bytes(in_colour, monkeypatch, capsys):
    tasks = {"t1": ["001.Bird_0"], "t2": ["002.Bird_1"]}
    settings = {"kind": "cub200", "path": "CUB_200_2011.tgz", "crop_to_box": True, "limit_per_class": None}
    files = in_colour("birds", settings, tasks)
    members, published = cub(classes=2, per_class=12)
    monkeypatch.setattr(cub_source, "CUB200", known_as(published, pack(files.root / "CUB_200_2011.tgz", members)))
    read = []
    for _ in range(2):
        ingest.main("birds")
        read.append({path.name: path.read_bytes() for path in files.source("birds").iterdir()})
    assert read[0] == read[1]
    assert "birds: 24 images of 2 classes" in capsys.readouterr().out
    init.main()
    for task in tasks:
        split.main(task)
        shard = load_shard(files.shard(task))
        assert (shard.splits == "test").sum() == 6
        assert shard.images.shape == (12, 32, 32, 3)
    assert len(np.unique(load_source(files.source("birds")).ids)) == 24


def test_an_absent_archive_is_one_line_that_says_what_to_fetch(in_colour):
    in_colour("c", {"kind": "cifar100", "path": "raw/cifar-100-binary.tar.gz", "limit_per_class": None}, {"t1": None})
    with pytest.raises(
        DataError, match=r"raw/cifar-100-binary.tar.gz: there is no such .*; fetch cifar-100-binary"
    ) as no:
        ingest.main("c")
    assert "\n" not in str(no.value)
