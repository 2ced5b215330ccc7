"""`csd check`: the gate on any two embedders, a folder of images and a gallery."""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from csd_core.records.verdict import Rejected
from csd_core.standalone.examination import GateInput, GateResult, run_gate
from csd_core.standalone.foreign import is_exported_by_csd
from csd_core.standalone.preprocessing import Preprocessing
from csd_core.standalone.table import print_findings
from csd_core.standalone.wrapping import wrap
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, ParamsError
from csd_core.upgrade.policy_file import load_policy

Options = Annotated[Preprocessing | None, Parameter(name="*")]
"""For models that csd did not export."""

POLICY = (
    "YAML file with the blocks gate and upgrade, or a whole params.yaml. The default is ./params.yaml if there is one, "
    "and otherwise what `csd upgrade policy` prints."
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class GateOptions:
    """What `csd check` and `csd upgrade plan` may be told about their judgement."""

    new_classes: str | None = None
    """Classes that the gallery lacks, separated by commas; by default those of which it has no row."""
    fit: Path | None = None
    """Folder of images to fit adapters on; by default some images of the new classes, or of all if none is new."""
    policy: Annotated[Path | None, Parameter(help=POLICY)] = None
    max_queries: int | None = None
    """The largest number of queries; more are sampled down, but all images stay in the gallery."""
    seed: int = 1
    """Seed of the fit/select/gate split of the images."""


DEFAULTS = GateOptions()

REJECTED = 7
"""Exit code where the gate rejects the candidate; errors have others."""


def check(
    old: Path,
    new: Path,
    /,
    *,
    images: Path,
    gallery: Path | None = None,
    options: GateOptions = DEFAULTS,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    preprocessing: Options = None,
) -> None:
    """Judge whether a new embedding model may take over search, and how; exit with 7 if it may not.

    Parameters
    ----------
    old
        ONNX file of the active model.
    new
        ONNX file of the candidate.
    images
        Folder with a folder of images for each class. Use images that neither model was trained on.
    gallery
        Gallery whose stored vectors are searched; by default the old model embeds the images of the old classes.
    out
        JSON file to write the report to; `csd gate replay` judges it again under another policy.
    """
    if out is not None and out.is_dir():
        raise ArtifactError(f"--out {out}: is a folder; name a file, such as {out / 'check.json'}")
    with TemporaryDirectory(prefix="csd-") as temporary:
        _, gate_result = judged(
            old,
            new,
            images=images,
            gallery=gallery,
            options=options,
            preprocessing=preprocessing,
            scratch=Path(temporary),
        )
        if out is not None:
            gate_result.report.save(out)
            echo(f"report: {out}")
    exit_if_rejected(gate_result)


def judged(
    old: Path,
    new: Path,
    *,
    images: Path,
    gallery: Path | None,
    options: GateOptions,
    preprocessing: Preprocessing | None,
    scratch: Path,
) -> tuple[GateInput, GateResult]:
    """Judge a candidate by a command's arguments, and print what was found.

    Models that csd did not export are wrapped in `scratch`.

    Raises:
        CsdError: if something that was given is wrong, missing or unusable.
    """
    if options.max_queries is not None and options.max_queries < 1:
        raise ParamsError(f"--max-queries {options.max_queries}: must be at least 1")
    policy, settings = load_policy(options.policy)
    wrapped = embedders((old, new), preprocessing or Preprocessing(), scratch / "models")
    gate_input = GateInput(
        old=wrapped[0],
        new=wrapped[1],
        images=images,
        gallery=gallery,
        new_classes=tuple(name.strip() for name in options.new_classes.split(",")) if options.new_classes else (),
        fit=options.fit,
        policy=policy,
        settings=settings,
        max_queries=options.max_queries,
        seed=options.seed,
    )
    gate_result = run_gate(gate_input, scratch)
    print_findings(gate_result.report, gate_result.verdict, policy)
    return gate_input, gate_result


def embedders(files: tuple[Path, ...], preprocessing: Preprocessing, folder: Path) -> tuple[Path, ...]:
    """Return the same models in csd's form.

    Raises:
        ParamsError: if options are given that no model needs.
        ArtifactError: if a model is missing or unusable.
    """
    ours = [is_exported_by_csd(file) for file in files]
    if all(ours) and preprocessing.given:
        raise ParamsError(
            f"{', '.join(preprocessing.given)}: csd's own models know how images are fed to them; leave the option out"
        )
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{number}.onnx" for number in range(len(files))]
    for file, mine, target in zip(files, ours, targets, strict=True):
        if not mine:
            wrap(file, target, preprocessing)
    return tuple(file if mine else target for file, mine, target in zip(files, ours, targets, strict=True))


def exit_if_rejected(gate_result: GateResult) -> None:
    """End the process with REJECTED where the gate rejects the candidate, so that a CI job can depend on it."""
    if isinstance(gate_result.verdict, Rejected):
        sys.stdout.flush()
        sys.exit(REJECTED)
