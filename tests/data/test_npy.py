import numpy as np
import pytest

from csd_core.data.npy import map_images, write_rows
from csd_core.system.errors import ArtifactError


def test_rows_written_in_chunks_read_as_one_array(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (1234, 3, 3, 1), np.uint8)
    with write_rows(tmp_path / "images.npy", (3, 3, 1)) as rows:
        for start in range(0, len(images), 100):
            rows.append(images[start : start + 100])
    mapped = map_images(tmp_path / "images.npy")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, images)
    np.save(tmp_path / "whole.npy", images)
    assert (tmp_path / "images.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_no_rows_are_an_empty_array(tmp_path):
    with write_rows(tmp_path / "images.npy", (3, 3, 1)):
        pass
    assert map_images(tmp_path / "images.npy").shape == (0, 3, 3, 1)


@pytest.mark.parametrize("rows", [np.zeros((2, 3, 2, 1), np.uint8), np.zeros((2, 3, 3, 1), np.float32)])
def test_rows_of_another_form_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="expected uint8"), write_rows(tmp_path / "images.npy", (3, 3, 1)) as writer:
        writer.append(rows)


def test_what_is_not_a_whole_image_array_is_refused(tmp_path):
    path = tmp_path / "images.npy"
    with pytest.raises(ArtifactError, match="missing; run"):
        map_images(path)
    np.save(path, np.zeros((4, 4, 4, 1), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match="not a whole .npy file"):
        map_images(path)
    with path.open("wb") as file:  # of objects, which only unpickling could read
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": (1,)})
    with pytest.raises(ArtifactError, match="not a whole .npy file"):
        map_images(path)
    np.save(path, np.zeros((4, 4, 4, 1), np.float32))
    with pytest.raises(ArtifactError, match=r"holds float32 \(4, 4, 4, 1\), expected uint8"):
        map_images(path)
