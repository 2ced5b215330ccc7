"""What carrying out a plan takes, from a measurement on this machine."""

import time
from dataclasses import dataclass

import numpy as np

from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.plan_folder import PlanRecord
from csd_core.standalone.pool import CollectionPool
from csd_core.upgrade.sampling import evenly

TIMED = 128
"""Images that are embedded to see how long one takes."""
FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What an application takes.

    Attributes:
        rows: That are embedded, mapped and kept.
        bytes: Of the second vectors, without an index.
        seconds: To embed, by one process with all threads of onnxruntime, and to read the rows.
        price: Of the images that are embedded; None where none was given.
    """

    rows: tuple[int, int, int]
    bytes: int
    seconds: float
    price: float | None

    def __str__(self) -> str:
        embedded, mapped, kept = self.rows
        cost = "" if self.price is None else f", {self.price:,.2f} for the images"
        return (
            f"{embedded:,} rows to embed, {mapped:,} to map, {kept:,} to keep; {self.bytes:,} bytes of vectors, "
            f"about {self.seconds:,.0f} s on this machine{cost}"
        )


def estimate(
    record: PlanRecord, pool: CollectionPool, model: Embedder, *, price_per_image: float | None, reading: float
) -> Estimate:
    """Embed some images, and reckon.

    Args:
        record: The plan.
        pool: Of images.
        model: The candidate.
        price_per_image: For embedding one; None if it costs nothing.
        reading: Seconds that reading the rows took.
    """
    some = evenly(len(pool.ids), TIMED)
    pool.embed(some[:1], model)
    start = time.perf_counter()
    pool.embed(some, model)
    each = (time.perf_counter() - start) / max(1, len(some))
    changed = record.rows_embedded + record.rows_mapped
    return Estimate(
        rows=(record.rows_embedded, record.rows_mapped, record.rows_kept),
        bytes=record.rows * record.dimension * FLOAT_BYTES if changed else 0,
        seconds=float(np.round(record.rows_embedded * each + reading, 3)),
        price=None if price_per_image is None else record.rows_embedded * price_per_image,
    )
