"""What `csd init --from` says of a folder of images, and the parameters that fit it."""

from pathlib import Path

from csd_core.data.folders import check_folders
from csd_core.inspection.advice import advice, advice_on_start
from csd_core.inspection.findings import look_through
from csd_core.inspection.fitting import FEW, fitted_text, path_from, role_counts, source_name
from csd_core.inspection.text import numbered, print_findings
from csd_core.params.file import profile_text
from csd_core.params.model import Params
from csd_core.params.sources import FolderSource
from csd_core.records.stages import ImageForm
from csd_core.system.console import echo
from csd_core.system.errors import ParamsError
from csd_core.system.yaml_file import parse_yaml


def params_from(folder: Path, images: Path, profile: str | None) -> str:
    """Look through a folder of images, say what is in it, and return the params.yaml that fits it.

    Args:
        folder: The project's.
        images: To look through.
        profile: Name of the profile that decides form, network and recipes; None fits them too.

    Raises:
        ParamsError: if there is no such profile, or the project has parameters already.
        DataError: if the folder has no image, or DVC cannot watch it.
    """
    start = profile_text(folder / "profiles", profile) if profile else None
    if (folder / "params.yaml").exists():
        raise ParamsError(
            f"{folder / 'params.yaml'}: is there already; `csd tasks add` adds a folder to a project, or name another "
            "folder for a new one"
        )
    source, path = source_name(images), path_from(folder, images)
    check_folders(folder, {source: FolderSource(path=path, layout="classes")})
    form = ImageForm.of(Params.model_validate(parse_yaml(start, where=f"profile {profile}")).images) if start else None
    findings = look_through(images, form)
    text = fitted_text(findings, source=source, path=path, profile=start)
    params = Params.model_validate(parse_yaml(text, where="fitted parameters"))
    print_findings(findings)
    roles = role_counts(findings, params.split)
    lines = advice(findings, roles) + ([] if profile else advice_on_start(findings, roles))
    if lines:
        echo("Look at:")
        numbered(lines)
    first, group = params.training.first, params.split.group or "null"
    flips = "on" if first.augmentation.flip else "off"
    recipe = f"{first.epochs} epochs of batches of {first.batch_size}, flips {flips}"
    echo(
        f"chosen: {params.training.network.architecture}, {recipe if first.epochs else 'start weights as they are'}, "
        f"split.group {group}, gate.min_recall {params.gate.min_recall:g}; params.yaml has every knob"
    )
    if not first.epochs:
        echo(
            f"at most {FEW} training images of a class, on average: published weights find more as they are than after "
            "a few epochs on so few images; raise training.first.epochs to let training compete with them"
        )
    return text
