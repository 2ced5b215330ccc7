import pytest
from senders import arrival

from csd_core.errors import ArtifactError
from csd_core.operations.policy import standing
from csd_core.operations.unusable import remember, why_unusable
from csd_core.workspace import Workspace


@pytest.fixture
def files(tmp_path):
    return Workspace(tmp_path)


def test_what_was_found_unusable_is_remembered_until_it_changes(files):
    batch = arrival("monday")
    assert why_unusable(files, batch) is None
    remember(files, batch, "3 of its 5 files are no usable images")
    assert why_unusable(files, batch) == "3 of its 5 files are no usable images"
    assert why_unusable(files, arrival("monday", digest="f" * 64)) is None
    assert why_unusable(files, arrival("tuesday")) is None


def test_it_stands_as_unusable_with_the_reason(files):
    found = standing(arrival("monday"), taken={}, reviews=(), unusable="no images")
    assert (found.state, found.words) == ("unusable", "unusable: no images")


def test_a_damaged_note_is_named(files):
    remember(files, arrival("monday"), "no images")
    files.unusable("monday").write_text("{")
    with pytest.raises(ArtifactError, match=r"unusable/monday.json: not a UnusableBatch"):
        why_unusable(files, arrival("monday"))
