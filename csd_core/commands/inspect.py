"""`csd inspect`: a folder of images, looked at before anything is trained."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from csd_core.inspection.advice import (
    PUBLISHED,
    advice,
    advice_on_start,
    init_command,
    need_published_weights,
)
from csd_core.inspection.estimate import estimate, proof
from csd_core.inspection.findings import look_through
from csd_core.inspection.fitting import fitted_params, role_counts
from csd_core.inspection.page import write_page
from csd_core.inspection.text import numbered, print_estimate, print_findings
from csd_core.params.model import Params
from csd_core.records.stages import ImageForm
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace


def inspect(
    folder: Path, /, *, page: Path | None = None, quick: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Show what is in a folder of images, what is wrong with it, and what training on it would take.

    In a project whose parameters name the folder, its images are looked at as these say; elsewhere as would fit them.

    Parameters
    ----------
    folder
        Folder with a folder of images for each class, or with folders train and test that hold such folders.
    page
        HTML file to write: images of each class, near-duplicates side by side, unusable files.
    quick
        Leave out how long training takes, which is measured on a few batches.
    """
    if page is not None and page.is_dir():
        raise ArtifactError(f"--page {page}: is a folder; name a file, such as {page / 'inspection.html'}")
    known, sources = _known(folder)
    findings = look_through(folder, ImageForm.of(known.images) if known else None)
    params = known or fitted_params(findings)
    roles = role_counts(findings, params.split)
    print_findings(findings)
    lines = advice(findings, roles) + ([] if known else advice_on_start(findings, roles))
    if lines:
        echo("Look at:")
        numbered(lines)
    if not quick:
        found = sources or params.sources.folders.keys()
        print_estimate(estimate(params, roles, ingest=findings.seconds, sources=found))
    echo(proof(params, sum(counts["gate"] for counts in roles.values())))
    if page is not None:
        write_page(page, findings, lines)
        echo(f"page: {page}")
    profile = PUBLISHED if need_published_weights(findings, roles) else None
    echo("Next: csd run" if known else f"Next: {init_command(findings, profile)} shop && cd shop && csd run")


def _known(folder: Path) -> tuple[Params | None, frozenset[str]]:
    """Return the parameters of the project in the current folder, if they name the folder, and its names there."""
    workspace = Workspace()
    if not (workspace.root / "params.yaml").is_file() or not folder.is_dir():
        return None, frozenset()
    params = workspace.params()
    places = {name: workspace.path(source.path) for name, source in params.sources.folders.items()}
    names = frozenset(name for name, path in places.items() if path.is_dir() and path.samefile(folder))
    return (params, names) if names else (None, names)
