"""Fit a drift compensator: a map from stored vectors to the candidate's space, learned without old images.

M training images of the current stage, D dimensions. `source` is how the old rows' models (and their adapters) embed
those images, `target` how the candidate does (Gomez-Villa et al., LDC, ECCV 2024). Two maps are offered: a bias-free
linear one in closed form, and the same with a small residual network on top.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from threadpoolctl import threadpool_limits

from csd_core.params.upgrade import AdapterParams
from csd_core.records.stages import AdapterFit, AdapterFits, AdapterOffer
from csd_core.retrieval.adapter import Adapter, AdapterMetadata, Method
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.lineage import Embeds, Lineage
from csd_core.retrieval.metrics import recall_at
from csd_core.system.atomic import atomic_file, atomic_folder
from csd_core.upgrade.adapters import RECORD
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.sampling import evenly

Floats = npt.NDArray[np.float32]

ANCHORS = 4096
"""Training images kept beside an adapter, on which its residual is known."""

OPSET, IR_VERSION = 18, 10
"""Of the ONNX operators and format; onnxruntime 1.20 reads both."""

EPSILON = 1e-12
"""A vector shorter than this is left as it is instead of being divided by its length."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fitted:
    """Weights of an adapter.

    Attributes:
        linear: (D, D) float32; x A is the linear part.
        hidden: W1 (D, H), b1 (H,), W2 (H, D), b2 (D,) of the residual network; None for a linear adapter.
    """

    linear: Floats
    hidden: tuple[Floats, Floats, Floats, Floats] | None


def fit_ridge(source: Floats, target: Floats, *, ridge: float) -> Fitted:
    """min_A |source A - target|^2 + lambda |A|^2 in closed form, lambda = ridge times the mean square of a column.

    Args:
        source: (M, D) unit vectors.
        target: (M, D) unit vectors of the same images.
        ridge: Relative penalty.
    """
    x, y = source.astype(np.float64), target.astype(np.float64)
    gram = x.T @ x
    penalty = ridge * np.trace(gram) / len(gram) + np.finfo(np.float32).tiny
    linear = np.linalg.solve(gram + penalty * np.eye(len(gram)), x.T @ y)
    return Fitted(linear=linear.astype(np.float32), hidden=None)


def fit_mlp(source: Floats, target: Floats, linear: Fitted, *, settings: AdapterParams, seed: int) -> Fitted:
    """Fit a one-layer network to what the linear map leaves over.

    Args:
        source: (M, D) unit vectors.
        target: (M, D) unit vectors of the same images.
        linear: The linear map.
        settings: Width, epochs and learning rate.
        seed: Of start weights and order.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - takes a second to import
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415

    scale = np.float32(np.sqrt(source.shape[1]))  # components of unit vectors are about 1/sqrt(D): bring them near 1
    left_over = (target - source @ linear.linear) * scale
    network = MLPRegressor(
        hidden_layer_sizes=(settings.mlp_width,),
        activation="relu",
        solver="adam",
        batch_size=min(256, len(source)),
        learning_rate_init=settings.mlp_lr,
        max_iter=settings.mlp_epochs,
        n_iter_no_change=settings.mlp_epochs,  # every epoch is run: no early stop on a training loss
        random_state=seed,
    )
    # small products: one thread is faster than two, and the sums do not depend on how many there are
    with warnings.catch_warnings(), threadpool_limits(1, user_api="blas"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of epochs is a parameter
        network.fit(source * scale, left_over)
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    hidden = (w1 * scale, b1, w2 / scale, b2 / scale)
    return Fitted(linear=linear.linear, hidden=tuple(np.asarray(each, np.float32) for each in hidden))  # type: ignore[arg-type]


def write_adapter(fitted: Fitted, target: Path, metadata: AdapterMetadata) -> None:
    """Write an adapter as ONNX; equal weights give equal bytes.

    Args:
        fitted: Its weights.
        target: The file: input `vectors` (N, D), output `embeddings` (N, D) of unit length.
        metadata: What it says about itself.
    """
    dimension = metadata.dimension
    constants = {"linear": fitted.linear, "epsilon": np.float32(EPSILON), "last": np.array([1], np.int64)}
    nodes = [helper.make_node("MatMul", ["vectors", "linear"], ["mapped"])]
    if fitted.hidden is not None:
        constants |= dict(zip(("w1", "b1", "w2", "b2"), fitted.hidden, strict=True))
        nodes += [
            helper.make_node("Gemm", ["vectors", "w1", "b1"], ["before"]),
            helper.make_node("Relu", ["before"], ["hidden"]),
            helper.make_node("Gemm", ["hidden", "w2", "b2"], ["residual"]),
            helper.make_node("Add", ["mapped", "residual"], ["moved"]),
        ]
    moved = "mapped" if fitted.hidden is None else "moved"
    nodes += [
        helper.make_node("ReduceL2", [moved, "last"], ["norm"], keepdims=1),
        helper.make_node("Max", ["norm", "epsilon"], ["length"]),
        helper.make_node("Div", [moved, "length"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "adapter",
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", dimension])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["batch", dimension])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="csd", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    for key, value in sorted(metadata.to_props().items()):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    with atomic_file(target) as partial:
        partial.write_bytes(model.SerializeToString(deterministic=True))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What adapters are fitted and compared on.

    Attributes:
        train: Embeds the current stage's M training images: from a model to (M, D).
        held_out: The same for its `select` images, (m, D).
        select: The items with their stored rows, of which those of `select` ask; today's models are not needed.
    """

    train: Callable[[Embeds], Floats]
    held_out: Callable[[Embeds], Floats]
    select: EvaluationData


