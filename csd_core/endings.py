"""How a program of csd ends: with its work done, or with one line that says what stopped it.

What a person can change (a `CsdError`, a full disk, a file that is not UTF-8, too little memory, Ctrl-C) becomes one
line and an exit code. Any other exception is a bug, and its traceback is shown. `CSD_DEBUG=1` shows every traceback.

Nothing heavy is imported here: a program enters `plain_endings` before it loads the rest, which takes seconds.
"""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from csd_core.errors import CsdError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell has it."""
CLOSED = 141
"""Exit code where nobody reads the output any more, as a shell has it for SIGPIPE."""
DEBUG = "CSD_DEBUG"
"""Environment variable: show tracebacks of what is no bug, too."""


@contextmanager
def plain_endings(interrupted: str = "interrupted") -> Iterator[None]:
    """Exit with one line and an exit code where the body fails for a reason that is no bug.

    Args:
        interrupted: What Ctrl-C says.
    """
    try:
        yield
        _flush()
    except KeyboardInterrupt:
        _end(interrupted, INTERRUPTED)
    except BrokenPipeError:
        _drop_output()
        sys.exit(CLOSED)
    except (CsdError, OSError, UnicodeError, MemoryError, RecursionError, ModuleNotFoundError) as error:
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
        interrupted: What Ctrl-C says.
    """

    def end(_number: int, _frame: FrameType | None) -> None:
        with suppress(OSError, ValueError, RuntimeError):
            sys.stdout.flush()
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
        case ModuleNotFoundError():
            return _missing(error.name or "")
        case OSError() if error.strerror:
            names = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
            text = f"{' -> '.join(names) or 'reading or writing'}: {error.strerror}"
        case MemoryError():
            told = f": {error}" if str(error) else ""
            text = f"out of memory{told}; give this machine more, or ask for less at a time"
        case RecursionError():
            text = "an input is nested too deeply to be read"
        case UnicodeDecodeError():
            text = f"a file that should be text is not UTF-8: {error.reason} at byte {error.start}"
        case _:
            text = str(error)
    return text


def _missing(module: str) -> str | None:
    package = module.partition(".")[0]
    if package in {"", "csd_core", "flows"}:
        return None
    return (
        f"the package {package} is missing: this part of csd is not installed; install `csd[gate]`, `csd[pipeline]`, "
        "`csd[serve]` or `csd[flows]`, whichever this is for"
    )


def _end(line: str, exit_code: int) -> None:
    try:
        _flush()
        if line:
            print(line, file=sys.stderr)  # noqa: T201 - the one line for a person
            sys.stderr.flush()
    except OSError:
        _drop_output()
    sys.exit(exit_code)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()


def _drop_output() -> None:
    """Let what is still buffered go nowhere, so that Python does not complain at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            os.dup2(nowhere, stream.fileno())
