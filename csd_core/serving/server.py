"""Processes of the service under uvicorn: one, or several that share a listening socket."""

import gc
import logging
import os
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.config import STARTUP_FAILURE

from csd_core.serving.app import SETTINGS, Settings, create
from csd_core.serving.http.connections import Connection, raise_descriptors
from csd_core.serving.supervisor import Supervisor
from csd_core.serving.telemetry import MULTIPROCESS, configure_logs, forget_dead
from csd_core.system.errors import CsdError
from csd_core.system.parent import when_parent_dies

PARENT = "CSD_SERVE_PARENT"
"""Environment variable: the process that starts the workers."""
GRACE_SECONDS = 30
"""How long a process may take to finish what it took."""
log = logging.getLogger("csd.serving")


def serve(settings: Settings, *, host: str, port: int) -> None:
    """Serve until SIGINT or SIGTERM; requests that were taken are finished.

    Args:
        settings: Of the processes.
        host: Address to listen at.
        port: And port.

    Raises:
        CsdError: if no process could start.
    """
    os.environ[SETTINGS] = settings.model_dump_json()
    configure_logs("INFO")
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends gracefully, then raises it once more
    with tempfile.TemporaryDirectory(prefix="csd-metrics-") as figures:
        if settings.workers > 1:
            os.environ |= {MULTIPROCESS: figures, PARENT: str(os.getpid())}
        config = uvicorn.Config(
            "csd_core.serving.server:worker",
            factory=True,
            host=host,
            port=port,
            workers=settings.workers,
            http=Connection,
            ws="none",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=True,
            timeout_graceful_shutdown=GRACE_SECONDS,
            timeout_keep_alive=65,
            backlog=2048,
        )
        if settings.workers > 1:
            supervisor = Supervisor(config, sockets=[config.bind_socket()])
            supervisor.run()
            if supervisor.failed:
                raise CsdError(supervisor.failed)
        else:
            server = uvicorn.Server(config)
            with suppress(KeyboardInterrupt):
                server.run()
            if not server.started:
                sys.exit(STARTUP_FAILURE)


def worker() -> ASGIApp:
    """Return the application of one process; uvicorn calls this."""
    settings = Settings.model_validate_json(os.environ[SETTINGS])
    configure_logs("INFO")
    if settings.workers > 1:
        forget_dead(Path(os.environ[MULTIPROCESS]))
        # the parent may be gone already; without it this process would hold the port forever
        when_parent_dies(lambda: signal.raise_signal(signal.SIGTERM), parent=int(os.environ[PARENT]))
    raise_descriptors()
    try:
        application = create(settings)
    except CsdError as error:
        log.error("not started", extra={"reason": str(error)})  # noqa: TRY400 - one line, no traceback
        sys.exit(STARTUP_FAILURE)
    # What is there now stays to the end. Python's collector would walk through all of it again and again, which stops
    # every request for 80 ms; releases and requests come later, and are collected.
    gc.collect()
    gc.freeze()
    return application
