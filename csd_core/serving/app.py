"""The HTTP application: routes, page and edge, put together for one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files as package_files
from pathlib import Path

from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict
from starlette.routing import Route
from starlette.types import ASGIApp

from csd_core.serving.http import problems
from csd_core.serving.http.addresses import Parameters
from csd_core.serving.http.edge import Edge
from csd_core.serving.keys import KeyRing
from csd_core.serving.routes import items as routes_items
from csd_core.serving.routes import releases as routes_releases
from csd_core.serving.routes import search as routes_search
from csd_core.serving.service import Service
from csd_core.serving.telemetry import Metrics
from csd_core.workspace import Workspace

SETTINGS = "CSD_SERVE"
"""The environment variable in which `csd serve` hands its settings to its processes."""
BODY_SECONDS = 30.0
"""A client may take so long to send a request."""
_PAGE = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}

_PAGE_PARAMETERS = {("/", "GET"): {"item": False}, ("/page.css", "GET"): {}, ("/page.js", "GET"): {}}
"""Of routes that the OpenAPI document does not have."""


class Settings(BaseModel):
    """What one process of the service needs to know beside params.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    root: Path
    """The project's folder."""
    workers: int
    loopback: bool
    """Only this machine can reach it."""
    keys: Path | None
    """File of the keys; None answers everybody."""


def create(settings: Settings) -> ASGIApp:
    """Return the application of one process.

    Raises:
        ParamsError: if params.yaml is wrong.
    """
    workspace = Workspace(settings.root)
    params = workspace.params()
    metrics = Metrics()
    keys = None if settings.keys is None else KeyRing(settings.keys)
    service = Service(workspace, params, workers=settings.workers, metrics=metrics, keys=keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="csd",
        summary="Visual search that keeps its gallery while the model learns.",
        version="1",
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.service = service
    problems.install(app)
    routers = [routes_search.router, routes_items.router, routes_releases.router]
    for router in routers:
        app.include_router(router)
    _add_page(app)
    return Edge(
        app,
        keys=keys,
        loopback=settings.loopback,
        max_body=int(params.serve.max_body_mb * (1 << 20)),
        max_waiting=params.serve.max_waiting,
        body_seconds=BODY_SECONDS,
        metrics=metrics,
        routes=[route for part in (app.router, *routers) for route in part.routes if isinstance(route, Route)],
        parameters=Parameters.of(app.openapi(), _PAGE_PARAMETERS),
    )


def _add_page(app: FastAPI) -> None:
    """The search page: three files, read once."""
    folder = package_files("csd_core.serving") / "page"
    for name, media_type in _PAGE.items():
        content = (folder / name).read_bytes()

        def page(content: bytes = content, media_type: str = media_type) -> Response:
            return Response(content, media_type=media_type, headers={"Cache-Control": "no-cache"})

        app.add_api_route("/" if name == "index.html" else f"/{name}", page, include_in_schema=False)
