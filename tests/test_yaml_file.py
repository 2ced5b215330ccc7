import shutil
import sys
from pathlib import Path

import pytest
from dvc.utils.serialize import load_yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from csd_core.params.edits import add_task, decide, override
from csd_core.params.file import load_params, profile_text
from csd_core.params.production import Review
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import dump, parse_yaml, read_document, read_yaml, same_values

PROFILES = Path(__file__).parents[1] / "csd_core/project/profiles"

HOSTILE = (
    "yes", "on", "NO", "y", "null", "~", "true", "0o7", "007", "1e3", "12:30", "1:2:3", "2020-01-01", "2026-13-45",
    ".inf", ".nan", "1_000", "0x1f", "<<", "=", "a\u2028b", "a\u2029b", "a\x85b", "😀", "a\x07b", "a\0b", "\ufeffx",
    "a\tb", "\t", "wide " * 100, "x" * 500, "shoe:left", "ok :)", "C:\\x", "?a", "?", "http://a/b?c=d#e", "a: b",
    "- a", "-", "a #b", "'q'", '"q"', "{a}", "[b]", "a,b", "&a", "*a", "!a", "%a", "@a", "`a", "|", ">", " a", "a ",
    "a\nb", "a\r\nb", "\n", "", "---", "...", "--- a", "${x}", "\\${x}", "#", "\x7f", "\xa0", "\ufffe", "e\u0301",
)  # fmt: skip
"""Text that some YAML parser takes for something else."""

TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    st.text(st.sampled_from("ab:1 ,[]{}#?-'\"\\\n\t&*!|>%@`~.\u2028é"), max_size=260),
)


def written(values, tmp_path):
    """The values as DVC and as csd read them from the file."""
    path = tmp_path / "values.yaml"
    path.write_text(dump(values), encoding="utf-8")
    return load_yaml(str(path)), read_yaml(path)


@pytest.fixture
def params_file(tmp_path):
    shutil.copy(PROFILES / "digits.yaml", tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=TEXTS)
def test_text_is_read_by_dvc_and_by_csd_as_it_was_written(tmp_path, text):
    document = YAML().load("block: {}\nflow: {key: {}, list: []}\n")
    document["block"], document["flow"]["key"], document["flow"]["list"] = text, text, [text]
    document["flow"]["inner"] = {text: text}
    wanted = {"block": text, "flow": {"key": text, "list": [text], "inner": {text: text}}}
    assert all(same_values(found, wanted) for found in written(document, tmp_path))


@pytest.mark.parametrize("text", HOSTILE)
def test_every_hostile_text_survives_an_edit_of_the_file_that_holds_it(tmp_path, text):
    values = {"a": [text], "b": {"c": text}}
    written(values, tmp_path)
    document = read_document(tmp_path / "values.yaml")
    document["new"] = 1
    assert all(same_values(found, {**values, "new": 1}) for found in written(document, tmp_path))


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reason=TEXTS.filter(bool), by=st.sampled_from([text for text in HOSTILE if text and len(text) <= 200]))
def test_any_reason_of_an_approval_is_what_dvc_reads(params_file, reason, by):
    decide(params_file, "t2", "reject", Review(choice="reject", by=by, reason=reason))
    assert load_yaml(str(params_file))["reviews"]["t2"] == {"choice": "reject", "by": by, "reason": reason}
    assert load_params(params_file).reviews["t2"].reason == reason


@pytest.mark.parametrize("label", ["shoe:left", "12:30", "ok :)", "C:x", "?a", "yes", "007", "#1", "a, b", "don't"])
def test_a_task_may_have_a_class_of_any_name(params_file, label):
    add_task(params_file, "t4", source="digits", classes=[label])
    assert load_yaml(str(params_file))["tasks"]["t4"]["classes"] == [label]
    assert load_params(params_file).tasks["t4"].classes == [label]


def test_an_override_of_a_form_is_what_dvc_reads(params_file):
    override(params_file, {"inbox": {"uri": "s3://bucket/a:b"}, "training": {"first": {"optimizer": {"lr": 1e-7}}}})
    found = load_yaml(str(params_file))
    assert found["inbox"]["uri"] == "s3://bucket/a:b"
    assert found["training"]["first"]["optimizer"]["lr"] == 1e-7


