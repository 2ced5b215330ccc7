"""The embedding network in whole numbers: 8 bits a weight and an activation, about twice as fast on a CPU.

Its queries search the rows of the float model, so what it costs is measured in just that way. N images, D dimensions.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnxruntime.quantization import CalibrationDataReader, QuantType
from onnxruntime.quantization.calibrate import MinMaxCalibrater, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

from csd_core.data.pool import ItemPool
from csd_core.learning.export.graph import quiet, strip
from csd_core.params.model import Export
from csd_core.records.stages import Quantization
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.metrics import Recall, recall_at
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import ArtifactError

CHUNK = 64
"""Images that calibration holds the activations of at a time."""

IN_WHOLE_NUMBERS = ("Conv", "Relu", "Add", "MaxPool")
"""Kinds of nodes; the means and the unit length at the end stay in float. Without Relu in the list every layer would go
through float, and half of the gain be lost."""


def quantize(model: Path, target: Path, *, calibration: npt.NDArray[np.uint8], threads: int) -> None:
    """Write the int8 variant of an embedder, with the embedder's own metadata.

    Activations have 8 bits, one range a tensor: the least and the greatest value on the calibration images. Weights
    have 7, one range a channel: processors without VNNI add pairs of 8 bit products in 16 bits, where full weights
    saturate, and a recall that was measured on one processor would not hold on another. Normalisation stays in float.

    Equal models, images and threads give equal bytes on one kind of processor, however many cores it has. Another kind
    may round a range differently.

    Args:
        model: The embedder.
        target: Written whole or not at all.
        calibration: (N, H, W, C) uint8 of the model's size and channels.
        threads: CPU threads of the calibration; 0 leaves the choice to onnxruntime.

    Raises:
        ArtifactError: if there are no images.
    """
    if not len(calibration):
        raise ArtifactError("an int8 variant is calibrated on select images, found none; raise split.select")
    source = onnx.load(model)
    with atomic_file(target) as partial, quiet():
        quantizer = QDQQuantizer(
            load_model_with_shape_infer(model),
            per_channel=True,
            reduce_range=True,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=_ranges(model, calibration, threads),
            nodes_to_quantize=[],
            nodes_to_exclude=_normalisation(source.graph),
            op_types_to_quantize=list(IN_WHOLE_NUMBERS),
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
        graph = quantizer.model.model
        strip(graph, props={each.key: each.value for each in source.metadata_props})
        onnx.checker.check_model(graph, full_check=True)
        partial.write_bytes(graph.SerializeToString(deterministic=True))


def quantized(model: Path, target: Path, *, pool: ItemPool, export: Export, threads: int) -> Quantization:
    """Write the int8 variant of an embedder if it is asked for, and remove it again if it costs too much recall.

    Args:
        model: The embedder.
        target: Where the variant goes; there is a file afterwards only if it ships.
        pool: All seen items: it is calibrated on `select` and judged on `gate`.
        export: Whether, and at what loss.
        threads: CPU threads of calibration and judgement; 0 leaves the choice to onnxruntime.

    Raises:
        ArtifactError: if there are no `select` images.
    """
    if export.quantize == "none":
        return Quantization(
            asked="none",
            digest=None,
            calibrated_on=0,
            recall_fp32=None,
            recall_int8=None,
            shipped=False,
            why_not=None,
        )
    select = pool.rows("select")
    chosen = select[_spread(len(select), export.calibration_images)]
    quantize(model, target, calibration=pool.images(chosen), threads=threads)
    variant = Embedder.load(target, device="cpu", threads=threads)
    fp32, int8 = judge(pool, model=Embedder.load(model, device="cpu", threads=threads), variant=variant)
    why_not = _why_not(fp32, int8, allowed=export.max_recall_loss)
    if why_not:
        target.unlink()
    counts = fp32.queries > 0
    return Quantization(
        asked="int8",
        digest=variant.digest,
        calibrated_on=len(chosen),
        recall_fp32=fp32.at(1) if counts else None,
        recall_int8=int8.at(1) if counts else None,
        queries=fp32.queries,
        shipped=why_not is None,
        why_not=why_not,
    )


def judge(pool: ItemPool, *, model: Embedder, variant: Embedder) -> tuple[Recall, Recall]:
    """Queries of the model and of its variant over the model's rows of all `gate` images, own group left out.

    Args:
        pool: All seen items.
        model: The float model, which makes the rows in production too.
        variant: Made of it.
    """
    gate = pool.rows("gate")
    labels, groups = pool.labels[gate], pool.groups[gate]
    rows = pool.embed(gate, model)
    fp32, int8 = (
        recall_at(queries, rows, query_labels=labels, gallery_labels=labels, k=(1,), own=groups, groups=groups)
        for queries in (rows, pool.embed(gate, variant))
    )
    return fp32, int8


def _why_not(fp32: Recall, int8: Recall, *, allowed: float) -> str | None:
    """Return why a variant does not ship; None if it does."""
    if not fp32.queries:
        return "no gate image has a second one of its class, so its recall cannot be measured"
    lost = int((fp32.rank[fp32.possible] < 1).sum()) - int((int8.rank[int8.possible] < 1).sum())
    if lost / fp32.queries <= allowed:
        return None
    return (
        f"it loses {100 * lost / fp32.queries:.2f} points of Recall@1 ({fp32.queries:,} queries), at most "
        f"export.max_recall_loss = {100 * allowed:g} are allowed"
    )


def _spread(length: int, count: int) -> npt.NDArray[np.intp]:
    """Return up to `count` positions, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(count, length)).round().astype(np.intp))


def _normalisation(graph: onnx.GraphProto) -> list[str]:
    """Return names of the nodes before the first convolution: pixel values lose the least there."""
    kinds = [node.op_type for node in graph.node]
    return [node.name for node in graph.node[: kinds.index("Conv")]] if "Conv" in kinds else []


def _ranges(model: Path, calibration: npt.NDArray[np.uint8], threads: int) -> TensorsData:
    """Return the least and the greatest value of each tensor on the calibration images."""
    with TemporaryDirectory(prefix="csd-") as folder:
        calibrator = _Calibrator(
            model, op_types_to_calibrate=list(IN_WHOLE_NUMBERS), augmented_model_path=f"{folder}/augmented.onnx"
        )
        calibrator.augment_graph()
        calibrator.use_threads(threads)
        calibrator.collect_data(_Images(calibration))
        return calibrator.compute_data()


class _Calibrator(MinMaxCalibrater):  # type: ignore[misc] # onnxruntime has no types
    """onnxruntime's calibrator with a set number of threads; its own session takes as many as there are cores."""

    def use_threads(self, threads: int) -> None:
        """Open the session that `collect_data` runs."""
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.infer_session = ort.InferenceSession(
            self.augmented_model_path, options, providers=["CPUExecutionProvider"]
        )


class _Images(CalibrationDataReader):  # type: ignore[misc] # onnxruntime has no types
    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        self._chunks = (images[start : start + CHUNK] for start in range(0, len(images), CHUNK))

    def get_next(self) -> dict[str, Any] | None:
        chunk = next(self._chunks, None)
        return None if chunk is None else {"images": chunk}
