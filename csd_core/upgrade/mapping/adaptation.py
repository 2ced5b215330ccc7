"""Fit drift compensators: maps from stored vectors to the candidate's space, learned without the gallery's images.

M images that the candidate trained on, its memory of older tasks too; D_old and D dimensions. `source` is how the old
rows' models (and their adapters) embed those images, `target` how the candidate does (Gomez-Villa et al., LDC, ECCV
2024). Linear and local maps (`maps`) and a small residual network on top of the best linear one compete
on `select`.
"""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, Self, get_args

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from csd_core.params.upgrade import AdapterMethod, AdapterParams
from csd_core.records.adapters import AdapterFit, AdapterFits, AdapterOffer
from csd_core.retrieval.adapter import Adapter, AdapterMetadata
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.retrieval.lineage import Embeds, Lineage
from csd_core.retrieval.metrics import Ints, recall_at
from csd_core.system.atomic import atomic_folder
from csd_core.upgrade.evaluation_data import EvaluationData
from csd_core.upgrade.mapping.adapters import RECORD
from csd_core.upgrade.mapping.fitted import Fitted, Floats, write_adapter
from csd_core.upgrade.mapping.maps import Proposal, linear_maps, local_maps
from csd_core.upgrade.sampling import evenly

ANCHORS = 4096
"""Training images kept beside an adapter, on which its residual is known."""

QUERIES = 2000
"""Of `select`, at most, that choose among the maps."""

NOISE = 0.005
"""Step to which a Recall@1 is rounded before maps are compared; so many queries resolve no more."""


