"""A graph that takes one image at a time, made to take any number.

Its first axis is made dynamic; where that breaks the graph (a Reshape to a fixed shape), ONNX's Scan runs it on one
image after the other, inside the file.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from csd_core.standalone.models.foreign import PROBE, ForeignInput, open_session

CLOSE = 1e-3
"""Largest difference between images alone and together, as a share of the largest component."""

SCAN = 9
"""First opset of Scan as it is used here."""


def with_any_batch(model: onnx.ModelProto, found: ForeignInput) -> onnx.ModelProto | None:
    """Return a model that makes of many images what the given one makes of each; None where its opset has no Scan.

    Args:
        model: Takes one image; it is not changed.
        found: Its input.
    """
    alone = open_session(model.SerializeToString())
    draw = np.random.default_rng(0)
    images = draw.random((PROBE, *found.shape)) * (255 if found.type == onnx.TensorProto.UINT8 else 1)
    images = images.astype(helper.tensor_dtype_to_np_dtype(found.type))
    expected = [alone.run(None, {found.name: image[None]}) for image in images]
    dynamic = _dynamic(model, found.name)
    if _agrees(dynamic, found.name, images, expected):
        return dynamic
    if max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0) < SCAN:
        return None
    return _looped(model, found, expected[0])


def _dynamic(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.ClearField("value_info")
    for value in (*made.graph.output, *(each for each in made.graph.input if each.name == name)):
        shape = value.type.tensor_type.shape
        if shape.dim:
            shape.dim[0].dim_param = "batch"
    return made


def _agrees(model: onnx.ModelProto, name: str, images: Any, expected: list[list[Any]]) -> bool:
    try:
        session = open_session(model.SerializeToString())
        together = session.run(None, {name: images})
    except Exception:  # onnxruntime's errors share no better base class  # noqa: BLE001
        return False
    for output, many in enumerate(together):
        alone = np.concatenate([np.atleast_1d(each[output]) for each in expected])
        if np.shape(many) != alone.shape or not np.allclose(many, alone, atol=CLOSE * float(np.abs(alone).max())):
            return False
    return True


def _looped(model: onnx.ModelProto, found: ForeignInput, example: list[Any]) -> onnx.ModelProto:
    """Return a graph whose only node scans the images with the given graph as its body."""
    graph = model.graph
    kept = [(value, np.asarray(made)) for value, made in zip(graph.output, example, strict=True)]
    kept = [(value, made) for value, made in kept if made.ndim > 1 and len(made) == 1]
    reshapes = [helper.make_node("Reshape", ["csd/image", "csd/one"], [found.name])]
    constants = [numpy_helper.from_array(np.array([1, *found.shape], np.int64), "csd/one")]
    outputs = []
    for number, (value, made) in enumerate(kept):
        kind = helper.np_dtype_to_tensor_dtype(made.dtype)
        constants.append(numpy_helper.from_array(np.array(made.shape[1:], np.int64), f"csd/shape{number}"))
        reshapes.append(helper.make_node("Reshape", [value.name, f"csd/shape{number}"], [f"csd/each{number}"]))
        outputs.append(helper.make_tensor_value_info(f"csd/each{number}", kind, made.shape[1:]))
    body = helper.make_graph(
        [reshapes[0], *graph.node, *reshapes[1:]],
        "one",
        [helper.make_tensor_value_info("csd/image", found.type, found.shape)],
        outputs,
        [*graph.initializer, *constants],
        sparse_initializer=list(graph.sparse_initializer),
    )
    names = [value.name for value, _ in kept]
    scan = helper.make_node("Scan", [found.name], names, body=body, num_scan_inputs=1)
    # tensors of the body shadow nothing of the outer graph but these, which have other names inside
    inner = {name: f"csd/inner/{name}" for name in (found.name, *names)}
    for node in scan.attribute[0].g.node:
        for ends in (node.input, node.output):
            ends[:] = [inner.get(end, end) for end in ends]
    made_of = onnx.ModelProto()
    made_of.CopyFrom(model)
    made_of.graph.Clear()
    made_of.graph.CopyFrom(
        helper.make_graph(
            [scan],
            graph.name or "looped",
            [helper.make_tensor_value_info(found.name, found.type, ["batch", *found.shape])],
            [
                helper.make_tensor_value_info(
                    value.name, helper.np_dtype_to_tensor_dtype(made.dtype), ["batch", *made.shape[1:]]
                )
                for value, made in kept
            ],
        )
    )
    return made_of
