"""`csd items`: what is in the gallery that production searches."""

import itertools
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePath
from typing import Annotated, Literal
from urllib.parse import unquote, urlsplit

import numpy as np
import numpy.typing as npt
from cyclopts import App, Parameter

from csd_core.commands.production.active import active_release, embedder_of, query_embedders, snapshot_of
from csd_core.commands.production.item_tables import compact, index, take_over
from csd_core.live.erasure import traces
from csd_core.live.filters import Filters
from csd_core.live.images import content_id, encode_png, fetch, thumbnail_of
from csd_core.live.rows import LiveItems, StoredImages
from csd_core.live.text import refuse_bad_id
from csd_core.records.stages import ImageForm
from csd_core.releases.candidate import Production
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import padded
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError, ErasureIncompleteError, ParamsError
from csd_core.system.names import class_flaw, file_name, printable
from csd_core.workspace import Workspace

_SHORT = 12


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Only:
    """Which items are shown."""

    label: tuple[str, ...] | None = None
    """Show only items of this class; repeat it for several."""
    origin: Literal["pipeline", "live"] | None = None
    """Show only what the pipeline published, or only what people wrote live."""
    since: datetime | None = None
    """Show only what was written then or later, in UTC."""

    @property
    def filters(self) -> Filters:
        """The same as the gallery takes it."""
        return Filters(label=self.label, origin=None if self.origin is None else (self.origin,), since=self.since)


ALL = Only()

app = App(name="items", help="List, search, write and erase the items that production searches.")


@app.command(name="list")
def list_items(
    *,
    only: Only = ALL,
    limit: Annotated[int, Parameter(name=["--limit", "-n"])] = 20,
) -> None:
    """Show the items written last.

    Parameters
    ----------
    limit
        Number of items to show.
    """
    production = Production.of(Workspace())
    table = active_release(production).table
    columns = ["id", "label", "path", "task", "origin", "written_at", "embedded_by"]
    rows = production.live.rows(table, where=only.filters, columns=columns)
    newest = rows.sort_by([("written_at", "descending"), ("id", "ascending")]).slice(0, limit)
    shown = []
    for row in newest.to_pylist():
        written = f"{row['written_at']:%Y-%m-%d %H:%M:%S}"
        path = printable(row["path"] or "-")
        shown.append((row["id"], row["label"], path, row["task"], row["origin"], written, row["embedded_by"][:_SHORT]))
    show(("id", "label", "path", "task", "origin", "written (UTC)", "embedded by"), shown, key="id")
    echo(f"{newest.num_rows} of {rows.num_rows} items of {table}")


@app.command(name="show")
def show_item(item: str) -> None:
    """Show everything that is known of an item.

    Parameters
    ----------
    item
        Id of the item.
    """
    production = Production.of(Workspace())
    table = active_release(production).table
    rows = production.live.rows(table, ids=[item])
    if not rows.num_rows:
        raise DataError(f"item {item}: table {table} has none of that id; `csd items list` shows what it has")
    (row,) = rows.to_pylist()
    image, vector, thumbnail = row.pop("image"), row.pop("vector"), row.pop("thumbnail", None)
    row["thumbnail"] = "none" if thumbnail is None else f"JPEG of {len(thumbnail)} bytes"
    row["image"] = "none" if image is None else f"PNG of {len(image)} bytes"
    row["vector"] = f"{len(vector)} dimensions"
    show(("", ""), [(name, str(value if value is not None else "none")) for name, value in row.items()])


@app.command
def put(
    image: tuple[str, ...],
    /,
    *,
    label: str,
    name: Annotated[str | None, Parameter(name="--id")] = None,
) -> None:
    """Add images to the gallery, or replace those of the same id.

    Parameters
    ----------
    image
        Image files, or http(s) addresses of images.
    label
        Class of the images.
    name
        Id of the item, where one image is given; by default the hash of its pixels, as for ingested images.
    """
    if not image:
        raise ParamsError("csd items put: name at least one image")
    flaw = class_flaw(label)
    if flaw:
        raise ParamsError(f'--label "{printable(label)}": {flaw}')
    if name is not None and len(image) > 1:
        raise ParamsError(f"--id {name}: there are {len(image)} images; put them one by one, or leave --id out")
    production = Production.of(Workspace())
    release = active_release(production)
    while True:  # until no publish came between the embedding and the write
        embedder = embedder_of(production, release)
        items = _items(image, label, name, embedder=embedder, width=release.rules.width, production=production)
        with production.live.writing():
            now = active_release(production)
            if now.number == release.number:
                replaced = sum(production.live.has(now.table, items.ids.tolist()).values())
                production.live.upsert(now.table, items)
                break
        release = now
    for identity in items.ids.tolist():
        echo(identity)
    echo(f"{len(image) - replaced} added, {replaced} replaced in release {now.number}")


