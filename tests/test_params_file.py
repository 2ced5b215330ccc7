import shutil
import subprocess
from pathlib import Path

import pytest

from csd_core.params.file import load_params, profile_text, use_profile
from csd_core.system.errors import ParamsError

PROFILES = Path(__file__).parents[1] / "csd_core/project/profiles"


@pytest.fixture
def params_file(tmp_path):
    path = tmp_path / "params.yaml"
    shutil.copy(PROFILES / "digits.yaml", path)
    return path


def test_a_profile_overwrites_another_profile(params_file):
    use_profile(params_file, PROFILES, "fashion-mnist-5")
    assert params_file.read_text() == profile_text(PROFILES, "fashion-mnist-5")
    assert list(load_params(params_file).tasks) == ["t1", "t2", "t3", "t4", "t5"]


def test_a_profile_keeps_the_comments_of_the_one_it_extends():
    text = profile_text(PROFILES, "fashion-mnist-5")
    assert text.startswith("# Fashion-MNIST in five tasks")
    assert "min_recall: 0.8 # Recall@1 that a first model must reach" in text
    assert "tasks: # in the order of learning; `csd tasks add` appends one" in text
    assert "\n\n\n" not in text


def test_a_profile_can_be_used_where_there_is_no_params_file(tmp_path):
    use_profile(tmp_path / "params.yaml", PROFILES, "tiny")
    assert load_params(tmp_path / "params.yaml").training.network.depth == 8


def test_edits_are_not_overwritten_unless_forced(params_file):
    edited = params_file.read_text().replace("epochs: 24", "epochs: 25")
    params_file.write_text(edited)
    with pytest.raises(ParamsError, match="edits that are neither committed nor a profile; commit them, save"):
        use_profile(params_file, PROFILES, "tiny")
    assert params_file.read_text() == edited
    use_profile(params_file, PROFILES, "tiny", force=True)
    assert params_file.read_text() == profile_text(PROFILES, "tiny")


def test_an_unknown_profile_names_the_known_ones(params_file):
    with pytest.raises(ParamsError, match="profile digit: there is no such profile; known: .*digits, fashion-mnist-2"):
        use_profile(params_file, PROFILES, "digit")


def test_a_profile_that_extends_itself_is_refused(tmp_path, params_file):
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "loop.yaml").write_text("extends: loop\n")
    with pytest.raises(ParamsError, match="extends itself"):
        use_profile(params_file, tmp_path / "profiles", "loop")


def test_an_invalid_profile_leaves_params_as_they_were(tmp_path, params_file):
    (tmp_path / "profiles").mkdir()
    shutil.copy(PROFILES / "digits.yaml", tmp_path / "profiles")
    (tmp_path / "profiles" / "bad.yaml").write_text("# bad\nextends: digits\nsplit: {select: 7}\n")
    before = params_file.read_bytes()
    with pytest.raises(ParamsError, match=r"params.yaml: split.select: 7"):
        use_profile(params_file, tmp_path / "profiles", "bad")
    assert params_file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_committed_edits_may_be_overwritten(params_file):
    params_file.write_text(params_file.read_text().replace("epochs: 24", "epochs: 25"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(params_file.parent)]
    for command in (["init", "-q"], ["add", "params.yaml"], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    use_profile(params_file, PROFILES, "tiny")
    assert "part of the digits" in params_file.read_text()
