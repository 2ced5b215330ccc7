"""The engine that somebody asks for by name."""

from typing import Literal, Protocol

from csd_core.engine.processes import LocalEngine
from csd_core.engine.ray_engine import RayEngine
from csd_core.engine.work import Engine

EngineName = Literal["local", "ray"]


class Chosen(Protocol):
    """The block `runtime` of params.yaml, as far as it chooses an engine."""

    @property
    def engine(self) -> EngineName:
        """Return the engine's name."""

    @property
    def address(self) -> str | None:
        """Return that of Ray's cluster; None starts Ray on this machine."""


def engine_of(runtime: Chosen, *, processes: int = 1) -> Engine:
    """Return the engine of a stage: the result is the same, so no stage depends on it.

    Args:
        runtime: What params.yaml says.
        processes: Of the local engine; Ray has a worker for each core or GPU.
    """
    return engine_named(
        runtime.engine, address=runtime.address, workers=processes if runtime.engine == "local" else None
    )


def engine_named(name: EngineName, *, address: str | None, workers: int | None) -> Engine:
    """Return an engine; Ray is loaded only if it is asked for, and then when it begins.

    Args:
        name: local or ray.
        address: Of Ray's cluster; None starts Ray on this machine.
        workers: Processes; None for one, or with Ray for one on each core or GPU of the cluster.

    Raises:
        ParamsError: if `workers` is not positive.
    """
    if name == "local":
        return LocalEngine(workers=1 if workers is None else workers)
    return RayEngine(address=address, workers=workers)