def fit_mlp(source: Floats, target: Floats, linear: Fitted, *, settings: AdapterParams, seed: int) -> Fitted:
    """Fit a one-layer network to what a linear map leaves over.

    Args:
        source: (M, D_old) unit vectors.
        target: (M, D) unit vectors of the same images.
        linear: The linear map.
        settings: Width, epochs and learning rate.
        seed: Of start weights and order.
    """
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415 - takes a second to import
    from sklearn.neural_network import MLPRegressor  # noqa: PLC0415

    # components of unit vectors are about 1/sqrt(D): bring them near 1
    scale_in, scale_out = (np.float32(np.sqrt(each.shape[1])) for each in (source, target))
    left_over = (target - linear.moved(source)) * scale_out
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
        network.fit(source * scale_in, left_over)
    (w1, w2), (b1, b2) = network.coefs_, network.intercepts_
    hidden = (w1 * scale_in, b1, w2 / scale_out, b2 / scale_out)
    return replace(linear, hidden=tuple(np.asarray(each, np.float32) for each in hidden))  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lessons:
    """What adapters are fitted and compared on.

    Attributes:
        train: Embeds the M images that the candidate trained on: from a model to (M, D).
        held_out: The same for its `select` images, (m, D).
        select: The items with their stored rows, of which those of `select` ask; today's models are not needed. None
            where no label is known: then the cosine on `held_out` decides.
    """

    train: Callable[[Embeds], Floats]
    held_out: Callable[[Embeds], Floats]
    select: EvaluationData | None


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
    """Fit every map on offer for each provenance in a gallery, choose on `select`, write the best of each method.

    Args:
        folder: To write, whole or not at all.
        gallery: The old rows.
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
            contest = _Contest.of(lessons.select, provenance, before=lessons.held_out(embed), after=held_out)
            offers = _offers(source, target, contest, settings=settings, seed=seed)
            space = str(gallery.spaces[rows[0]])
            adapters = {}
            for method in dict.fromkeys(proposal.method for proposal in offers):
                best = _best(offers, [method])
                about = AdapterMetadata(
                    source=space,
                    target=digest,
                    method=method,
                    source_dimension=source.shape[1],
                    dimension=target.shape[1],
                )
                adapters[best] = _saved(best.fitted, partial, about)
                offers[best] = offers[best].model_copy(update={"digest": adapters[best].digest})
            chosen = adapters[_best(offers)]
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


def _offers(
    source: Floats, target: Floats, contest: "_Contest", *, settings: AdapterParams, seed: int
) -> dict[Proposal, AdapterOffer]:
    """Return every map with what it reached, the simpler first."""
    with threadpool_limits(1, user_api="blas"):  # so that no weight depends on how many threads there are
        closed = [*linear_maps(source, target, settings), *local_maps(source, target, settings)]
    simpler = get_args(AdapterMethod)
    closed.sort(key=lambda proposal: simpler.index(proposal.method))
    offers = {proposal: contest.judge(proposal) for proposal in closed}
    base = _best(offers, [each for each in simpler if each != "drift"])
    fitted = fit_mlp(source, target, base.fitted, settings=settings, seed=seed)
    network = Proposal(method="mlp", fitted=fitted)
    return offers | {network: contest.judge(network)}


def _best(offers: dict[Proposal, AdapterOffer], methods: Iterable[AdapterMethod] = get_args(AdapterMethod)) -> Proposal:
    """Return the best of some methods; of equals the simpler one."""
    return max((each for each in offers if each.method in methods), key=lambda each: _merit(offers[each]))


def _saved(fitted: Fitted, folder: Path, metadata: AdapterMetadata) -> Adapter:
    """Write <digest>.onnx and open it."""
    with TemporaryDirectory(dir=folder) as scratch:
        written = Path(scratch) / "adapter.onnx"
        write_adapter(fitted, written, metadata)
        adapter = Adapter.load(written)
        written.rename(folder / f"{adapter.digest}.onnx")
    return adapter


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Contest:
    """What the maps of one provenance are compared on.

    Attributes:
        before: (m, D_old) held-out images as the rows were embedded.
        after: (m, D) the same by the candidate.
        stored: (n, D_old) the provenance's rows.
        new: (k, D) new items, by the candidate.
        queries: (q, D) the items that ask, old or new, by the candidate.
        labels: (n + k,) classes of the old and the new items.
        asked: (q,) which of these ask.
        groups: (n + k,) numbers of their groups.
    """

    before: Floats
    after: Floats
    stored: Floats
    new: Floats
    queries: Floats
    labels: npt.NDArray[np.str_]
    asked: Ints
    groups: Ints

    @classmethod
    def of(cls, select: EvaluationData | None, provenance: Provenance, *, before: Floats, after: Floats) -> Self:
        if select is None or provenance not in (groups := select.stored.groups()):
            nothing = np.empty(0, np.intp)
            return cls(
                before=before,
                after=after,
                stored=before[nothing],
                new=after[nothing],
                queries=after[nothing],
                labels=np.empty(0, np.str_),
                asked=nothing,
                groups=nothing,
            )
        mine = groups[provenance]
        items = np.concatenate([np.flatnonzero(select.old)[mine], np.flatnonzero(~select.old)])
        asked = np.flatnonzero(np.isin(items, select.asked))
        asked = asked[evenly(len(asked), QUERIES)]
        return cls(
            before=before,
            after=after,
            stored=select.stored.vectors[mine, : before.shape[1]],
            new=select.candidate[~select.old],
            queries=select.candidate[items[asked]],
            labels=select.labels[items],
            asked=asked,
            groups=select.groups_of(items),
        )

    def judge(self, proposal: Proposal) -> AdapterOffer:
        """Return what a map reaches; it has no file yet."""
        cosines = np.einsum("md,md->m", proposal.fitted(self.before), self.after)
        return AdapterOffer(
            method=proposal.method,
            strength=proposal.strength,
            centred=proposal.centred,
            digest=None,
            select_recall=self._recall(proposal.fitted),
            select_cosine=float(cosines.mean(dtype=np.float64)) if len(cosines) else 0.0,
        )

    def _recall(self, fitted: Fitted) -> float | None:
        if not len(self.asked):
            return None
        recall = recall_at(
            self.queries,
            np.concatenate([fitted(self.stored), self.new]),
            query_labels=self.labels[self.asked],
            gallery_labels=self.labels,
            k=(1,),
            own=self.groups[self.asked],
            groups=self.groups,
        )
        return recall.at(1) if recall.queries else None


def _merit(offer: AdapterOffer) -> tuple[float, float]:
    """Recall where there are queries, else the cosine; rounded, so that noise decides nothing."""
    if offer.select_recall is None:
        return (0.0, round(offer.select_cosine, 4))
    return (round(offer.select_recall / NOISE), 0.0)


def _save_anchors(folder: Path, adapter: Adapter, source: Floats, target: Floats) -> None:
    chosen = evenly(len(source), ANCHORS)
    residuals = 1 - np.einsum("ad,ad->a", adapter(source[chosen]), target[chosen])
    np.save(folder / f"{adapter.digest}.anchors.npy", source[chosen], allow_pickle=False)
    np.save(folder / f"{adapter.digest}.residuals.npy", residuals, allow_pickle=False)