def _items(
    sources: tuple[str, ...], label: str, name: str | None, *, embedder: Embedder, width: int, production: Production
) -> LiveItems:
    form, root, settings = embedder.metadata.form, production.workspace.root, production.params.live
    images = _read(sources, form, root)
    ids = [name] if name is not None else [content_id(image) for image in images]
    paths = [_name(source) for source in sources]
    if settings.images == "store":
        pngs = [encode_png(image) for image in images]
        pictures = [thumbnail_of(source, form=form, size=settings.thumbnails, root=root) for source in sources]
        stored = StoredImages(pngs, [None] * len(ids), pictures, paths=paths)
    else:
        stored = StoredImages([None] * len(ids), [_reference(source) for source in sources], paths=paths)
    return LiveItems(
        ids=np.array(ids, np.str_),
        labels=np.full(len(ids), label),
        vectors=padded(embedder(images), width),
        embedded_by=embedder.digest,
        images=stored,
    )


def _read(sources: tuple[str, ...], form: ImageForm, root: Path) -> npt.NDArray[np.uint8]:
    images = np.empty((len(sources), form.size, form.size, form.channels), np.uint8)
    for row, source in enumerate(sources):
        try:
            images[row] = fetch(source, form=form, root=root)
        except DataError as error:
            raise DataError(str(error) if source in str(error) else f"{source} {error}") from None
    return images


def _name(source: str) -> str | None:
    """Return the name of a file or of an address's file: no folder, no host, no query of this machine's."""
    return file_name(PurePath(unquote(urlsplit(source).path) if "://" in source else source))


def _reference(source: str) -> str:
    return source if "://" in source else str(Path(source).resolve())


@app.command
def delete(item: tuple[str, ...], /, *, why: str = "") -> None:
    """Delete items from the gallery; no upgrade or rollback brings them back.

    An id that the gallery does not have is remembered too, for the next release may bring its item.

    Parameters
    ----------
    item
        Ids of the items.
    why
        The reason to record.
    """
    for identity in item:
        refuse_bad_id(identity)
    production = Production.of(Workspace())
    with production.live.writing():
        table = active_release(production).table
        gone = production.live.delete(table, item, why=why)
    echo(f"{gone} of {len(set(item))} items deleted; the versions of releases keep them until `csd items erase`")


@app.command
def erase(item: tuple[str, ...], /, *, why: str = "erased") -> None:
    """Erase items from every table, version and release, and say where the pipeline's data still has them.

    Nothing brings them back. The exit code is 8 while something is left.

    Parameters
    ----------
    item
        Ids of the items.
    why
        The reason to record.
    """
    if not item:
        raise ParamsError("csd items erase: name at least one id")
    for identity in item:
        refuse_bad_id(identity)
    production = Production.of(Workspace())
    with production.releases.changing():  # a publish under way would take its known queries from what is erased
        production.live.refuse_other_history(production.releases.audit.read())
        report = production.live.erase(item, why=why)
        production.releases.forget(item, tagged=report.tagged, why=why)
    echo(
        f"erased from the live gallery ({len(report.tables)} tables rewritten, {report.rows} rows in the latest "
        "versions) and from the releases' known queries"
    )
    left = traces(production.workspace, item)
    for trace in left:
        original = f" (the source's file {trace.original})" if trace.original else ""
        echo(f"still in {trace.file}: {trace.item}{original}")
    if left:
        files = len({trace.file for trace in left})
        raise ErasureIncompleteError(
            f"the pipeline still has it in {files} files: remove the image from its source's folder, run `csd run`, "
            "then `dvc gc --workspace` (--cloud for a remote), and erase it again to see that all is gone"
        )
    echo("nothing of it is left here; copies elsewhere (DVC remotes, backups) are yours to clear")


@app.command
def search(
    image: str,
    /,
    *,
    k: Annotated[int, Parameter(name=["-k"])] = 10,
    only: Only = ALL,
) -> None:
    """Show the items nearest to an image.

    Parameters
    ----------
    image
        An image file, or the http(s) address of one.
    k
        Number of items to show.
    """
    production = Production.of(Workspace())
    release = active_release(production)
    snapshot = snapshot_of(production, release)
    embedders = query_embedders(production, release)
    pixels = _read((image,), embedders[release.record.model].metadata.form, production.workspace.root)
    query = {model: embedder(pixels) for model, embedder in embedders.items()}
    hits = snapshot.search(query, k=k, where=only.filters)
    columns = (hits.ids, hits.labels, hits.paths, hits.scores, hits.tasks, hits.origins, hits.spaces)
    rows = zip(*(column[0].tolist() for column in columns), strict=True)
    shown = [
        (str(rank), identity, found, printable(path or "-"), f"{score:.4f}", task, by, space[:_SHORT])
        for rank, (identity, found, path, score, task, by, space) in zip(itertools.count(1), rows, strict=False)
    ]
    show(("rank", "id", "label", "path", "score", "task", "origin", "space"), shown, right=("rank", "score"), key="id")
    how = "exact" if snapshot.rows is not None else "through the index"
    echo(f"release {release.number}, {snapshot.count} rows, {how}")


app.command(take_over, name="take-over")
app.command(compact)
app.command(index)
