"""How a program of csd ends: with its work done, or with one line that says what stopped it.

What a person can change (a `CsdError`, a full disk, a file that is not UTF-8, too little memory, Ctrl-C) becomes one
line and an exit code. Any other exception is a bug, and its traceback is shown. `CSD_DEBUG=1` shows every traceback.

Nothing heavy is imported here: a program enters `plain_endings` before it loads the rest, which takes seconds.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from csd_core.system.errors import CsdError, StorageError
from csd_core.system.output import close_output, flush_output, prepare_output, printable

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell has it."""
CLOSED = 141
"""Exit code where nobody reads the output any more, as a shell has it for SIGPIPE."""
DEBUG = "CSD_DEBUG"
"""Environment variable: show tracebacks of what is no bug, too."""

_OUTPUT = "the output cannot be written"
_FAULTS = (CsdError, OSError, UnicodeError, MemoryError, RecursionError, ImportError)


@contextmanager
def plain_endings(interrupted: str = "interrupted") -> Iterator[None]:
    """Exit with one line and an exit code where the body fails for a reason that is no bug.

    Args:
        interrupted: What Ctrl-C says; empty for silence.
    """
    prepare_output()
    try:
        try:
            yield
        except SystemExit:
            flush_output()
            raise
        flush_output()
    except KeyboardInterrupt:
        _end(interrupted, INTERRUPTED)
    except BrokenPipeError:
        close_output()
        sys.exit(CLOSED)
    except _FAULTS as error:
        line = _in_one_line(error)
        if line is None or os.environ.get(DEBUG):
            raise
        _end(line, error.exit_code if isinstance(error, CsdError) else CsdError.exit_code)


@contextmanager
def loading(interrupted: str = "interrupted") -> Iterator[None]:
    """Let Ctrl-C end the process at once while modules are imported.

    An exception could not: imports run code of many libraries, some of which swallows it or ends in an error of its
    own.

    Args:
        interrupted: What Ctrl-C says; empty for silence.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        with suppress(OSError, ValueError, RuntimeError):
            flush_output()
        with suppress(OSError):
            os.write(2, f"{interrupted}\n".encode() if interrupted else b"")
        os._exit(INTERRUPTED)

    try:
        before = signal.signal(signal.SIGINT, end)
    except ValueError:  # not in the main thread: Ctrl-C goes elsewhere
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _in_one_line(error: BaseException) -> str | None:
    """Return what is wrong, where, and the remedy; None for a bug."""
    match error:
        case ImportError():
            return _missing(error)
        case OSError() if error.strerror:
            names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
            what = " -> ".join(names) or _nameless(error)
            text = f"{what}: {error.strerror}{'' if what == _OUTPUT else StorageError.remedy(error)}"
        case MemoryError():
            detail = f": {error}" if str(error) else ""
            text = f"out of memory{detail}; give this machine more, or ask for less at a time"
        case RecursionError():
            text = "an input is nested too deeply to be read"
        case UnicodeDecodeError():
            text = f"a file that should be text is not UTF-8: {error.reason} at byte {error.start}"
        case _:
            text = str(error)
    return text


def _nameless(error: OSError) -> str:
    """Return what it is that fails where the system names no file."""
    frames = list(traceback.walk_tb(error.__traceback__))
    module = str(frames[-1][0].f_globals.get("__name__", "")) if frames else ""
    if module.partition(".")[0] == "rich" or module == "csd_core.system.output":
        return _OUTPUT
    return "a file cannot be read or written"


def _missing(error: ImportError) -> str | None:
    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    package = (cause.name or "").partition(".")[0]
    if not isinstance(cause, ModuleNotFoundError) or package in {"", "csd_core", "flows"}:
        return None
    return (
        f"the package {package} is missing: this part of csd is not installed; install `csd[gate]`, `csd[pipeline]`, "
        "`csd[serve]` or `csd[flows]`, whichever this is for"
    )


def _end(line: str, exit_code: int) -> None:
    with suppress(OSError):
        flush_output()
    with suppress(OSError):
        if line:
            print(printable(line), file=sys.stderr, flush=True)  # noqa: T201 - the one line for a person
    close_output()
    sys.exit(exit_code)
