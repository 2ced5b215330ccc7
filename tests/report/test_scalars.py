import pytest

from csd_core.report.scalars import load_curves
from csd_core.system.errors import ArtifactError


def test_curves_are_named_after_their_folder_and_file(tmp_path):
    for name, rows in {"train/ce": "0\t2.5\n1\t1.25", "select/recall_at_1": "0\t0.5"}.items():
        path = tmp_path / f"{name}.tsv"
        path.parent.mkdir()
        path.write_text(f"step\tx\n{rows}\n", encoding="utf-8")
    first, second = load_curves(tmp_path)
    assert (first.name, first.values.tolist()) == ("select/recall_at_1", [0.5])
    assert (second.name, second.values.tolist()) == ("train/ce", [2.5, 1.25])


def test_a_file_at_the_top_keeps_its_own_name(tmp_path):
    (tmp_path / "loss.tsv").write_text("step\tloss\n0\t1\n", encoding="utf-8")
    assert load_curves(tmp_path)[0].name == "loss"


@pytest.mark.parametrize("text", ["step\tce\n0\tmany\n", "step\tce\n0\n"])
def test_a_file_without_numbers_is_named(tmp_path, text):
    (tmp_path / "ce.tsv").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match="ce.tsv: not a curve"):
        load_curves(tmp_path)
