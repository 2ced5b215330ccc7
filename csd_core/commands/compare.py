"""`csd compare`: methods x profiles x seeds through the project's own pipeline."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from csd_core.commands.production.engine_options import DEFAULTS, EngineOptions
from csd_core.comparison.report.page import PAGE, write_report
from csd_core.comparison.results.figures import load_comparison
from csd_core.comparison.results.table import FILE, merge_results, recorded, write_results
from csd_core.comparison.running.cluster import cluster_events
from csd_core.comparison.running.progress import told
from csd_core.comparison.running.run_folder import Code
from csd_core.comparison.running.runs import CELLS, cells_of, params_of
from csd_core.comparison.running.scheduler import Run, finished
from csd_core.comparison.running.spec import load_spec
from csd_core.engine.ray_engine import RayEngine
from csd_core.system.console import echo
from csd_core.system.errors import CsdError, ParamsError
from csd_core.system.locks import Lock

RUNS = Path("comparisons") / "runs"

app = App(name="compare", help="Compare methods on data profiles and seeds.")


@app.command
def run(
    spec: Path,
    /,
    *,
    engine: EngineOptions = DEFAULTS,
    jobs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    only: Annotated[list[str] | None, Parameter(negative="")] = None,
    folder: Path | None = None,
) -> None:
    """Run the stale cells of a comparison; run it again to resume. Results of other cells stay.

    Parameters
    ----------
    spec
        File of the comparison, such as comparisons/evidence.yaml.
    jobs
        Number of cells to run at a time, each with the threads of its `compute.threads`; by default 1, or with Ray as
        many as the cluster has room for.
    only
        Pattern of the cells to run, PROFILE/CONTENDER/SEED, such as glyphs-*/csd/1; repeat it for several.
    folder
        Folder of the cells, the cache and results.parquet; by default comparisons/runs/<name of the comparison>.
    """
    project = Path()
    comparison = load_spec(spec)
    cells = cells_of(comparison, only or ())
    params = params_of(comparison, project=project, where=str(spec))
    code = Code.of(project)
    folder = folder or RUNS / spec.stem
    folder.mkdir(parents=True, exist_ok=True)
    with Lock(folder / ".lock", what=f"comparison {folder}").held(wait=0):
        known = finished(folder, params)
        table = recorded(folder / FILE) | known
        chosen = engine.chosen(workers=jobs)
        if isinstance(chosen, RayEngine):
            events = cluster_events(chosen, cells, params, folder=folder, code=code)
        else:
            jobs = jobs or 1
            events = Run(params, folder=folder, code=code, jobs=jobs).events(cells)
        with told(cells, known=known, jobs=jobs) as progress, closing(events):
            for event in events:
                progress.hear(event)
                if event.stage is None:
                    table.pop(event.cell, None)
                    if event.measures:
                        table[event.cell] = event.measures
                    write_results(folder / FILE, table)
    ready = sum(cell in table and table[cell].params == each.digest for cell, each in params.items())
    echo(f"{folder / FILE}: {ready} of {len(params)} cells")
    if progress.failed:
        names = ", ".join(map(str, progress.failed))
        raise CsdError(f"{len(progress.failed)} of {len(cells)} cells failed: {names}; their last lines stand above")


@app.command
def report(
    spec: Path,
    /,
    *,
    folder: Path | None = None,
    reference: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
) -> None:
    """Write report.md, results.csv and index.html of the cells that have run.

    Parameters
    ----------
    spec
        File of the comparison.
    folder
        Folder of results.parquet; by default comparisons/runs/<name of the comparison>.
    reference
        Contender to compare the others with; by default the comparison names it.
    output
        Folder to write the three files to; by default the same folder.
    """
    comparison = load_spec(spec)
    if reference is not None and reference not in comparison.contenders:
        raise ParamsError(f"{spec}: has no contender {reference}; it has {', '.join(comparison.contenders)}")
    folder = folder or RUNS / spec.stem
    results = folder / FILE
    found = load_comparison(
        results,
        name=spec.stem,
        planned={cell: each.digest for cell, each in params_of(comparison, project=Path(), where=str(spec)).items()},
        reference=reference or comparison.reference,
        methods={name: comparison.method_of(name) or "" for name in comparison.contenders},
    )
    output = output or folder
    write_report(found, results, output)
    echo(f"{output / PAGE}: {len(found.figures)} of {len(found.planned)} cells")


@app.command
def merge(folder: Path, other: Path, /, *more: Path, output: Annotated[Path, Parameter(alias="-o")]) -> None:
    """Merge the results of several folders, such as those of machines that shared the cells.

    Parameters
    ----------
    folder
        Folder with a results.parquet. Where several have a cell, the first one counts.
    other
        Another folder with a results.parquet.
    more
        More such folders.
    output
        Folder to write the merged results.parquet to; it may be one of them, but none that `csd compare run` uses.
    """
    if (output / CELLS).is_dir():
        raise ParamsError(f"{output}: `csd compare run` writes its results there; give -o another folder")
    folders = (folder, other, *more)
    if (output / FILE).exists() and output.resolve() not in [each.resolve() for each in folders]:
        raise ParamsError(
            f"{output / FILE}: exists and would be lost; name {output} among the folders, or give -o another"
        )
    merged = merge_results([each / FILE for each in folders], output / FILE)
    echo(f"{output / FILE}: {merged.cells} cells")
    if merged.equal:
        echo(f"{len(merged.equal)} in several with equal parameters and figures, seconds aside")
    if merged.differing:
        names = ", ".join(map(str, merged.differing))
        echo(f"{len(merged.differing)} in several and not equal, so the first folder's count: {names}")
