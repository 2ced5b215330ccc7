"""The engine that somebody asks for by name."""

from typing import Literal

from csd_core.engine.processes import LocalEngine
from csd_core.engine.ray_engine import RayEngine
from csd_core.engine.work import Engine

EngineName = Literal["local", "ray"]


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
