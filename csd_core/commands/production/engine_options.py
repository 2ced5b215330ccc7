"""The options of commands that share out large work."""

from dataclasses import dataclass

from cyclopts import Parameter

from csd_core.engine.engines import EngineName, engine_named
from csd_core.engine.work import Engine
from csd_core.params.model import cluster_address
from csd_core.system.errors import ParamsError
from csd_core.workspace import Workspace


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """Who does the work."""

    engine: EngineName | None = None
    """Who does the work: local (this machine) or ray (a Ray cluster); by default as params.yaml says, or local."""
    address: str | None = None
    """Address of the Ray cluster, such as head:6379; by default as params.yaml says, or Ray starts here."""

    def chosen(self, *, workers: int | None) -> Engine:
        """Return the engine that is meant: by the options, by params.yaml of the current folder, or the local one.

        Args:
            workers: Processes; None for one, or with Ray for one on each core or GPU of the cluster.

        Raises:
            ParamsError: if `workers` is not positive, the address is none, or params.yaml is not valid.
        """
        workspace = Workspace()
        runtime = workspace.params().runtime if workspace.path("params.yaml").is_file() else None
        name, address = self.engine or (runtime.engine if runtime else "local"), self.address
        if address is not None:
            try:
                cluster_address(address)
            except ValueError as error:
                raise ParamsError(f"--address {error}") from None
        return engine_named(name, address=address or (runtime.address if runtime else None), workers=workers)


DEFAULTS = EngineOptions()
