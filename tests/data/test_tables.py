import numpy as np
import pytest

from csd_core.data.tables import read_table, write_table
from csd_core.system.errors import ArtifactError


def test_columns_come_back_as_text_and_null_as_nothing(tmp_path):
    path = tmp_path / "kind=odd" / "items.parquet"  # a folder that looks like a partition adds no column
    path.parent.mkdir()
    write_table(path, {"id": np.array(["a", "ß🐈"]), "split": ["test", None]})
    columns = read_table(path, ("split", "id"))
    assert list(columns) == ["split", "id"]
    assert columns["id"].tolist() == ["a", "ß🐈"]
    assert columns["split"].tolist() == ["test", ""]
    assert columns["id"].dtype.kind == "U"


def test_equal_columns_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_table(tmp_path / name, {"id": ["a", "b"]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_an_empty_table_has_empty_columns(tmp_path):
    write_table(tmp_path / "items.parquet", {"id": []})
    assert read_table(tmp_path / "items.parquet", ("id",))["id"].shape == (0,)


def test_what_is_not_such_a_table_is_refused(tmp_path):
    path = tmp_path / "items.parquet"
    with pytest.raises(ArtifactError, match="missing; run"):
        read_table(path, ("id",))
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(ArtifactError, match="not a whole parquet file"):
        read_table(path, ("id",))
    write_table(path, {"id": ["a"]})
    with pytest.raises(ArtifactError, match="has no column label"):
        read_table(path, ("id", "label"))