def test_text_that_no_file_can_hold_leaves_the_file_as_it_was(params_file):
    before = params_file.read_bytes()
    with pytest.raises(ParamsError, match="fix the YAML"):
        add_task(params_file, "t4", source="digits", classes=["\ud83d"])
    assert params_file.read_bytes() == before


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (
            "tasks:\n  t1: {classes: [shoe:left]}\n",
            r"p: line 2, column 22: .*; fix the YAML: put text with signs such",
        ),
        ("a: {b: 12:30}\n", "p: line 1, column 10: "),
        ("a: {b: ok :)}\n", "p: line 1, column 11: "),
        ("a: 2026-13-45\n", "p: month must be in 1..12; fix the YAML"),
        ("a: !!int x\n", "p: .*; fix the YAML"),
        ("a: 1\na: 2\n", "p: line 2, column 1: "),
        ("a: \0\n", "p: .*; fix the YAML"),
        ("[" * 1200, "p: .*fix the YAML"),
        ("a: {? b}\n? c\n", None),
        ("a: &x [1]\nb: *x\n", None),
        ("a: &x [*x]\n", None),
    ],
)
def test_a_file_that_dvc_cannot_read_is_refused_with_its_place(text, complaint):
    if complaint is None:
        parse_yaml(text, where="p")
    else:
        with pytest.raises(ParamsError, match=complaint) as caught:
            parse_yaml(text, where="p")
        assert "\n" not in str(caught.value)


def test_params_check_refuses_what_only_the_python_parser_reads(params_file):
    text = params_file.read_text(encoding="utf-8").replace('["7", "8", "9"]', "[shoe:left]")
    params_file.write_text(text, encoding="utf-8")
    YAML().load(text)  # the parser that edits the file has no objection
    with pytest.raises(ParamsError, match=r"params.yaml: line \d+, column \d+: .*double quotes"):
        load_params(params_file)


def test_a_file_of_another_encoding_or_a_folder_is_one_line(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: \xe9\n")
    with pytest.raises(ParamsError, match="is not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    with pytest.raises(ParamsError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)


@pytest.mark.parametrize(
    "overlay",
    [
        "extends: digits\nruntime: {threads: 3}\n",
        "runtime: {threads: 3}\nextends: digits\n",
        "gate: {min_gain: 0.0}\nextends: 'digits' # the base\nruntime: {threads: 3}\n",
        '# For three threads.\n"extends": digits\nruntime:\n  threads: 3 # not more\n',
        "\ufeff# For three threads.\r\n\r\n---\r\nextends: digits\r\nruntime: {threads: 3}\r\n",
    ],
)
def test_a_profile_may_name_what_it_extends_anywhere(tmp_path, overlay):
    shutil.copy(PROFILES / "digits.yaml", tmp_path)
    (tmp_path / "three.yaml").write_text(overlay, encoding="utf-8", newline="")
    (tmp_path / "params.yaml").write_text(profile_text(tmp_path, "three"), encoding="utf-8")
    params = load_params(tmp_path / "params.yaml")
    assert params.runtime.threads == 3
    assert params.model_dump() | {"runtime": 0} == load_params(PROFILES / "digits.yaml").model_dump() | {"runtime": 0}


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"a": "extends: b\n", "b": "extends: a\n"}, "b.yaml: there is no such|a.yaml: extends itself"),
        ({"a": "extends: ../b\n"}, "a.yaml: extends: '../b': is no profile's name; write one of a"),
        ({"a": "extends: [b]\n"}, r"a.yaml: extends: \['b'\]: is no profile's name"),
        ({"a": "extends: b\n", "b": ""}, "b.yaml: holds no keys"),
    ],
)
def test_a_profile_that_extends_nothing_usable_is_refused(tmp_path, files, complaint):
    for name, text in files.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ParamsError, match=complaint):
        profile_text(tmp_path, "a")
    with pytest.raises(ParamsError, match=r"profile: '../a': is no profile's name"):
        profile_text(tmp_path, "../a")


def test_dvc_still_reads_params_as_csd_checks_them():
    """csd may not import DVC; it calls ruamel as DVC does."""
    from dvc.utils.serialize import _yaml  # noqa: PLC0415

    source = Path(sys.modules[_yaml.__name__].__file__).read_text(encoding="utf-8")
    assert 'def parse_yaml(text, path, typ="safe")' in source
    assert "yaml = YAML(typ=typ)" in source
