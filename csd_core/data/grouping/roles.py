"""Roles of a class's items: ranked by a hash of seed and id, group by group, and cut from that ranking."""

import hashlib
from fractions import Fraction

import numpy as np

from csd_core.data.grouping.groups import Rows
from csd_core.data.tables import Strings
from csd_core.params.model import SplitShares
from csd_core.params.section import Split


def apportion(items: int, shares: SplitShares) -> dict[Split, int]:
    """Return how many of a class's items each role gets, by largest remainders: each within 1 of its share.

    Training gets at least one of one or more items; of equal remainders the role named first in `Split` comes first.
    """
    # Fraction of the decimal as written: 0.1 of 30 is 3, not 3.0000000000000004
    select, gate, test = (items * Fraction(str(share)) for share in (shares.select, shares.gate, shares.test))
    quotas: dict[Split, Fraction] = {
        "train": items - select - gate - test,
        "select": select,
        "gate": gate,
        "test": test,
    }
    counts = {role: int(quota) for role, quota in quotas.items()}
    starved = counts["train"] == 0
    by_remainder = sorted(quotas, key=lambda role: (not (starved and role == "train"), counts[role] - quotas[role]))
    for role in by_remainder[: items - sum(counts.values())]:
        counts[role] += 1
    return counts


def by_hash(rows: Rows, ids: Strings, seed: int) -> Rows:
    """Return rows in the order of a hash of seed and id: drawn at random, yet free of any other item."""
    ranks = [hashlib.sha256(f"{seed}/{identity}".encode()).digest() for identity in ids[rows].tolist()]
    return rows[sorted(range(len(ranks)), key=ranks.__getitem__)]


def cut_roles(rows: Rows, groups: Rows, ids: Strings, shares: SplitShares) -> tuple[Rows, Strings]:
    """Rank groups of items and cut roles from the ranking.

    A group gets the role in whose part of the ranked items its middle lies, so each role's count is off by no more than
    the largest group. The first group trains where none would.

    Args:
        rows: (N,) positions of the items.
        groups: (N,) their groups.
        ids: (N,) theirs.
        shares: Of the roles.

    Returns:
        The positions by rank, and their roles.
    """
    rank = np.argsort(by_hash(np.arange(len(rows)), ids, shares.seed))
    by_id = np.argsort(ids)
    _, first, group = np.unique(groups[by_id], return_index=True, return_inverse=True)
    leader = np.empty(len(rows), np.intp)
    leader[by_id] = rank[by_id[first]][group]  # of the item of the least id in each one's group
    ranked = np.lexsort((rank, leader))
    _, sizes = np.unique(leader, return_counts=True)
    counts = apportion(len(rows), shares)
    role = np.searchsorted(np.cumsum(list(counts.values())), np.cumsum(sizes) - sizes / 2, side="right")
    role[:1] = 0
    return rows[ranked], np.repeat(np.array(list(counts), np.str_)[role], sizes)
