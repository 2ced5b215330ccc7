"""`csd upgrade`: plan and apply the upgrade of a gallery that lives outside the pipeline."""

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from csd_core.commands.check import DEFAULTS, GateOptions, Options, embedders, exit_if_rejected, judged
from csd_core.records.verdict import Promoted
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.application import apply_plan
from csd_core.standalone.collection import read_collection
from csd_core.standalone.own_gallery import ItemsRecord, OwnGallery, refuse_existing
from csd_core.standalone.plan_folder import PlanFolder, write_plan
from csd_core.standalone.preprocessing import Preprocessing
from csd_core.standalone.roles import assign_roles
from csd_core.system.atomic import atomic_file
from csd_core.system.console import echo
from csd_core.upgrade.measured import embedded
from csd_core.upgrade.policy_file import DEFAULT

Out = Annotated[Path, Parameter(name=("--out", "-o"))]

SHOWN = 20
"""Failed rows that are printed; failed.parquet has all."""

app = App(name="upgrade", help="Plan and apply the upgrade of a gallery of your own.")


@app.command
def plan(
    old: Path,
    new: Path,
    /,
    *,
    images: Path,
    gallery: Path,
    out: Out,
    options: GateOptions = DEFAULTS,
    preprocessing: Options = None,
) -> None:
    """Judge a new model as `csd check` does, and write a plan of the upgrade of the gallery.

    Parameters
    ----------
    old
        ONNX file of the active model.
    new
        ONNX file of the candidate.
    images
        Folder with a folder of images for each class, including the images of the gallery.
    gallery
        Folder of the gallery to upgrade.
    out
        Folder to write the plan to. If the candidate is rejected, it holds the reasons only and the exit code is 7.
    """
    refuse_existing(out)
    with TemporaryDirectory(prefix="csd-") as temporary:
        gate_input, gate_result = judged(
            old,
            new,
            images=images,
            gallery=gallery,
            options=options,
            preprocessing=preprocessing,
            scratch=Path(temporary),
        )
        write_plan(gate_result, gate_input.settings, gate_input.new, out)
    if isinstance(gate_result.verdict, Promoted):
        echo(f"plan: {out}; `csd upgrade apply` carries it out")
    exit_if_rejected(gate_result)


@app.command
def apply(
    plan: Path,
    /,
    *,
    images: Path,
    gallery: Path,
    out: Out,
    add: Annotated[bool, Parameter(negative="")] = False,
    workers: int = 1,
    max_rows_per_second: float | None = None,
    max_failed: int = 100,
) -> None:
    """Carry out a plan: write the upgraded gallery beside the old one. Run it again to resume.

    Parameters
    ----------
    plan
        Folder that `csd upgrade plan` has written.
    images
        The folder of images that the plan was made with.
    gallery
        The gallery that the plan was made for; it is only read.
    out
        Folder to write the upgraded gallery to.
    add
        Also add the images that the gallery lacks.
    workers
        Number of embedding processes, each with one thread.
    max_rows_per_second
        Largest embedding rate of all processes together; unlimited by default.
    max_failed
        Largest number of rows without a usable image. They are left out and listed; more are an error.
    """
    done = apply_plan(
        PlanFolder.load(plan),
        images=images,
        gallery=gallery,
        out=out,
        add=add,
        workers=workers,
        max_rows_per_second=max_rows_per_second,
        max_failed=max_failed,
    )
    echo(
        f"{out}: {done.embedded:,} rows embedded, {done.mapped:,} mapped, {done.kept:,} kept, {done.added:,} added, "
        f"{len(done.failed):,} failed and left out"
    )
    for identity, reason in list(done.failed.items())[:SHOWN]:
        echo(f"  {identity[:12]} {reason}")
    if len(done.failed) > SHOWN:
        echo(f"  and {len(done.failed) - SHOWN:,} more; failed.parquet has all")


@app.command
def index(model: Path, /, *, images: Path, out: Out, seed: int = 1, preprocessing: Options = None) -> None:
    """Embed a folder of images into a new gallery.

    Parameters
    ----------
    model
        ONNX file of the model that will search the gallery.
    images
        Folder with a folder of images for each class.
    out
        Folder to write the gallery to.
    seed
        Seed of the fit/select/gate split of the images.
    """
    refuse_existing(out)
    with TemporaryDirectory(prefix="csd-") as temporary:
        scratch = Path(temporary)
        (file,) = embedders((model,), preprocessing or Preprocessing(), scratch / "models")
        embedder = Embedder.load(file)
        form = embedder.metadata.form
        collection = read_collection(images, ids_in=form, forms=(form,), scratch=scratch / "images")
        roles = assign_roles(collection.items, gallery=None, new_classes=(), seed=seed)
        pool = collection.pool(splits=roles.splits, tasks=roles.tasks)
        gallery = embedded(pool, np.arange(len(pool.ids)), embedder)
        OwnGallery(
            gallery=gallery,
            items=ItemsRecord(form=form, best_own_gallery={}),
            lineage=Lineage(models={}, adapters={}).extended(models=[file]),
        ).save(out, failed={})
    echo(f"{out}: {len(gallery):,} rows of {len(np.unique(gallery.labels)):,} classes, model {embedder.digest[:12]}")


@app.command(name="wrap")
def wrap_model(model: Path, /, *, out: Out, preprocessing: Options = None) -> None:
    """Wrap a model that csd did not export, so that preprocessing and unit length are part of it.

    Parameters
    ----------
    model
        ONNX file of an embedder.
    out
        ONNX file to write; every command takes it in the model's place, without options.
    """
    refuse_existing(out)
    with TemporaryDirectory(prefix="csd-") as temporary:
        (file,) = embedders((model,), preprocessing or Preprocessing(), Path(temporary))
        with atomic_file(out) as partial:
            shutil.copyfile(file, partial)
    made = Embedder.load(out)
    form = made.metadata.form
    echo(
        f"{out}: takes {form.size} x {form.size} x {form.channels} images ({form.resize}), makes vectors of "
        f"{made.metadata.dimension} dimensions; digest {made.digest[:12]}"
    )


@app.command
def policy() -> None:
    """Print the default policy, as a start for one of your own."""
    echo(DEFAULT.read_text(encoding="utf-8").removesuffix("\n"))
