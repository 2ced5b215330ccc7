"""The gate without a label: how far every way to serve a candidate answers as today's; never a promotion."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from csd_core.params.upgrade import Upgrade
from csd_core.standalone.compared import Materials, read_compared
from csd_core.standalone.pool import FormedLineage
from csd_core.standalone.roles import FIRST
from csd_core.standalone.without_labels.agreement import (
    CONFIDENCE,
    NEIGHBOURS,
    Agreement,
    Search,
    agreement,
    duplicates_kept,
)
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError
from csd_core.upgrade.gate_rules import points
from csd_core.upgrade.mapping.adaptation import Lessons, fit_adapters
from csd_core.upgrade.mapping.adapters import CandidateAdapters
from csd_core.upgrade.measured import embedded

MOST = 2000
"""Queries, unless asked otherwise."""

FEWEST = 20
"""Items, of which half ask."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Of one way to serve the candidate.

    Attributes:
        name: The way.
        today: Agreement with the system of today.
        backfill: Agreement with a full backfill: for `adapt`, how good the map is.
        duplicates: Queries with a near-duplicate in the old space.
        kept: Share of these whose new neighbours hold it.
    """

    name: str
    today: Agreement
    backfill: Agreement
    duplicates: int
    kept: float


def compare_unlabelled(
    materials: Materials, settings: Upgrade, *, seed: int, most: int | None, scratch: Path
) -> tuple[Answers, ...]:
    """Fit a map on half of the items, ask with others, and compare the answers of today with those of each way.

    Args:
        materials: Models or vectors of items without classes.
        settings: Of the adapters.
        seed: Of the halves.
        most: At most so many queries; None for MOST.
        scratch: An empty folder with room for decoded images.

    Raises:
        CsdError: if something that was given is missing, unusable or too little.
    """
    compared = read_compared(materials, gallery=None, scratch=scratch)
    count = len(compared.collection.items.ids)
    if count < FEWEST:
        raise DataError(f"{compared.collection.items.record.name}: {count} items are too few; give at least {FEWEST}")
    order = np.random.default_rng(seed).permutation(count)
    asked, taught = np.sort(order[: count // 2][: most or MOST]), np.sort(order[count // 2 :])
    pool = compared.collection.pool(splits=np.full(count, "train"), tasks=np.full(count, FIRST), cache=compared.cache)
    everything = np.arange(count)
    old, new = (pool.embed(everything, model) for model in (compared.old, compared.new))
    taught = taught[: settings.adapter.max_images]
    fit_adapters(
        scratch / "adapters",
        gallery=embedded(pool, everything, compared.old),
        lineage=FormedLineage(models={}, adapters={}, at_hand={compared.old.digest: compared.old}),
        candidate=compared.new,
        digest=compared.new.digest,
        lessons=Lessons(
            train=lambda embed: pool.embed(taught, embed), held_out=lambda embed: pool.embed(asked, embed), select=None
        ),
        settings=settings.adapter,
        seed=settings.seed,
    )
    (adapter,) = CandidateAdapters.load(scratch / "adapters").chosen.values()
    today, backfill = Search(queries=old, rows=old), Search(queries=new, rows=new)
    ways = {"keep": Search(queries=new, rows=old)} if old.shape[1] == new.shape[1] else {}
    ways |= {"adapt": Search(queries=new, rows=adapter(old)), "backfill": backfill}
    found = []
    for name, search in ways.items():
        duplicates, kept = duplicates_kept(today, search, asked)
        found.append(
            Answers(
                name=name,
                today=agreement(today, search, asked),
                backfill=agreement(backfill, search, asked),
                duplicates=duplicates,
                kept=kept,
            )
        )
    return tuple(found)


def print_answers(found: tuple[Answers, ...]) -> None:
    """Print how far each way agrees with today's system, and what that is worth."""
    head = ("against today", "same first", f"of {NEIGHBOURS} nearest", "rank corr.", "duplicates kept", "as a backfill")
    rows = [
        (
            each.name,
            points(each.today.first),
            points(each.today.overlap),
            f"{each.today.rank_correlation:.2f}",
            f"{points(each.kept)} of {each.duplicates:,}" if each.duplicates else "",
            points(each.backfill.first),
        )
        for each in found
    ]
    show(head, rows, right=head[1:])
    queries = found[0].today.queries
    echo("no verdict: without labels or pairs nothing says which of two answers is right")
    for each in found:
        echo(
            f"  {each.name}: Recall@1 changes by at most {points(each.today.changed_at_most)} points either way, "
            f"whatever is right ({queries:,} queries, confidence {CONFIDENCE:.0%})"
        )
    echo(
        f"  with {queries:,} labelled queries the gate would measure the change itself, to some "
        f"{points(2 * (found[-1].today.changed_at_most / queries) ** 0.5)} points: add --labels or --pairs"
    )
