"""An embedder that csd did not export, brought into csd's form: preprocessing and unit length inside the graph.

The wrapped file is an embedder like any other: uint8 images N x H x W x C in, unit vectors N x D out, metadata, and a
digest of its own, which also stands for the preprocessing. Equal files and options give equal bytes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder, EmbedderMetadata, digest_of
from csd_core.standalone.models.any_batch import with_any_batch
from csd_core.standalone.models.foreign import PROBE, ForeignInput, first_line, input_of, open_session, output_of
from csd_core.standalone.models.preprocessing import Preprocessing
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError, CompatibilityError, ParamsError

IMAGES, EMBEDDINGS = "images", "embeddings"
"""Input and output of csd's form."""


def wrap(file: Path, target: Path, preprocessing: Preprocessing) -> Embedder:
    """Write an embedder that csd did not export in csd's form.

    Args:
        file: Its ONNX file: one input of images, one output (N, D), which need not be of unit length.
        target: The file to write.
        preprocessing: What the file does not say.

    Raises:
        ArtifactError: if the file is missing, damaged, or not an embedder of images.
        CompatibilityError: if its vectors are not finite, or zero.
        ParamsError: if the options do not fit it.
    """
    session = open_session(file)
    found = input_of(session, file, preprocessing)
    model = _loaded(file)
    if found.one:
        dynamic = with_any_batch(model, found)
        if dynamic is None:
            raise ArtifactError(f"{file}: takes one image at a time; export it with a dynamic first axis")
        model, session = dynamic, open_session(dynamic.SerializeToString())
    chosen = output_of(session, file, found, preprocessing.output)
    output = chosen.name
    graph = model.graph
    taken = {name: f"wrapped/{name}" for name in (IMAGES, EMBEDDINGS)}
    _rename(graph, taken)
    before = list(_feeding(found, taken.get(found.name, found.name), preprocessing))
    made = taken.get(output, output)
    flattened = [] if chosen.flat else [helper.make_node("Flatten", [made], ["csd/flat"], axis=1)]
    after = [
        *flattened,
        helper.make_node("Cast", [made if chosen.flat else "csd/flat"], ["csd/vectors"], to=TensorProto.FLOAT),
        helper.make_node("LpNormalization", ["csd/vectors"], [EMBEDDINGS], axis=1, p=2),
    ]
    initialisers = {each.name for each in graph.initializer}
    overridable = [each for each in graph.input if each.name in initialisers]
    nodes = [*(node for node, _ in before), *graph.node, *after]
    side = found.size
    images = helper.make_tensor_value_info(IMAGES, TensorProto.UINT8, ["batch", side, side, found.channels])
    vectors = helper.make_tensor_value_info(EMBEDDINGS, TensorProto.FLOAT, ["batch", chosen.dimension])
    for field, values in (("node", nodes), ("input", [images, *overridable]), ("output", [vectors])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
    graph.initializer.extend(constant for _, constants in before for constant in constants)
    metadata = EmbedderMetadata(
        **dict(preprocessing.form(side, found.channels)),
        dimension=chosen.dimension,
        classes=(),
        parent=None,
    )
    helper.set_model_props(model, {**metadata.to_props(), "csd.wrapped": digest_of(file)})
    _save(model, target, file)
    embedder = Embedder.load(target)
    _refuse_broken(embedder, metadata.form, file)
    return embedder


def _loaded(file: Path) -> onnx.ModelProto:
    """Return the graph with its weights, those of files beside it too."""
    try:
        return onnx.load(file)
    except Exception as error:  # protobuf's errors differ between its implementations  # noqa: BLE001
        raise ArtifactError(f"{file}: cannot be read with its weights ({first_line(error)}); export it again") from None


def _rename(graph: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename tensors wherever they occur, in branches and loops too."""
    for node in graph.node:
        for ends in (node.input, node.output):
            ends[:] = [names.get(end, end) for end in ends]
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs):
                _rename(inner, names)
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for sparse in graph.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)


def _feeding(
    found: ForeignInput, name: str, preprocessing: Preprocessing
) -> Iterator[tuple[onnx.NodeProto, list[onnx.TensorProto]]]:
    """Nodes from uint8 images (N, H, W, C) to what the graph takes, under the name of its input; with constants."""
    steps: list[tuple[str, dict[str, Any], Any]] = []
    if found.layout == "nchw":
        steps.append(("Transpose", {"perm": [0, 3, 1, 2]}, None))  # before the cast, while a pixel is a byte
    if preprocessing.is_bgr:
        if found.channels != 3:  # noqa: PLR2004 - red, green, blue
            raise ParamsError("--bgr: the model takes grey images; leave it out")
        steps.append(("Gather", {"axis": 1 if found.layout == "nchw" else 3}, np.array([2, 1, 0], np.int64)))
    if found.type != TensorProto.UINT8:
        # onnxruntime broadcasts run by run, and runs of three channels are slow: spread the constants over a line
        line = (found.channels, 1, 1) if found.layout == "nchw" else (found.channels,)
        spread = (found.channels, 1, 1) if found.layout == "nchw" else (found.size, found.channels)
        factor, offset = (
            np.ascontiguousarray(np.broadcast_to(each.reshape(line), spread))
            for each in preprocessing.factor_and_offset(found.channels)
        )
        steps += [("Cast", {"to": TensorProto.FLOAT}, None), ("Mul", {}, factor), ("Add", {}, offset)]
    if found.type == TensorProto.FLOAT16:
        steps.append(("Cast", {"to": TensorProto.FLOAT16}, None))
    current = IMAGES
    for number, (operator, attributes, constant) in enumerate(steps or [("Identity", {}, None)], start=1):
        following = name if number == max(1, len(steps)) else f"csd/{number}"
        constants = [] if constant is None else [numpy_helper.from_array(constant, f"csd/constant{number}")]
        ends = [current, *(each.name for each in constants)]
        yield helper.make_node(operator, ends, [following], **attributes), constants
        current = following


def _save(model: onnx.ModelProto, target: Path, file: Path) -> None:
    try:
        content = model.SerializeToString(deterministic=True)
    except Exception as error:  # protobuf's errors differ between its implementations  # noqa: BLE001
        raise ArtifactError(
            f"{file}: cannot be wrapped ({first_line(error)}); an ONNX file holds less than 2 GiB"
        ) from None
    with atomic_file(target) as partial:
        partial.write_bytes(content)


def _refuse_broken(embedder: Embedder, form: ImageForm, file: Path) -> None:
    """Try pixels at random: a graph with broken weights, or fed at a wrong scale, shows here."""
    shape = (PROBE, form.size, form.size, form.channels)
    vectors = embedder(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    if not (np.isfinite(vectors).all() and vectors.any(axis=1).all()):
        raise CompatibilityError(
            f"{file}: makes vectors that are not finite, or of length 0; look at its weights, --scale, --mean and --std"
        )
