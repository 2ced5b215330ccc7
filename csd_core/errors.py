"""Everything csd raises on purpose.

CsdError                      one line for a person; the command line exits with `exit_code`
├── BusyError                 another process is at work there; the same may succeed when it has finished
├── ParamsError        (2)    params.yaml or a command's arguments are wrong
├── DataError          (3)    images, sources or shards are missing or unusable
├── ArtifactError      (4)    an artefact is missing, damaged or of another kind than expected
├── TrainingError      (5)    a loss is not finite, a device is missing
├── CompatibilityError (6)    vectors or models that cannot be compared or searched together
└── ErasureIncompleteError (8)  an erased item still lies in the pipeline's data

7 is no error: the gate's answer "rejected", as `csd check` gives it to a shell.
"""


class CsdError(Exception):
    """An error with a message for a person: what is wrong, where, and the remedy."""

    exit_code = 1


class BusyError(CsdError):
    """Another process holds what is needed."""


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
    """Training cannot go on."""

    exit_code = 5


class CompatibilityError(CsdError):
    """Vectors or models that cannot be compared or searched together."""

    exit_code = 6


class ErasureIncompleteError(CsdError):
    """An erased item still lies in data that only the pipeline can change."""

    exit_code = 8
