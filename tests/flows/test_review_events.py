"""Who waits for a person says so in an event, and again with each later retraining."""

from datetime import UTC, datetime, timedelta

import pytest
from test_home import retraining

from csd_core.workspace import Workspace
from flows.runs import reviews as module
from flows.runs.reviews import follow_up


@pytest.fixture
def told(monkeypatch):
    events = []
    monkeypatch.setattr(module, "emit_event", lambda event, **more: events.append((event, more)))
    return events


def test_only_a_review_that_still_waits_is_told_of_with_its_deadline(tmp_path, told):
    files = Workspace(tmp_path)
    deadline = (datetime.now(UTC) + timedelta(days=2)).isoformat(timespec="seconds")
    retraining("waits", outcome="in review", deadline=deadline, flow_run="7c1", began="2026-11-21").save_to(files)
    retraining("decided", outcome="published", deadline=deadline, began="2026-11-20").save_to(files)
    follow_up(files)
    ((event, more),) = told
    assert (event, more["resource"]) == ("csd.review.waiting", {"prefect.resource.id": "csd.review.waits"})
    assert more["payload"]["message"] == (
        f"waits waits for your decision until {deadline[:16].replace('T', ' ')} UTC: t3 was promoted under merge"
    )
    assert more["related"][0]["prefect.resource.id"] == "prefect.flow-run.7c1"
