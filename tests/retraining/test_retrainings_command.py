import pytest

from csd_core import cli
from csd_core.retraining.history import Retraining
from csd_core.workspace import Workspace


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Workspace(tmp_path)


def told(capsys):
    """What `csd retrainings` prints, without its layout."""
    with pytest.raises(SystemExit) as ended:
        cli.main(["retrainings"])
    assert ended.value.code == 0
    return set(capsys.readouterr().out.split())


def test_no_retraining_is_a_sentence(project, capsys):
    assert {"There", "is", "no", "retraining", "yet;"} <= told(capsys)


def test_each_is_listed_with_how_it_ended_and_until_when_a_review_waits(project, capsys):
    record = {
        "name": "2026-11-25-otter",
        "branch": "retrain/2026-11-25-otter",
        "commit": "c" * 40,
        "base": "b" * 40,
        "release": None,
        "tasks": ("t4",),
        "batches": ({"name": "monday", "digest": "d" * 64, "images": 40},),
        "settings": "e" * 64,
        "outcome": "in review",
        "why": "t4 promoted under keep",
        "flow_run": None,
        "publishes": True,
        "on_reject": "carry_on",
        "began": "2026-11-25T03:00:00+00:00",
        "ended": "2026-11-25T03:10:00+00:00",
        "deadline": "2026-12-02T03:10:00+00:00",
    }
    Retraining.model_validate(record).save_to(project)
    Retraining.model_validate(record | {"name": "2026-11-26-mole", "outcome": "published"}).save_to(project)
    words = told(capsys)
    assert {"2026-11-25-otter", "t4", "monday", "review", "until", "2026-12-02", "03:10"} <= words
    assert {"2026-11-26-mole", "published", "promoted", "keep"} <= words
