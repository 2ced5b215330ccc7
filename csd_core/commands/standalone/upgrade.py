"""`csd upgrade`: plan and apply the upgrade of a gallery that lives outside the pipeline."""

from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
from cyclopts import App, Parameter

from csd_core.commands.production.engine_options import DEFAULTS as LOCAL
from csd_core.commands.production.engine_options import EngineOptions
from csd_core.commands.standalone.check import (
    DEFAULTS,
    NO_ITEMS,
    GateOptions,
    GivenItems,
    Options,
    embedders,
    exit_if_rejected,
    judged,
)
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.lineage import Lineage
from csd_core.standalone.application import apply_plan
from csd_core.standalone.compared import read_compared
from csd_core.standalone.models.preprocessing import Preprocessing
from csd_core.standalone.own_gallery import OwnGallery, refuse_existing
from csd_core.standalone.plan_folder import PlanFolder
from csd_core.standalone.planning import write_whole_plan
from csd_core.standalone.roles import assign_roles
from csd_core.standalone.stored.application import apply_to_store, clean_up, take_back
from csd_core.standalone.stored.gallery import read_stored
from csd_core.stores.address import is_address, open_store
from csd_core.system.console import echo
from csd_core.system.errors import ParamsError
from csd_core.upgrade.measured import embedded
from csd_core.upgrade.policy_file import DEFAULT

Where = Annotated[str, Parameter(name=("--gallery", "--store"))]
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
    given: GivenItems = NO_ITEMS,
    gallery: Where,
    out: Out,
    options: GateOptions = DEFAULTS,
    previous: Path | None = None,
    price_per_image: float | None = None,
    preprocessing: Options = None,
) -> None:
    """Judge a new model as `csd check` does, and write a plan of the upgrade of the gallery.

    Parameters
    ----------
    old
        ONNX file of the active model.
    new
        ONNX file of the candidate.
    gallery
        The gallery to upgrade: a folder that csd wrote, or the address of a store (docs/stores.md).
    previous
        The plan that was applied last to this store; by default the old model made all of its rows.
    price_per_image
        What embedding an image costs, to print what the upgrade will.
    out
        Folder to write the plan to. If the candidate is rejected, it holds the reasons only and the exit code is 7.
    """
    refuse_existing(out)
    if previous is not None and not is_address(gallery):
        raise ParamsError("--previous: a gallery in a folder knows how its rows came to be; leave the option out")
    with TemporaryDirectory(prefix="csd-") as temporary:
        scratch, stored, folder = Path(temporary), None, Path(gallery)
        if is_address(gallery):
            if given.images is None or given.labels:
                raise ParamsError(
                    "--gallery: the rows of a store are known by a folder of images for each class; add "
                    "--images, leave --labels out"
                )
            file = embedders((old, new), preprocessing or Preprocessing(), scratch / "store" / "models")[0]
            with closing(open_store(gallery)) as store:
                stored = read_stored(
                    store,
                    old=file,
                    images=given.images,
                    seed=options.seed,
                    previous=PlanFolder.load(previous) if previous else None,
                    scratch=scratch / "store",
                )
            folder = scratch / "store" / "gallery"
            stored.own.save(folder, failed={})
        gate_input, gate_result = judged(
            old,
            new,
            given=given,
            gallery=folder,
            options=options,
            preprocessing=preprocessing,
            scratch=scratch,
        )
        takes = write_whole_plan(
            gate_input, gate_result, stored=stored, price_per_image=price_per_image, scratch=scratch, out=out
        )
    if takes is not None:
        echo(f"plan: {out}; {takes}; `csd upgrade apply` carries it out")
    exit_if_rejected(gate_result)


