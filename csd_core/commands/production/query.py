"""`csd query`: asks a running service."""

import itertools
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from csd_core.client import Client
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError
from csd_core.system.names import printable

_SHORT = 8


def query(
    image: Path,
    /,
    *,
    url: Annotated[str, Parameter(env_var="CSD_URL")] = "http://127.0.0.1:8000",
    key: Annotated[str | None, Parameter(env_var="CSD_KEY")] = None,
    k: Annotated[int, Parameter(name=["-k"])] = 10,
    label: tuple[str, ...] | None = None,
    release: Literal["active", "before"] = "active",
) -> None:
    """Show the items nearest to an image, as a running service finds them.

    Parameters
    ----------
    image
        An image file.
    url
        Address of the service.
    key
        Key of the service, where it asks for one.
    k
        Number of items to show.
    label
        Show only items of this class; repeat it for several.
    release
        Which release searches: the active one, or the one before the last upgrade.
    """
    if not image.is_file():
        raise DataError(f"{image}: there is no such file; name an image")
    with Client(url, key=key) as client:
        found = client.search(image, k=k, label=label, release=release)
    merged = len(found.query_models) > 1
    rows = []
    for rank, hit in zip(itertools.count(1), found.hits, strict=False):
        generation = "-" if hit.generation is None else str(hit.generation)
        found_by = (f"{hit.cosine:.4f}", str(hit.found_by)[:_SHORT]) if merged else ()
        path = printable(hit.path or "-")
        rows.append(
            (str(rank), hit.id, hit.label, path, f"{hit.score:.4f}", *found_by, generation, hit.task, hit.origin)
        )
    more = ("cosine", "found by") if merged else ()
    titles = ("rank", "id", "label", "path", "score", *more, "generation", "task", "origin")
    show(titles, rows, right=("rank", "score", "cosine"), key="id")
    models = f", {len(found.query_models)} models' answers merged by their scores" if merged else ""
    echo(f"release {found.release}, {found.rows} rows, {'exact' if found.exact else 'through the index'}{models}")
