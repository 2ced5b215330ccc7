"""What another team brings: tiny ONNX embedders, a linear map of pixels each, and a folder of images."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from csd_core.retrieval.embedder import EmbedderMetadata

FLOAT, UINT8, FLOAT16 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.FLOAT16


def linear(matrix, *, shape=("n", 1, 8, 8), kind=FLOAT, names=("pixels", "features"), bias=None, opset=17):
    """A foreign embedder: images of `shape` and `kind` in, (n, D) float vectors that are not of unit length out.

    matrix: (H * W * C, D).
    """
    start, end = names
    constants = {"matrix": matrix, "bias": np.zeros(matrix.shape[1]) if bias is None else bias}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [start], ["floats"], to=FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("Gemm", ["flat", "matrix", "bias"], [end]),
        ],
        "linear",
        [helper.make_tensor_value_info(start, kind, list(shape))],
        [helper.make_tensor_value_info(end, FLOAT, ["n", matrix.shape[1]])],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def exported(matrix, *, size=8, channels=1):
    """One in csd's form."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["images"], ["floats"], to=FLOAT),
            helper.make_node("Flatten", ["floats"], ["flat"]),
            helper.make_node("MatMul", ["flat", "matrix"], ["features"]),
            helper.make_node("LpNormalization", ["features"], ["embeddings"], axis=1, p=2),
        ],
        "exported",
        [helper.make_tensor_value_info("images", UINT8, ["n", size, size, channels])],
        [helper.make_tensor_value_info("embeddings", FLOAT, ["n", matrix.shape[1]])],
        [numpy_helper.from_array(np.asarray(matrix, np.float32), "matrix")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    metadata = EmbedderMetadata(
        size=size, channels=channels, resize="squash", dimension=matrix.shape[1], classes=("0",), parent=None
    )
    helper.set_model_props(model, metadata.to_props())
    return model


def saved(model, path):
    onnx.save(model, path)
    return path


def write_images(root, images, classes):
    for number, (image, label) in enumerate(zip(images, classes, strict=True)):
        (root / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / str(label) / f"{number:04}.png")
    return root