def fit_adapters(
    folder: Path,
    *,
    gallery: Gallery,
    lineage: Lineage,
    candidate: Embeds,
    digest: str,
    lessons: Lessons,
    settings: AdapterParams,
    seed: int,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    threads: int = 0,
) -> AdapterFits:
    """Fit both kinds of adapter for each provenance in a gallery, choose the better on `select`, write them all.

    Args:
        folder: To write, whole or not at all.
        gallery: The old rows, of the candidate's dimension.
        lineage: The models and adapters that made them.
        candidate: The candidate.
        digest: Its digest.
        lessons: What they are fitted and compared on.
        settings: Of the adapters.
        seed: Of the residual network.
        device: Of the old models.
        threads: CPU threads; 0 leaves the choice to onnxruntime.
    """
    target, held_out = lessons.train(candidate), lessons.held_out(candidate)
    fits, unreachable = [], 0
    with atomic_folder(folder) as partial:
        for provenance, rows in gallery.groups().items():
            embed = lineage.embed_as(provenance, device=device, threads=threads)
            if embed is None:
                unreachable += len(rows)
                continue
            source = lessons.train(embed)
            before = lessons.held_out(embed)
            offers = {}
            space = str(gallery.spaces[rows[0]])
            for method, fitted in _fits(source, target, settings=settings, seed=seed):
                adapter = _saved(
                    fitted,
                    partial,
                    AdapterMetadata(source=space, target=digest, method=method, dimension=target.shape[1]),
                )
                offers[adapter] = AdapterOffer(
                    method=method,
                    digest=adapter.digest,
                    select_recall=_recall_on_select(lessons.select, provenance, adapter),
                    select_cosine=_mean_cosine(adapter(before), held_out),
                )
            chosen = max(offers, key=lambda each: _merit(offers[each]))  # of equals the simpler one
            _save_anchors(partial, chosen, source, target)
            fits.append(
                AdapterFit(
                    embedded_by=provenance.embedded_by,
                    adapters=provenance.adapters,
                    images=len(source),
                    offers=tuple(offers.values()),
                    chosen=chosen.digest,
                )
            )
        why_not = None if fits else f"no model of the gallery's {unreachable} rows is retained"
        record = AdapterFits(fits=tuple(fits), why_not=why_not)
        record.save(partial / RECORD)
    return record


def _fits(source: Floats, target: Floats, *, settings: AdapterParams, seed: int) -> Iterator[tuple[Method, Fitted]]:
    linear = fit_ridge(source, target, ridge=settings.ridge)
    yield "ridge", linear
    yield "mlp", fit_mlp(source, target, linear, settings=settings, seed=seed)


def _saved(fitted: Fitted, folder: Path, metadata: AdapterMetadata) -> Adapter:
    """Write <digest>.onnx and open it."""
    with TemporaryDirectory(dir=folder) as scratch:
        written = Path(scratch) / "adapter.onnx"
        write_adapter(fitted, written, metadata)
        adapter = Adapter.load(written)
        written.rename(folder / f"{adapter.digest}.onnx")
    return adapter


def _recall_on_select(select: EvaluationData, provenance: Provenance, adapter: Adapter) -> float | None:
    """Recall@1 of the candidate's queries of a provenance's items, over their mapped rows and the new items' rows."""
    mine = select.stored.groups().get(provenance, np.empty(0, np.intp))
    old = np.flatnonzero(select.old)[mine]
    new = np.flatnonzero(~select.old)
    rows = np.concatenate([adapter(select.stored.vectors[mine]), select.candidate[new]])
    asked = np.intersect1d(select.asked, old)
    recall = recall_at(
        select.candidate[asked],
        rows,
        query_labels=select.labels[asked],
        gallery_labels=select.labels[np.concatenate([old, new])],
        k=(1,),
        self_index=np.searchsorted(old, asked),
    )
    return recall.at(1) if recall.queries else None


def _mean_cosine(mapped: Floats, target: Floats) -> float:
    return float(np.einsum("nd,nd->n", mapped, target).mean(dtype=np.float64)) if len(mapped) else 0.0


def _merit(offer: AdapterOffer) -> tuple[float, float]:
    """Recall where there are queries, else the cosine; rounded, so that noise decides nothing."""
    if offer.select_recall is None:
        return (0.0, round(offer.select_cosine, 4))
    return (offer.select_recall, 0.0)


def _save_anchors(folder: Path, adapter: Adapter, source: Floats, target: Floats) -> None:
    chosen = evenly(len(source), ANCHORS)
    residuals = 1 - np.einsum("ad,ad->a", adapter(source[chosen]), target[chosen])
    np.save(folder / f"{adapter.digest}.anchors.npy", source[chosen], allow_pickle=False)
    np.save(folder / f"{adapter.digest}.residuals.npy", residuals, allow_pickle=False)
