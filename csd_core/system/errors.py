"""Everything csd raises on purpose.

CsdError                      one line for a person; the command line exits with `exit_code`
├── BusyError                 another process is at work there; the same may succeed when it has finished
├── StorageError              a disk is full or read-only, or a file may not be opened
├── DecoderStartError         the machine starts no process that decodes images; no file is to blame
├── ParamsError        (2)    params.yaml or a command's arguments are wrong
├── DataError          (3)    images, sources or shards are missing or unusable
├── ArtifactError      (4)    an artefact is missing, damaged or of another kind than expected
├── TrainingError      (5)    a loss is not finite, a device is missing
├── CompatibilityError (6)    vectors or models that cannot be compared or searched together
└── ErasureIncompleteError (8)  an erased item still lies in the pipeline's data

7 is no error: the gate's answer "rejected", as `csd check` gives it to a shell.
"""

import errno
import os
import re

_IN_RUST = re.compile(r",?\s+\S*\.rs:\d+(:\d+)?")


def message_of(error: BaseException) -> str:
    """Return all that a library's error says, in one line: the cause stands at its end as often as at its start."""
    return " ".join(_IN_RUST.sub("", str(error)).split()) or type(error).__name__


class CsdError(Exception):
    """An error with a message for a person: what is wrong, where, and the remedy."""

    exit_code = 1


class BusyError(CsdError):
    """Another process holds what is needed."""


class StorageError(CsdError):
    """A disk is full or read-only, a file may not be opened, or too many are open.

    Attributes:
        errno: The operating system's number.
    """

    def __init__(self, message: str, number: int | None = None) -> None:
        super().__init__(message)
        self.errno = number

    @classmethod
    def of(cls, error: OSError) -> "StorageError":
        """Return the operating system's error as one line, with the remedy."""
        where = error.filename or error.filename2
        what = error.strerror or str(error) or type(error).__name__
        remedy = _REMEDIES.get(error.errno or 0, "see to it, then try again")
        return cls(f"{f'{os.fsdecode(where)}: ' if where else ''}{what}; {remedy}", error.errno)

    def at(self, where: str) -> "StorageError":
        """Return this error with the place in its message."""
        return self if where in str(self) else StorageError(f"{where}: {self}", self.errno)

    @classmethod
    def is_meant(cls, error: BaseException) -> bool:
        """Return whether an error is of this kind; a file that is missing is not."""
        return isinstance(error, OSError) and error.errno in _REMEDIES

    @classmethod
    def remedy(cls, error: OSError) -> str:
        """Return what to do where a disk is full or read-only, to follow the error's words; empty for other errors."""
        return f"; {_REMEDIES[error.errno]}" if error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EROFS} else ""

    @classmethod
    def told_in(cls, message: str, *, where: str) -> "StorageError | None":
        """Return the operating system's error that a library tells in words (`... (os error 28)`); None without one.

        Args:
            message: Of the library.
            where: It came from.
        """
        found = re.search(r"\(os error (\d+)\)", message)
        if found is None or int(found[1]) not in _REMEDIES:
            return None
        return cls(f"{where}: {os.strerror(int(found[1]))}; {_REMEDIES[int(found[1])]}", int(found[1]))


_SPACE = "what was there is untouched; make room and try again"
_RIGHTS = "what was there is untouched; let this user write there and try again"
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "what was there is untouched; mount it writable and try again",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EMFILE: "allow more open files (`ulimit -n`) and try again",
    errno.ENFILE: "close programs that hold many files open and try again",
    errno.EIO: "the disk or the network it is reached by fails; restore what is damaged from a backup",
}


class DecoderStartError(CsdError):
    """The machine starts no process that decodes images; the image that asked for one may be sound."""


class ParamsError(CsdError):
    """A parameter is unknown, missing, of the wrong type or contradicts another."""

    exit_code = 2


class DataError(CsdError):
    """Input images or labels are missing or unusable."""

    exit_code = 3


class ArtifactError(CsdError):
    """An artefact of an earlier stage is missing, damaged or not what it should be."""

    exit_code = 4


class TrainingError(CsdError):
    """Training cannot continue."""

    exit_code = 5


class CompatibilityError(CsdError):
    """Vectors or models that cannot be compared or searched together."""

    exit_code = 6


class ErasureIncompleteError(CsdError):
    """An erased item still lies in data that only the pipeline can change."""

    exit_code = 8
