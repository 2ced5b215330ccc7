"""What a program prints, on whatever it prints to: another encoding, a closed pipe, a full disk, no stream at all."""

import codecs
import os
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path

ERRORS = "csd-plain"
"""Name of the error handler that spells characters which an output does not have."""

_SPELT = {
    "\N{LATIN SMALL LETTER SHARP S}": "ss",
    "\N{EN DASH}": "-",
    "\N{EM DASH}": "-",
    "\N{MINUS SIGN}": "-",
    "\N{MIDDLE DOT}": "-",
    "\N{BULLET}": "*",
    "\N{MULTIPLICATION SIGN}": "x",
    "\N{RIGHTWARDS ARROW}": "->",
    "\N{HORIZONTAL ELLIPSIS}": "...",
    "\N{CHECK MARK}": "+",
    "\N{BALLOT X}": "x",
    "\N{GREATER-THAN OR EQUAL TO}": ">=",
    "\N{LESS-THAN OR EQUAL TO}": "<=",
    "\N{PLUS-MINUS SIGN}": "+/-",
}
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


def printable(text: str) -> str:
    """Return text without the characters that steer a terminal: a name may hold any."""
    return text.translate(_CONTROLS)


def prepare_output() -> None:
    """Make every character printable: those that the output's encoding does not have are spelt with others.

    Where a standard stream is closed, nothing takes its place but the null device: a file that is opened later would.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    codecs.register_error(ERRORS, _spell)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 - as long as we run
        with suppress(AttributeError):  # a stand-in
            getattr(sys, name).reconfigure(errors=ERRORS)


def flush_output() -> None:
    """Write what is buffered.

    Raises:
        OSError: if it cannot be written.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def close_output() -> None:
    """Let what is buffered and cannot be written go nowhere, so that Python does not complain when it exits."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _spell(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_spelling, error.object[error.start : error.end])), error.end


def _spelling(character: str) -> str:
    if "\N{BOX DRAWINGS LIGHT HORIZONTAL}" <= character <= "\N{RIGHT ONE EIGHTH BLOCK}":
        return "-"
    if "\ud800" <= character <= "\udfff":
        return character.encode("ascii", "backslashreplace").decode()
    letters = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return _SPELT.get(character) or letters or "?"
