"""Words that a person gave, before they go into a table or a query."""

from csd_core.system.errors import ParamsError

LONGEST_ID = 512
"""Characters."""


def refuse_undecodable(word: str, *, what: str) -> None:
    """Refuse a word that holds bytes which are no UTF-8, as an argument of a command may.

    Raises:
        ParamsError: naming it.
    """
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise ParamsError(f"{what} {word[:20]!r} is no UTF-8; write it in whole characters")


def refuse_bad_ids(ids: list[str]) -> None:
    """Refuse ids that repeat, are empty or too long.

    Raises:
        ParamsError: naming the first.
    """
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(identity for identity in ids if identity in seen or seen.add(identity))  # type: ignore[func-returns-value]
        raise ParamsError(f"items: id {twice} is given twice; each item has one row")
    for identity in ids:
        refuse_bad_id(identity)


def refuse_bad_id(identity: str) -> None:
    """Refuse what cannot be an item's id.

    Raises:
        ParamsError: naming it.
    """
    if not 0 < len(identity) <= LONGEST_ID or "\0" in identity:
        raise ParamsError(
            f"items: id {identity[:20]!r} has {len(identity)} characters; 1 to {LONGEST_ID} are allowed, and no NUL"
        )
    refuse_undecodable(identity, what="items: id")
