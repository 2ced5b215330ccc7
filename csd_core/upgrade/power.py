"""What a number of gate queries can prove, before there is a candidate."""

from csd_core.params.upgrade import Policy
from csd_core.records.check import Paired
from csd_core.upgrade.gate_rules import lower_bound, with_share

NOMINEE = 0.5
"""Share of the verdict's risk with which the cheapest way is judged (`csd_core.upgrade.gate`)."""
MOST = 10_000_000


def smallest_fall(queries: int, policy: Policy) -> float:
    """Return the smallest fall of Recall@1 (0 to 1) that so many queries can rule out: that of none lost, none gained.

    An upgrade whose limit is below it cannot pass, however good it is; a smaller fall than this goes unseen.
    """
    return -lower_bound(Paired(queries=queries, lost=0, gained=0), with_share(policy, NOMINEE))


def queries_for(fall: float, policy: Policy) -> int | None:
    """Return about how many queries can rule out a fall, to within a tenth; None where MOST cannot."""
    enough = 10
    while smallest_fall(enough, policy) > fall:
        enough = enough * 11 // 10
        if enough > MOST:
            return None
    return enough
