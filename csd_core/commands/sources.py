"""`csd sources`: what became of the images of each source."""

from cyclopts import App

from csd_core.data.canonical import REJECTED, load_source, read_rejected
from csd_core.system.console import echo, show
from csd_core.system.errors import DataError, ParamsError
from csd_core.system.names import printable
from csd_core.workspace import Workspace

app = App(name="sources", help="List the sources of images, and the files that they could not use.")


@app.command(name="list")
def list_sources() -> None:
    """Show the sources with their images, and how many files were left out."""
    workspace = Workspace()
    params = workspace.params()
    rows: list[tuple[str, ...]] = []
    for name in (*params.sources.published, *params.sources.folders):
        if not workspace.source(name).is_dir():
            rows.append((name, "not ingested", "", "", ""))
            continue
        record = load_source(workspace.source(name)).record
        figures = (record.images, len(record.classes), record.duplicates, record.rejected)
        rows.append((name, *(f"{figure:,}" for figure in figures)))
    counted = ("images", "classes", "duplicates", "unusable")
    show(("source", *counted), rows, right=counted)


@app.command
def rejected(source: str, /) -> None:
    """List the files of a source that are not among its images, one a line with the reason.

    A copy of an image within its class is harmless. A copy in another class is a mistake in one of the two: the file
    that comes first by path is taken. It counts against data.max_rejected, as an unusable file does.

    Parameters
    ----------
    source
        One of `csd sources list`.
    """
    workspace = Workspace()
    params = workspace.params()
    known = (*params.sources.published, *params.sources.folders)
    if source not in known:
        raise ParamsError(f"source {printable(source)}: there is no such source; known: {', '.join(sorted(known))}")
    complaints = workspace.rejected(source)  # of a run that had too many; the next one that succeeds removes it
    file = complaints if complaints.is_file() else workspace.source(source) / REJECTED
    if not file.is_file():
        raise DataError(f"source {source}: not ingested yet; `csd run` does it")
    left_out = read_rejected(file)
    for each in left_out:
        echo(f"{each.path}: {each.reason}")
    kinds = [each.kind for each in left_out]
    echo(
        f"{source}: {kinds.count('unusable')} unusable files and {kinds.count('conflict')} copies in another class, of "
        f"which data.max_rejected allows {params.data.max_rejected}; {kinds.count('copy')} copies within a class"
    )
