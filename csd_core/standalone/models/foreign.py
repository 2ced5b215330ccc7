"""Embedders that csd did not export: what their graphs take and make."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from csd_core.standalone.models.preprocessing import Layout, Preprocessing
from csd_core.system.errors import ArtifactError, ParamsError

TYPES = {
    "tensor(uint8)": TensorProto.UINT8,
    "tensor(float)": TensorProto.FLOAT,
    "tensor(float16)": TensorProto.FLOAT16,
}
"""Of inputs that can be fed, as onnxruntime calls them."""

PROBE = 3
"""Images of the trial run; an odd number, so that a graph made for another batch size shows."""

FEWEST = 16
"""Dimensions below which an output is taken for something else, unless it is named."""

RANK = 4
"""Axes of a batch of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignInput:
    """What a graph takes.

    Attributes:
        name: Of the input.
        type: One of TYPES' values.
        layout: Order of its axes.
        size: Height and width in pixels.
        channels: 1 or 3.
        one: It takes one image at a time.
    """

    name: str
    type: int
    layout: Layout
    size: int
    channels: int
    one: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of one image."""
        side, channels = self.size, self.channels
        return (channels, side, side) if self.layout == "nchw" else (side, side, channels)


def is_exported_by_csd(file: Path) -> bool:
    """Return whether an ONNX file says of itself that it is an embedder in csd's form.

    Raises:
        ArtifactError: if the file is missing or onnxruntime cannot load it.
    """
    return "csd.format" in open_session(file).get_modelmeta().custom_metadata_map


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignOutput:
    """What a graph makes of N images.

    Attributes:
        name: Of the output.
        dimension: D.
        flat: It is N x D, not N x D x 1 x 1.
    """

    name: str
    dimension: int
    flat: bool


def open_session(file: Path | bytes) -> ort.InferenceSession:
    """Load any ONNX file, or its content.

    Raises:
        ArtifactError: if it is missing or onnxruntime cannot load it.
    """
    if isinstance(file, Path) and not file.is_file():
        raise ArtifactError(f"{file}: there is no such model; give the ONNX file of an embedder")
    options = ort.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised; the log would repeat it
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it takes the cores from other work
    try:
        return ort.InferenceSession(
            str(file) if isinstance(file, Path) else file, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no better base class  # noqa: BLE001
        name = file if isinstance(file, Path) else "the graph"
        raise ArtifactError(f"{name}: onnxruntime cannot load it ({first_line(error)}); export it again") from None


def first_line(error: Exception) -> str:
    """Return what onnxruntime or protobuf says, without its trailing details."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def input_of(session: ort.InferenceSession, file: Path, preprocessing: Preprocessing) -> ForeignInput:
    """Return what the graph takes, from its declared input and the options.

    Raises:
        ArtifactError: if that is not a batch of images, of any number.
        ParamsError: if the options do not fit it, or do not say what it leaves open.
    """
    inputs = session.get_inputs()
    if len(inputs) != 1:
        names = ", ".join(each.name for each in inputs) or "none"
        raise ArtifactError(
            f"{file}: has {len(inputs)} inputs ({names}), an embedder has one; export it with images alone"
        )
    declared = inputs[0]
    shape = declared.shape
    known = " x ".join(str(each) if each is not None else "?" for each in shape)
    if declared.type not in TYPES or len(shape) != RANK:
        raise ArtifactError(
            f"{file}: its input {declared.name} is {declared.type} {known or '(no shape)'}; an embedder takes "
            "images N x C x H x W or N x H x W x C of type uint8, float or float16"
        )
    if isinstance(shape[0], int) and shape[0] != 1:
        raise ArtifactError(
            f"{file}: its batch is fixed ({known}); export it with a dynamic first axis, or for one image"
        )
    if declared.type == "tensor(uint8)" and preprocessing.of_pixels:
        raise ParamsError(
            f"{', '.join(preprocessing.of_pixels)}: {file} takes uint8 pixels as they are; leave the option out"
        )
    layout = _layout_of(shape, file, known, preprocessing.layout)
    sides = shape[2:] if layout == "nchw" else shape[1:3]
    channels = shape[1] if layout == "nchw" else shape[3]
    if channels not in (1, 3):
        raise ArtifactError(f"{file}: {known} as {layout} has {channels} channels; images have 1 or 3")
    return ForeignInput(
        name=declared.name,
        type=TYPES[declared.type],
        layout=layout,
        size=_side_of(sides, file, known, preprocessing.image_size),
        channels=channels,
        one=shape[0] == 1,
    )


