import pytest
from senders import inbox_batch

from csd_core.retraining.policy import batch_status
from csd_core.retraining.unusable import remember, why_unusable
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace


@pytest.fixture
def files(tmp_path):
    return Workspace(tmp_path)


def test_what_was_found_unusable_is_remembered_until_it_changes(files):
    batch = inbox_batch("monday")
    assert why_unusable(files, batch) is None
    remember(files, batch, "3 of its 5 files are no usable images")
    assert why_unusable(files, batch) == "3 of its 5 files are no usable images"
    assert why_unusable(files, inbox_batch("monday", digest="f" * 64)) is None
    assert why_unusable(files, inbox_batch("tuesday")) is None


def test_it_stands_as_unusable_with_the_reason(files):
    found = batch_status(inbox_batch("monday"), taken={}, reviews=(), unusable="no images")
    assert (found.state, found.words) == ("unusable", "unusable: no images")


def test_a_damaged_note_is_named(files):
    remember(files, inbox_batch("monday"), "no images")
    files.unusable("monday").write_text("{")
    with pytest.raises(ArtifactError, match=r"unusable/monday.json: not a UnusableBatch"):
        why_unusable(files, inbox_batch("monday"))
