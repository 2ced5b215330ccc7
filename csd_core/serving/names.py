"""Names that a client gave and that nobody knows: which one, and which known one it may mean."""

from collections.abc import Collection
from difflib import get_close_matches

_SHOWN = 40
_COMPARED = 64
"""Characters of a name that are compared; a longer one is no slip of a finger."""


def unknown(name: str, known: Collection[str]) -> str:
    """Say that a name is unknown, and what is known.

    Args:
        name: As it was given.
        known: What may be given.
    """
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    nearest = get_close_matches(name[:_COMPARED], sorted(known), n=1, cutoff=0.5)
    if nearest:
        return f"{shown}: unknown; did you mean {nearest[0]}?"
    return f"{shown}: unknown; " + (
        f"known are {', '.join(sorted(known))}" if known else "no parameter is allowed here"
    )
