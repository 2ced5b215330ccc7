"""The home page of `csd ui`, made when somebody asks for it. What collects and renders it is loaded then."""

import threading
import time
from typing import TYPE_CHECKING

from csd_core.workspace import Workspace
from flows.ui.flow_server import FlowServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from flows.ui.home import Home

FRESH = 5.0
"""Seconds for which a page is given again."""
SHARE = 10
"""A page that took long to collect is given again for so many times as long, so that looking costs a tenth at most."""


class HomePage:
    """The page, at most some seconds old.

    Args:
        workspace: The project.
        server: Of flows.
    """

    def __init__(self, workspace: Workspace, server: FlowServer) -> None:
        self._workspace, self._server = workspace, server
        self._guard = threading.Lock()
        self._page, self._until = b"", 0.0
        self._collect: Callable[[], Home] | None = None

    def __call__(self) -> bytes:
        """Return the page as UTF-8."""
        with self._guard:
            if time.monotonic() >= self._until:
                started = time.monotonic()
                self._page = self._made()
                self._until = time.monotonic() + max(FRESH, SHARE * (time.monotonic() - started))
            return self._page

    def _made(self) -> bytes:
        from flows.ui.home_html import render  # noqa: PLC0415 - with all it needs: seconds and 150 MB

        if self._collect is None:
            from flows.ui.home import Collector  # noqa: PLC0415

            self._collect = Collector(self._workspace, self._server)
        return render(self._collect()).encode()
