"""`csd embed`: the vectors of a folder of images as one file, without a service."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from csd_core.commands.production.active import active_release
from csd_core.releases.candidate import Production
from csd_core.retrieval.embedder import Embedder
from csd_core.serving.bulk.embed import BATCH, THREADS, embed_folder
from csd_core.system.console import echo
from csd_core.workspace import Workspace

_SHORT = 12


def embed(
    folder: Path,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    model: Path | None = None,
    batch: int = BATCH,
    threads: int = 0,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Embed all images of a folder into a Parquet file: path, id, vector.

    Run it again to resume after a stop.

    Parameters
    ----------
    folder
        Folder of image files, at any depth.
    output
        Parquet file to write; OUTPUT.rejected.csv beside it lists the files without a vector.
    model
        An ONNX file that csd exported; by default the model of the active release.
    batch
        Number of images that the model embeds at a time.
    threads
        Number of batches at a time, each in memory of its own; 0 means one for each processor.
    overwrite
        Replace the output file if there is one.
    """
    embedder = _active_model() if model is None else Embedder.load(model, threads=THREADS)
    outcome = embed_folder(folder, output, embedder=embedder, batch=batch, threads=threads, overwrite=overwrite)
    if outcome.rejections:
        files = outcome.rows + outcome.rejected
        echo(f"{outcome.rejected:,} of {files:,} files have no vector; {outcome.rejections} says why")
    dimension = embedder.metadata.dimension
    echo(f"{output}: {outcome.rows:,} vectors of {dimension} dimensions, model {embedder.digest[:_SHORT]}")


def _active_model() -> Embedder:
    production = Production.of(Workspace())
    release = active_release(production)
    return Embedder.load(release.embedder, device=production.params.runtime.device, threads=THREADS)
