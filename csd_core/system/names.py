"""Names that people choose for classes, files and folders: which of them every part of csd and DVC can hold."""

import os
import re
import unicodedata
from pathlib import PurePath

LONGEST_NAME = 512
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and how Python holds bytes that are not UTF-8."""

UNUSABLE_NAME = "has a name that is not UTF-8, or with control characters; rename it"


def printable(text: str) -> str:
    """Return a name as it can be printed anywhere."""
    return UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


def class_flaw(label: str) -> str | None:
    """Say why a class cannot be called so, and what to do; None if it can."""
    if not label.strip():
        return "a class needs a name; write one"
    if UNPRINTABLE.search(label):
        return "a class's name holds no control characters and is UTF-8; rename it"
    if label != label.strip():
        return f'a class\'s name neither begins nor ends with a space; write "{label.strip()}"'
    if unicodedata.normalize("NFC", label) != label:
        composed = unicodedata.normalize("NFC", label)
        return f"is not in Unicode's composed form (NFC), in which csd names classes; write {composed!a}"
    return None


def item_flaw(name: str) -> str | None:
    """Say why an item cannot be called so, and what to do; None if it can."""
    if not name.strip() or len(name) > LONGEST_NAME:
        return f"{len(name)} characters; 1 to {LONGEST_NAME} are allowed, not all of them spaces"
    if UNPRINTABLE.search(name):
        return "an item's name holds no control characters and is UTF-8; leave them out"
    return None


def file_name(path: PurePath) -> str | None:
    """Return the name of a file as an item's: nothing of its folders, nothing that cannot be printed; None for none."""
    return printable(path.name)[-LONGEST_NAME:] or None


def path_flaw(path: str) -> str | None:
    """Say why a path of params.yaml would not mean the same to csd and to DVC, and what to do; None if it does."""
    if not path.strip():
        return "is empty; name a file or folder"
    if UNPRINTABLE.search(path):
        return "a path holds no control characters and is UTF-8; rename it"
    if path != path.strip():
        return f'neither begins nor ends with a space; write "{path.strip()}"'
    if path.startswith("~"):
        known = os.path.expanduser(path)  # noqa: PTH111 - leaves a user's name that nobody has as it is
        instead = f"./{path} for a folder of that name" if known == path else known
        return f"DVC does not know what ~ stands for; write {instead}"
    if "\\" in path:
        return f"has a backslash; write {path.replace(chr(92), '/')}"
    return None