@app.command
def apply(
    plan: Path,
    /,
    *,
    images: Path | None = None,
    gallery: Where,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    cache: Path | None = None,
    add: Annotated[bool, Parameter(negative="")] = False,
    engine: EngineOptions = LOCAL,
    workers: int | None = None,
    max_rows_per_second: float | None = None,
    max_failed: int = 100,
) -> None:
    """Carry out a plan: write the upgraded gallery beside the old one. Run it again to resume.

    In a store the new vectors are written beside the old ones, searched by queries of the gate, then made active.

    Parameters
    ----------
    plan
        Folder that `csd upgrade plan` has written.
    images
        The folder of images that the plan was made with; a store needs it only where rows are re-embedded.
    gallery
        The gallery that the plan was made for. A folder is only read.
    out
        Folder to write the upgraded gallery to, where the old one is a folder.
    cache
        Folder of vectors that `csd check` or `csd upgrade plan` kept; what is in it is not embedded again.
    add
        Also add the images that the gallery lacks, where it is a folder.
    workers
        Number of embedding processes, each with one thread; by default 1, or with Ray one for each core (or GPU).
    max_rows_per_second
        Largest embedding rate of all processes together; unlimited by default.
    max_failed
        Largest number of rows that get no new vector. They are left out and listed; more are an error.
    """
    planned = PlanFolder.load(plan)
    who = engine.chosen(workers=workers)
    if is_address(gallery):
        if out is not None or add:
            raise ParamsError("--out and --add: are for galleries in folders; a store is upgraded where it is")
        with closing(open_store(gallery)) as store:
            name, work = store.name, plan.with_name(f".{plan.name}.work")
            done = apply_to_store(
                planned,
                store,
                images=images,
                work=work,
                cache=cache,
                engine=who,
                max_rows_per_second=max_rows_per_second,
                max_failed=max_failed,
            )
    else:
        if out is None or images is None:
            raise ParamsError("--images and --out: name the folder of images, and the one to write the gallery to")
        name = str(out)
        done = apply_plan(
            planned,
            images=images,
            gallery=Path(gallery),
            out=out,
            cache=cache,
            add=add,
            engine=who,
            max_rows_per_second=max_rows_per_second,
            max_failed=max_failed,
        )
    echo(
        f"{name}: {done.embedded:,} rows embedded, {done.mapped:,} mapped, {done.kept:,} kept, {done.added:,} added, "
        f"{len(done.failed):,} failed and left out"
    )
    for identity, reason in list(done.failed.items())[:SHOWN]:
        echo(f"  {identity[:12]} {reason}")
    if len(done.failed) > SHOWN:
        echo(f"  and {len(done.failed) - SHOWN:,} more" + ("" if is_address(gallery) else "; failed.parquet has all"))


@app.command
def undo(plan: Path, /, *, gallery: Where) -> None:
    """Make the vectors before an upgrade of a store the active ones again; the new ones stay beside them.

    Parameters
    ----------
    plan
        Folder of the plan that was applied.
    gallery
        Address of the store.
    """
    with closing(open_store(gallery)) as store:
        take_back(PlanFolder.load(plan), store)
        echo(f"{store.name}: the vectors before {plan} are active; let the old model embed the queries again")


@app.command
def clean(plan: Path, /, *, gallery: Where) -> None:
    """Remove from a store what is not active: the vectors before an upgrade, or new ones that are not switched to.

    Parameters
    ----------
    plan
        Folder of the plan.
    gallery
        Address of the store.
    """
    with closing(open_store(gallery)) as store:
        active = clean_up(PlanFolder.load(plan), store)
        echo(f"{store.name}: removed the vectors {'before' if active else 'of'} {plan}")


@app.command
def index(
    model: Path,
    /,
    *,
    given: GivenItems = NO_ITEMS,
    vectors: Path | None = None,
    out: Out,
    engine: EngineOptions = LOCAL,
    seed: int = 1,
    preprocessing: Options = None,
) -> None:
    """Make a gallery of images, or of vectors that the model made of them elsewhere.

    Parameters
    ----------
    model
        ONNX file of the model that will search the gallery.
    vectors
        Vectors of labelled items that are stored already; items without one are embedded.
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
        # a model beside itself: nothing is compared yet
        materials = given.materials(old=file, new=file, old_vectors=vectors, new_vectors=vectors)
        compared = read_compared(materials, gallery=None, scratch=scratch)
        collection = compared.collection
        roles = assign_roles(collection, gallery=None, new_classes=(), seed=seed)
        pool = collection.pool(
            splits=roles.splits, tasks=roles.tasks, cache=compared.cache, engine=engine.chosen(workers=None)
        )
        gallery = embedded(pool, np.arange(len(pool.ids)), embedder)
        OwnGallery(
            gallery=gallery,
            items=compared.items,
            lineage=Lineage(models={}, adapters={}).extended(models=[file]),
        ).save(out, failed={})
    echo(f"{out}: {len(gallery):,} rows of {len(np.unique(gallery.labels)):,} classes, model {embedder.digest[:12]}")


app.command(
    "csd_core.commands.standalone.wrap:wrap",
    help="Wrap a model that csd did not export, so that preprocessing and unit length are part of it.",
)


@app.command
def policy() -> None:
    """Print the default policy, as a start for one of your own."""
    echo(DEFAULT.read_text(encoding="utf-8").removesuffix("\n"))
