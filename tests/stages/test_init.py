from csd_core.records.stages import Champion, ModelRecord, Pending, SeenShards
from csd_core.records.verdict import Ledger
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.stages import init
from csd_core.workspace import Workspace


def test_the_state_before_the_first_task_is_complete_and_empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    init.main()
    files = Workspace(tmp_path)
    assert SeenShards.load(files.seen("init")).tasks == ()
    assert ModelRecord.load(files.champion_model("init") / "model.json").task is None
    champion = Champion.load(files.champion_embedder("init") / "champion.json")
    assert (champion.digest, champion.task, champion.classes) == (None, None, ())
    gallery, lineage = Gallery.load(files.gallery("init")), Lineage.load(files.lineage("init"))
    assert (len(gallery), gallery.query_model, gallery.searchable_spaces) == (0, None, ())
    assert (dict(lineage.models), dict(lineage.adapters)) == ({}, {})
    assert Pending.load(files.pending("init")).tasks == ()
    assert Ledger.load(files.ledger("init")).best_own_gallery == {}


def test_starting_again_gives_equal_bytes(tmp_path, monkeypatch):
    written = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        init.main()
        init.main()
        written.append(
            {
                str(path.relative_to(tmp_path / name)): path.read_bytes()
                for path in (tmp_path / name).rglob("*")
                if path.is_file()
            }
        )
    assert written[0] == written[1]
    assert len(written[0]) == 9
