"""From items to vectors: rows for a gallery, and what the models make of the items that the gate measures."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from csd_core.data.pool import ItemPool
from csd_core.params.section import Split
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Bools, Floats, Ints
from csd_core.upgrade.evaluation_data import EvaluationData


class Model(Protocol):
    """What a pool embeds its items by; most often an embedder."""

    @property
    def digest(self) -> str:
        """Its identity."""

    def __call__(self, images: npt.NDArray[np.uint8], /) -> Floats:
        """Return (N, D) unit vectors of images."""


def evaluation_data_of(
    pool: ItemPool,
    gallery: Gallery,
    splits: Sequence[Split],
    *,
    candidate: Model,
    active: Mapping[str, Model],
    may_ask: Sequence[Split] = ("select", "gate"),
) -> EvaluationData:
    """Embed what is served by the candidate, and by today's models what they must embed; find the stored rows.

    Args:
        pool: The items of every task so far.
        gallery: The previous gallery.
        splits: Whose items are served.
        candidate: The candidate.
        active: Digest -> each model that embeds queries today; none for a first model.
        may_ask: Splits whose items may ask.

    Returns:
        The items; `asked` are those of `gate`.
    """
    served = pool.rows(*splits)
    by_id = np.argsort(gallery.ids, kind="stable")
    ids = pool.ids[served]
    old = np.isin(ids, gallery.ids)
    positions = by_id[np.searchsorted(gallery.ids, ids[old], sorter=by_id)]
    asking = np.isin(pool.splits[served], may_ask)
    embedded = {
        digest: _embedded(pool, served, needed=asking | ~old if digest == gallery.query_model else asking, by=model)
        for digest, model in active.items()
    }
    return EvaluationData(
        labels=pool.labels[served],
        tasks=pool.tasks[served],
        splits=pool.splits[served],
        old=old,
        stored=gallery.take(positions),
        positions=positions,
        active=embedded,
        model=candidate.digest,
        candidate=pool.embed(served, candidate),
        asked=np.flatnonzero(pool.splits[served] == "gate"),
        groups=pool.groups[served],
        ids=ids,
    )


def _embedded(pool: ItemPool, served: Ints, *, needed: Bools, by: Model) -> Floats:
    """(N, D) vectors of the items that need one; the others stay zero."""
    some = pool.embed(served[needed], by)
    vectors = np.zeros((len(served), some.shape[1]), np.float32)
    vectors[needed] = some
    return vectors


def embedded(pool: ItemPool, rows: Ints, model: Model) -> Gallery:
    """Return a gallery of some items of a pool, by one model."""
    return Gallery.embedded(
        ids=pool.ids[rows],
        labels=pool.labels[rows],
        tasks=pool.tasks[rows],
        splits=pool.splits[rows],
        vectors=pool.embed(rows, model),
        model=model.digest,
    )
