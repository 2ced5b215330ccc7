"""A wrapped model beside a vector that its team's own code made: whether both are fed alike, or what is closer."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import get_args

import numpy as np

from csd_core.data.decode import decode
from csd_core.records.stages import Resampling
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.metrics import Floats
from csd_core.standalone.models.foreign import is_exported_by_csd
from csd_core.standalone.models.preprocessing import PRESETS, Preprocessing
from csd_core.standalone.models.wrapping import wrap
from csd_core.system.errors import ArtifactError, CompatibilityError, CsdError, DataError

SAME = 0.9999
"""Least cosine of vectors that count as the same; runtimes differ by less, filters by more."""

USUAL_CROP = 0.875
"""224 of 256 pixels."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Between two unit vectors.

    Attributes:
        cosine: Of the two.
        largest: Of a component.
    """

    cosine: float
    largest: float


def verify(wrapped: Embedder, image: Path, vector: Path, *, source: Path, preprocessing: Preprocessing) -> Difference:
    """Embed an image, and compare with what its team's code made of it.

    Args:
        wrapped: The wrapped model.
        image: Image file.
        vector: .npy file of (D,) or (1, D) numbers.
        source: The ONNX file that was wrapped.
        preprocessing: As it was wrapped.

    Raises:
        ArtifactError: if the vector is missing, damaged or of another length.
        CompatibilityError: if they differ; the message names the options that come closest.
        DataError: if the image cannot be read.
    """
    expected = _vector(vector, wrapped.metadata.dimension)
    try:
        pixels = decode(image, wrapped.metadata.form)
    except DataError as error:
        raise DataError(f"{image} {error}") from None
    made = wrapped(pixels[None])[0]
    difference = Difference(cosine=float(made @ expected), largest=float(np.abs(made - expected).max()))
    if difference.cosine >= SAME:
        return difference
    remedy = "csd's own models know how images are fed to them; compare with the image that was embedded"
    if not is_exported_by_csd(source):
        options, cosine = max(_others(source, image, expected, preprocessing), key=lambda each: each[1])
        found = (
            "which is the same" if cosine >= SAME else "which is not the same either: compare the code that feeds it"
        )
        remedy = f"closest is {' '.join(options) or 'no option'} with {cosine:.4f}, {found}"
    raise CompatibilityError(
        f"{vector}: is not what the wrapped model makes of {image}: cosine {difference.cosine:.4f}, largest difference "
        f"{difference.largest:.2g}; {remedy}"
    )


def _vector(file: Path, dimension: int) -> Floats:
    """Return (D,) of unit length."""
    try:
        found = np.load(file, allow_pickle=False).astype(np.float32).reshape(-1)
    except (OSError, ValueError, EOFError) as error:
        raise ArtifactError(f"{file}: not a whole .npy file of numbers ({error}); write it with numpy.save") from None
    length = float(np.linalg.norm(found))
    if len(found) != dimension or not 0 < length < np.inf:
        raise ArtifactError(f"{file}: holds {len(found)} numbers of length {length:.3g}; the model makes {dimension}")
    return np.asarray(found / length, np.float32)


def _others(
    source: Path, image: Path, expected: Floats, preprocessing: Preprocessing
) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield usual ways to feed the model, as options, with the cosine that each gives."""
    base = replace(
        preprocessing, preset=None, bgr=None, scale=None, mean=None, std=None, resize=None, crop_share=None,
        shorter_side=None, resampling=None,
    )  # fmt: skip
    ways = [replace(base, preset=preset) for preset in PRESETS]
    ways += [replace(base, bgr=bgr, scale=scale) for bgr, scale in product((None, True), (None, 1.0))]
    with TemporaryDirectory(prefix="csd-") as folder:
        for number, way in enumerate(ways):
            try:
                model = wrap(source, Path(folder) / f"{number}.onnx", way)
            except CsdError:
                continue  # such as a mean for pixels that are taken as they are
            size, channels = model.metadata.size, model.metadata.channels
            shapes = product(_shapes(way, size), get_args(Resampling))
            forms = [replace(shape, resampling=resampling) for shape, resampling in shapes]
            pixels = np.stack([decode(image, each.form(size, channels)) for each in forms])
            for each, cosine in zip(forms, (model(pixels) @ expected).tolist(), strict=True):
                yield each.as_options(), cosine


def _shapes(way: Preprocessing, size: int) -> tuple[Preprocessing, ...]:
    return (
        replace(way, resize="squash"),
        replace(way, resize="crop"),
        replace(way, resize="crop", crop_share=USUAL_CROP),
        replace(way, shorter_side=round(size / USUAL_CROP)),
        replace(way, resize="pad"),
    )
