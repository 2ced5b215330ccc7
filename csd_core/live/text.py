"""Words that a person gave, before they go into a table or a query."""

from csd_core.system.errors import ParamsError


def refuse_undecodable(word: str, *, what: str) -> None:
    """Refuse a word that holds bytes which are no UTF-8, as an argument of a command may.

    Raises:
        ParamsError: naming it.
    """
    if any("\ud800" <= character <= "\udfff" for character in word):
        raise ParamsError(f"{what} {word[:20]!r} is no UTF-8; write it in whole characters")
