"""`csd upgrade wrap`: a foreign model becomes one that every command takes."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from csd_core.commands.standalone.check import Options, embedders
from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.models.preprocessing import Preprocessing
from csd_core.standalone.models.verification import verify as check_vector
from csd_core.standalone.own_gallery import refuse_existing
from csd_core.system.atomic import atomic_file
from csd_core.system.console import echo

Out = Annotated[Path, Parameter(name=("--out", "-o"))]


def wrap(model: Path, /, *, out: Out, verify: tuple[Path, Path] | None = None, preprocessing: Options = None) -> None:
    """Wrap a model that csd did not export, so that preprocessing and unit length are part of it.

    Parameters
    ----------
    model
        ONNX file of an embedder.
    out
        ONNX file to write; every command takes it in the model's place, without options.
    verify
        An image file and an .npy file of the vector that your own code makes of it. If the wrapped model makes another,
        nothing is written, and the options that come closest are named.
    """
    refuse_existing(out)
    with TemporaryDirectory(prefix="csd-") as temporary:
        options = preprocessing or Preprocessing()
        (file,) = embedders((model,), options, Path(temporary))
        if verify:
            image, vector = verify
            found = check_vector(Embedder.load(file), image, vector, source=model, preprocessing=options)
            echo(f"{image}: the same vector, cosine {found.cosine:.6f}, largest difference {found.largest:.1g}")
        with atomic_file(out) as partial:
            shutil.copyfile(file, partial)
    made = Embedder.load(out)
    form = made.metadata.form
    echo(
        f"{out}: takes {form.size} x {form.size} x {form.channels} images ({form.resize}), makes vectors of "
        f"{made.metadata.dimension} dimensions; digest {made.digest[:12]}"
    )
