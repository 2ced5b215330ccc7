"""The weights of an adapter, what they compute, and the ONNX file that computes it in production.

N vectors, D_old and D dimensions.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from csd_core.retrieval.adapter import BATCH, AdapterMetadata
from csd_core.system.atomic import atomic_file

Floats = npt.NDArray[np.float32]

OPSET, IR_VERSION = 18, 10
"""Of the ONNX operators and format; onnxruntime 1.20 reads both."""

EPSILON = np.float32(1e-12)
"""A vector shorter than this is left as it is instead of being divided by its length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """Weights of an adapter, unit(x A + b + relu(x W1 + b1) W2 + b2 + softmax(x K) V); all but A may be None.

    Attributes:
        linear: A, (D_old, D) float32.
        offset: b, (D,).
        hidden: W1 (D_old, H), b1 (H,), W2 (H, D), b2 (D,) of a residual network.
        neighbours: K (D_old, A) vectors divided by a temperature, and V (A, D) how each moved.
    """

    linear: Floats
    offset: Floats | None = None
    hidden: tuple[Floats, Floats, Floats, Floats] | None = None
    neighbours: tuple[Floats, Floats] | None = None

    def moved(self, vectors: Floats) -> Floats:
        """Return (N, D) mapped vectors before they get unit length."""
        moved: Floats = vectors @ self.linear
        if self.offset is not None:
            moved += self.offset
        if self.hidden is not None:
            w1, b1, w2, b2 = self.hidden
            moved += np.maximum(vectors @ w1 + b1, 0) @ w2 + b2
        if self.neighbours is not None:
            keys, moves = self.neighbours
            near = vectors @ keys
            np.exp(near - near.max(axis=1, keepdims=True), out=near)
            moved += near / near.sum(axis=1, keepdims=True) @ moves
        return moved

    def __call__(self, vectors: Floats) -> Floats:
        """Return (N, D) unit vectors, as the file would to within rounding."""
        found = np.empty((len(vectors), self.linear.shape[1]), np.float32)
        for start in range(0, len(vectors), BATCH):  # a vector has many neighbours, so not all vectors at a time
            moved = self.moved(vectors[start : start + BATCH])
            found[start : start + BATCH] = moved / np.maximum(np.linalg.norm(moved, axis=1, keepdims=True), EPSILON)
        return found


def write_adapter(fitted: Fitted, target: Path, metadata: AdapterMetadata) -> None:
    """Write an adapter as ONNX; equal weights give equal bytes.

    Args:
        fitted: Its weights.
        target: The file: input `vectors` (N, D_old), output `embeddings` (N, D) of unit length.
        metadata: What it says about itself.
    """
    constants = {"linear": fitted.linear, "epsilon": EPSILON, "last": np.array([1], np.int64)}
    nodes = [helper.make_node("MatMul", ["vectors", "linear"], ["mapped"])]
    moved = "mapped"

    def add(part: str) -> None:
        nonlocal moved
        nodes.append(helper.make_node("Add", [moved, part], [f"with {part}"]))
        moved = f"with {part}"

    if fitted.offset is not None:
        constants["offset"] = fitted.offset
        add("offset")
    if fitted.hidden is not None:
        constants |= dict(zip(("w1", "b1", "w2", "b2"), fitted.hidden, strict=True))
        nodes += [
            helper.make_node("Gemm", ["vectors", "w1", "b1"], ["before"]),
            helper.make_node("Relu", ["before"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["residual"]),
        ]
        add("residual")
    if fitted.neighbours is not None:
        constants |= dict(zip(("keys", "moves"), fitted.neighbours, strict=True))
        nodes += [
            helper.make_node("MatMul", ["vectors", "keys"], ["near"]),
            helper.make_node("Softmax", ["near"], ["shares"], axis=1),
            helper.make_node("MatMul", ["shares", "moves"], ["drift"]),
        ]
        add("drift")
    nodes += [
        helper.make_node("ReduceL2", [moved, "last"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "epsilon"], ["length"]),
        helper.make_node("Div", [moved, "length"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "adapter",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", metadata.source_dimension])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", metadata.dimension])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="csd", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    for key, value in sorted(metadata.to_props().items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    with atomic_file(target) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))