def _layout_of(shape: list[Any], file: Path, known: str, asked: Layout | None) -> Layout:
    """By which end of the shape looks like channels."""
    if asked:
        return asked
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        raise ParamsError(f"{file}: {known} does not tell where the channels are; add --layout nchw or --layout nhwc")
    return "nchw" if first else "nhwc"


def _side_of(sides: list[Any], file: Path, known: str, asked: int | None) -> int:
    fixed: set[int] = {side for side in sides if isinstance(side, int)}
    if len(fixed) > 1:
        raise ArtifactError(f"{file}: takes images of {known}; csd makes square ones, export it for these")
    side = fixed.pop() if fixed else asked
    if side is None:
        raise ParamsError(f"{file}: {known} leaves the images' size open; add --image-size")
    if asked not in (None, side):
        raise ParamsError(f"--image-size {asked}: {file} takes images of {side} pixels; leave the option out")
    if side < 1:
        raise ParamsError(f"--image-size {side}: must be at least 1")
    return side


def output_of(session: ort.InferenceSession, file: Path, found: ForeignInput, asked: str | None) -> ForeignOutput:
    """Return the output that is one vector for each image.

    Args:
        session: Takes any number of images.
        file: For messages.
        found: Its input.
        asked: Name of the output; None takes the only one there is, if it looks like an embedding.

    Raises:
        ArtifactError: if there is none, or the graph fails.
        ParamsError: if there are several, the one there is looks like something else, or the one asked for is none.
    """
    zeros = np.zeros((PROBE, *found.shape), helper.tensor_dtype_to_np_dtype(found.type))
    try:
        made = [np.asarray(each) for each in session.run(None, {found.name: zeros})]
    except Exception as error:  # onnxruntime's errors share no better base class  # noqa: BLE001
        raise ArtifactError(
            f"{file}: cannot embed {PROBE} images of {' x '.join(map(str, found.shape))} ({first_line(error)}); "
            "export it with a dynamic batch, or give another --image-size or --layout"
        ) from None
    outputs = {each.name: values for each, values in zip(session.get_outputs(), made, strict=True)}
    listed = ", ".join(f"{name} {' x '.join(map(str, ('N', *values.shape[1:])))}" for name, values in outputs.items())
    vectors = {name: values for name, values in outputs.items() if _is_vectors(values)}
    if asked is not None and asked not in vectors:
        raise ParamsError(f"--output {asked}: is no output of vectors of {file}, which has {listed}; name one N x D")
    if not vectors:
        raise ArtifactError(f"{file}: of {PROBE} images it makes {listed}; an embedder has an output of floats N x D")
    if asked is None and len(vectors) > 1:
        raise ParamsError(
            f"{file}: has {len(vectors)} outputs of vectors ({listed}); add --output with the one to search"
        )
    name = asked or next(iter(vectors))
    values = vectors[name]
    flat = values.reshape(PROBE, -1)
    if asked is None and (doubt := _doubt(flat)):
        raise ParamsError(f"{file}: its output {name} {doubt}; if it is what you search by, add --output {name}")
    return ForeignOutput(name=name, dimension=flat.shape[1], flat=values.ndim == 2)  # noqa: PLR2004 - N, D


def _is_vectors(values: Any) -> bool:
    """Whether they are floats N x D, or N x D x 1 x 1 as pooling leaves them."""
    return (
        np.issubdtype(values.dtype, np.floating)
        and values.ndim >= 2  # noqa: PLR2004 - N, D
        and len(values) == PROBE
        and all(side == 1 for side in values.shape[2:])
    )


def _doubt(values: Any) -> str | None:
    """Return what makes vectors look like something else."""
    if values.shape[1] < FEWEST:
        return f"has {values.shape[1]} dimensions, few for an embedding"
    if (values >= 0).all() and np.allclose(values.sum(axis=1, dtype=np.float64), 1, atol=1e-2):
        return "looks like probabilities (they add up to 1), not like an embedding"
    return None
