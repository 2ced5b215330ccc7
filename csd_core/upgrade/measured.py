"""From items to vectors: rows for a gallery, and what both models make of the items that the gate measures."""

import numpy as np

from csd_core.data.pool import ItemPool
from csd_core.params.section import Split
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import Ints
from csd_core.upgrade.evaluation_data import EvaluationData


def evaluation_data_of(
    pool: ItemPool, gallery: Gallery, split: Split, *, candidate: Embedder, champion: Embedder | None
) -> EvaluationData:
    """Embed one split's items by both models, and find the stored rows of the old ones.

    Args:
        pool: The items of every task so far.
        gallery: The previous gallery.
        split: Whose items are measured.
        candidate: The candidate.
        champion: The champion; None for a first model, or where it is not asked for.
    """
    measured = pool.rows(split)
    stored = np.flatnonzero(gallery.splits == split)
    by_id = np.argsort(gallery.ids[stored], kind="stable")
    ids = pool.ids[measured]
    old = np.isin(ids, gallery.ids[stored])
    positions = stored[by_id[np.searchsorted(gallery.ids[stored], ids[old], sorter=by_id)]]
    return EvaluationData(
        labels=pool.labels[measured],
        tasks=pool.tasks[measured],
        old=old,
        stored=gallery.take(positions),
        positions=positions,
        champion=pool.embed(measured, champion) if champion else None,
        candidate=pool.embed(measured, candidate),
        asked=np.arange(len(measured)),
    )


def embedded(pool: ItemPool, rows: Ints, model: Embedder) -> Gallery:
    """Return a gallery of some items of a pool, by one model."""
    return Gallery.embedded(
        ids=pool.ids[rows],
        labels=pool.labels[rows],
        tasks=pool.tasks[rows],
        splits=pool.splits[rows],
        vectors=pool.embed(rows, model),
        model=model.digest,
    )
