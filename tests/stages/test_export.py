import shutil

import pytest

from csd_core.errors import ArtifactError, ParamsError
from csd_core.records import Champion
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.stages import export
from csd_core.workspace import Workspace


def test_the_first_embedder_has_no_parent_and_the_trained_classes(learned_digits):
    metadata = Embedder.load(Workspace(learned_digits).candidate_embedder("t1")).metadata
    assert metadata.parent is None
    assert metadata.classes == ("0", "1", "2")
    assert (metadata.size, metadata.channels, metadata.resize, metadata.dimension) == (8, 1, "squash", 128)


def test_a_later_embedder_names_the_champion_it_came_from(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(learned_digits, root)
    files = Workspace(root)
    shutil.copytree(files.candidate_model("t1"), files.candidate_model("t2"))
    monkeypatch.chdir(root)
    export.main("t2")
    champion = Champion.load(files.champion_embedder("t1") / "champion.json")
    assert Embedder.load(files.candidate_embedder("t2")).metadata.parent == champion.digest


def test_exporting_again_gives_the_same_digest(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "elsewhere"
    shutil.copytree(learned_digits, root)
    file = Workspace(root).candidate_embedder("t1")
    before = digest_of(file)
    file.unlink()
    monkeypatch.chdir(root)
    export.main("t1")
    assert digest_of(file) == before


def test_a_task_without_a_trained_model_is_refused(learned_digits, tmp_path, monkeypatch):
    root = tmp_path / "project"
    shutil.copytree(learned_digits, root)
    files = Workspace(root)
    monkeypatch.chdir(root)
    with pytest.raises(ArtifactError, match=r"model.json: missing; run `csd run`"):
        export.main("t2")
    shutil.copytree(files.champion_model("init"), files.candidate_model("t2"))
    with pytest.raises(ArtifactError, match="holds no trained model"):
        export.main("t2")


def test_an_unknown_task_is_refused(learned_digits, monkeypatch):
    monkeypatch.chdir(learned_digits)
    with pytest.raises(ParamsError, match="task t9: there is no such task; known: t1, t2"):
        export.main("t9")
