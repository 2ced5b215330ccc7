"""The embedding network as one ONNX file: uint8 images in, unit vectors out; nothing else is in it."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from csd_core.learning.batches import LabelledImages
from csd_core.learning.export.graph import quiet, strip
from csd_core.learning.networks.network import EmbeddingNetwork, unit
from csd_core.learning.networks.weights import TrainedModel
from csd_core.params.model import Export
from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder, EmbedderMetadata
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError

PARITY_BATCHES = (1, 2, 33)
"""Batch sizes on which onnxruntime must agree with torch: one, few, and odd beyond any vector width."""


class _Embedding(nn.Module):
    def __init__(self, network: EmbeddingNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return unit(self.network(images))


def export_embedder(
    model: TrainedModel, target: Path, *, export: Export, parent: str | None, validation: LabelledImages
) -> float:
    """Write `target`: input `images` (N, H, W, C) uint8, output `embeddings` (N, D) float32 of unit length.

    Normalisation and L2 are inside the graph, batch norm is folded into the convolutions. Equal weights give equal
    bytes: the file holds no path, clock, stack trace or version of a tool.

    Args:
        model: What to export; moved to the CPU.
        target: Replaced only by a file that passes.
        export: Opset and tolerance.
        parent: Digest of the champion it was trained from.
        validation: Images on which onnxruntime and torch are compared.

    Returns:
        The largest 1 - cos between the two on validation images.

    Raises:
        ArtifactError: if they differ by more than `export.max_cosine_error`, or there are no validation images.
    """
    form = model.record.images
    if form is None or not len(validation):
        raise ArtifactError("an export is compared on select images, found none; raise split.select")
    network = model.network.cpu().eval()
    metadata = EmbedderMetadata(
        **dict(form),
        dimension=network.dimension,
        classes=model.record.classes,
        parent=parent,
    )
    graph = _to_onnx(network, form, opset=export.opset)
    strip(graph, props=metadata.to_props())
    onnx.checker.check_model(graph, full_check=True)
    with atomic_file(target) as partial:
        partial.write_bytes(graph.SerializeToString(deterministic=True))
        error = largest_cosine_error(
            network, Embedder.load(partial, device="cpu", threads=1), validation, count=export.parity_images
        )
        if not error <= export.max_cosine_error:  # NaN fails too
            raise ArtifactError(
                f"{target}: onnxruntime's embeddings differ from torch's by 1 - cos = {error:.2e}, at most "
                f"export.max_cosine_error = {export.max_cosine_error:.0e} is allowed; try another export.opset"
            )
    return error


@torch.inference_mode()
def largest_cosine_error(network: EmbeddingNetwork, embedder: Embedder, images: LabelledImages, *, count: int) -> float:
    """Return the largest 1 - cos between torch's and onnxruntime's embedding of an image, over several batch sizes.

    Args:
        network: In evaluation mode, on the CPU.
        embedder: Its export.
        images: At least one; `count` of them are taken, evenly spread, with repeats if there are fewer than a batch.
        count: How many images to compare.
    """
    chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(np.int64))
    some = images.take(torch.from_numpy(np.resize(chosen, max(len(chosen), *PARITY_BATCHES))))
    expected = _unit64(unit(network(some)).numpy())
    worst = 0.0
    for batch in PARITY_BATCHES:
        found = _unit64(embedder(some.numpy(), batch=batch))
        worst = float(
            np.maximum(worst, (1 - (expected * found).sum(axis=1)).max())
        )  # maximum keeps a NaN, max() may not
    return worst


def _unit64(vectors: Any) -> Any:
    exact = vectors.astype(np.float64)
    return exact / np.linalg.norm(exact, axis=1, keepdims=True)


def _to_onnx(network: EmbeddingNetwork, form: ImageForm, *, opset: int) -> onnx.ModelProto:
    example = torch.zeros((2, form.size, form.size, form.channels), dtype=torch.uint8)
    with quiet():
        program = torch.onnx.export(
            _Embedding(network).eval(),
            (example,),
            dynamo=True,
            opset_version=opset,
            input_names=["images"],
            output_names=["embeddings"],
            dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
            verbose=False,
            optimize=True,
        )
    if program is None:
        raise ArtifactError("torch.onnx.export returned nothing; install the versions of constraints.txt")
    graph: onnx.ModelProto = program.model_proto
    return graph
