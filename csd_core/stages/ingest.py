"""Make a source's canonical set: every image in one form, known by its content."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("ingest")

import warnings
from collections.abc import Sequence
from pathlib import Path

from csd_core.data.canonical import REJECTED, LeftOut, read_rejected, write_source
from csd_core.data.grouping.equal_images import Pair, losses, told
from csd_core.data.sources.registry import open_source
from csd_core.params.sources import FashionMnistSource, FolderSource
from csd_core.records.stages import ImageForm
from csd_core.system.console import echo, progress
from csd_core.system.errors import DataError, ParamsError
from csd_core.workspace import Workspace

CONFLICTS_SHOWN = 5


def main(source: str) -> None:
    """Write data/sources/<source>.

    Raises:
        ParamsError: if params.yaml has no such source.
        DataError: if the source is missing or too much of it is unusable.
    """
    workspace = Workspace()
    params = workspace.params()
    known = {**params.sources.published, **params.sources.folders}
    if source not in known:
        raise ParamsError(f"ingest {source}: there is no such source; known: {', '.join(sorted(known))}")
    settings = known[source]
    if isinstance(settings, FashionMnistSource) and settings.download:
        download_fashion_mnist(workspace.path(settings.path))

    opened = open_source(settings, root=workspace.root)
    for note in opened.notes:
        echo(f"{source}: {note}")
    # what Pillow warns of is either harmless (odd metadata) or refused by decode (too many pixels)
    warnings.filterwarnings("ignore", module=r"PIL\.")
    form, complaints = ImageForm.of(params.images), workspace.rejected(source)
    folder = workspace.path(settings.path) if isinstance(settings, FolderSource) else None
    complaints.unlink(missing_ok=True)
    with progress(f"ingest {source}", total=len(opened), unit="images") as meter:
        try:
            record = write_source(
                workspace.source(source),
                opened,
                name=source,
                form=form,
                max_rejected=params.data.max_rejected,
                complaints=complaints,
                store=params.data.store,
                thumbnails=params.live.thumbnails or None,
                advance=meter.advance,
            )
        except DataError:
            if folder and complaints.is_file():
                tell_losses(source, read_rejected(complaints), folder, form)
            raise
    left_out = read_rejected(workspace.source(source) / REJECTED)
    conflicts = [each for each in left_out if each.kind == "conflict"]
    for each in conflicts[:CONFLICTS_SHOWN]:
        echo(f"{source}: {each.path} is left out, {each.reason}; remove the one that is labelled wrongly")
    copies = f"{record.duplicates} duplicates" + (f" ({len(conflicts)} in another class)" if conflicts else "")
    echo(
        f"{source}: {record.images:,} images of {len(record.classes)} classes; left out: {copies}, {record.rejected} "
        "unusable files" + (f" (`csd sources rejected {source}` says why)" if left_out else "")
    )
    if folder:
        tell_losses(source, left_out, folder, form)


def tell_losses(source: str, left_out: Sequence[LeftOut], folder: Path, form: ImageForm) -> None:
    """Say which images were left out for the form alone: their files show something else than those taken."""
    pairs = [Pair(each.path, each.original) for each in left_out if each.original is not None]
    for lost in losses(folder, pairs, form):
        echo(f"{source}: ATTENTION: {told(lost, form)}")


def download_fashion_mnist(folder: Path) -> None:
    """Fetch the published files through torchvision, unless they are there.

    Raises:
        DataError: if they cannot be fetched.
    """
    from csd_core.data.sources.fashion_mnist import find_fashion_mnist  # noqa: PLC0415 - other kinds do not run it

    if find_fashion_mnist(folder):
        return
    from torchvision.datasets import FashionMNIST  # noqa: PLC0415 - loads torch, and only a download needs it

    try:
        FashionMNIST(str(folder), download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"fashion-mnist: cannot be fetched into {folder} ({error}); connect to the network, or `apt-get install "
            "dataset-fashion-mnist` and set the source's path to /usr/share/datasets/fashion-mnist"
        ) from None
