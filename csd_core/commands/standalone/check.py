"""`csd check`: the gate on any two embedders, a folder of images and a gallery."""

import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from cyclopts import Parameter

from csd_core.records.verdict import Rejected
from csd_core.standalone.compared import Materials, has_classes
from csd_core.standalone.examination import GateInput, GateResult, run_gate
from csd_core.standalone.models.foreign import is_exported_by_csd
from csd_core.standalone.models.preprocessing import Preprocessing
from csd_core.standalone.models.wrapping import wrap
from csd_core.standalone.summary import summary_writer
from csd_core.standalone.table import print_findings
from csd_core.standalone.without_labels.comparison import compare_unlabelled, print_answers
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


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class GivenItems:
    """Images, labels and vectors that the gate measures."""

    images: Path | None = None
    """Folder with a folder of images for each class, or with the images that --labels names. Use images that neither
    model was trained on."""
    labels: Path | None = None
    """Table (.csv or .parquet) with the columns id, class and, if known, path, group and task. Paths lie below
    --images, or beside the table; items of one group are no answer to each other."""
    id_column: str = "id"
    """Column of ids in --labels and in the tables of vectors."""
    cache: Path | None = None
    """Folder to keep vectors in, so that no command embeds an image again."""

    def materials(
        self,
        *,
        old: Path | None,
        new: Path | None,
        old_vectors: Path | None,
        new_vectors: Path | None,
        pairs: Path | None = None,
    ) -> Materials:
        """Return these, with the models and vectors of a command."""
        return Materials(
            old=old,
            new=new,
            images=self.images,
            labels=self.labels,
            old_vectors=old_vectors,
            new_vectors=new_vectors,
            pairs=pairs,
            id_column=self.id_column,
            cache=self.cache,
        )


NO_ITEMS = GivenItems()

OldVectors = Annotated[Path | None, Parameter(name=("--old-vectors", "--vectors"))]

DEFAULTS = GateOptions()

REJECTED = 7
"""Exit code where the gate rejects the candidate; errors have others."""

UNDECIDED = 8
"""Exit code where nothing says what is right, so that the gate has no verdict."""


def check(
    old: Path | None = None,
    new: Path | None = None,
    /,
    *,
    given: GivenItems = NO_ITEMS,
    old_vectors: OldVectors = None,
    new_vectors: Path | None = None,
    pairs: Path | None = None,
    gallery: Path | None = None,
    options: GateOptions = DEFAULTS,
    out: Annotated[Path | None, Parameter(name=("--out", "-o"))] = None,
    summary: Path | None = None,
    preprocessing: Options = None,
) -> None:
    """Judge whether a new embedding model may take over search, and how; exit with 7 if it may not.

    Parameters
    ----------
    old
        ONNX file of the active model; not needed where --old-vectors has a vector of every item.
    new
        ONNX file of the candidate; with --old-vectors it may stand alone. Not needed with --new-vectors.
    old_vectors
        Vectors that the old model made of labelled items, as they are stored: .npy with ids in .ids.txt, .parquet,
        .lance or .faiss.
    new_vectors
        Vectors that the new model made of labelled items, in place of its ONNX file.
    pairs
        Table (.csv or .parquet) with the columns query and item: ids that should match, in place of classes. Without
        classes and pairs the two systems' answers are compared, and the exit code is 8.
    gallery
        Gallery whose stored vectors are searched; by default the old model embeds the images of the old classes.
    out
        JSON file to write the report to; `csd gate replay` judges it again under another policy.
    summary
        File to write the verdict to, for a pull request: Markdown (.md) or JUnit (.xml).
    """
    write_summary = summary_writer(summary) if summary else None
    if out is not None and out.is_dir():
        raise ArtifactError(f"--out {out}: is a folder; name a file, such as {out / 'check.json'}")
    items = given.materials(old=old, new=new, old_vectors=old_vectors, new_vectors=new_vectors, pairs=pairs)
    if (out or summary) and not has_classes(items):
        _refuse_without_classes(("--out", out), ("--summary", summary))
    with TemporaryDirectory(prefix="csd-") as temporary:
        _, gate_result = judged(
            old,
            new,
            given=given,
            old_vectors=old_vectors,
            new_vectors=new_vectors,
            pairs=pairs,
            gallery=gallery,
            options=options,
            preprocessing=preprocessing,
            scratch=Path(temporary),
        )
        if out is not None:
            gate_result.report.save(out)
            echo(f"report: {out}")
        if summary and write_summary:
            write_summary(summary, gate_result.report, gate_result.verdict)
    exit_if_rejected(gate_result)


def judged(
    old: Path | None,
    new: Path | None,
    *,
    given: GivenItems,
    old_vectors: Path | None = None,
    new_vectors: Path | None = None,
    pairs: Path | None = None,
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
    if new is None and old_vectors and not new_vectors:
        old, new = None, old  # the one model that is given is the one that nothing else is known of
    files = [file for file in (old, new) if file]
    wrapped = dict(
        zip(files, embedders(tuple(files), preprocessing or Preprocessing(), scratch / "models"), strict=True)
    )
    gate_input = GateInput(
        materials=given.materials(
            old=wrapped[old] if old else None,
            new=wrapped[new] if new else None,
            old_vectors=old_vectors,
            new_vectors=new_vectors,
            pairs=pairs,
        ),
        gallery=gallery,
        new_classes=tuple(name.strip() for name in options.new_classes.split(",")) if options.new_classes else (),
        fit=options.fit,
        policy=policy,
        settings=settings,
        max_queries=options.max_queries,
        seed=options.seed,
    )
    if not has_classes(gate_input.materials):
        _refuse_without_classes(("--gallery", gallery), ("--new-classes", options.new_classes), ("--fit", options.fit))
        print_answers(
            compare_unlabelled(
                gate_input.materials, settings, seed=options.seed, most=options.max_queries, scratch=scratch
            )
        )
        sys.stdout.flush()
        sys.exit(UNDECIDED)
    gate_result = run_gate(gate_input, scratch)
    print_findings(gate_result.report, gate_result.verdict, policy)
    if pairs:
        echo(
            "evidence: pairs say what should match, not all of it; a right answer that no pair names counts as wrong, "
            "so recalls are low, and it is their differences that count"
        )
    return gate_input, gate_result


def _refuse_without_classes(*options: tuple[str, object]) -> None:
    for name, value in options:
        if value:
            raise ParamsError(f"{name}: nothing says what is right, so there is no verdict; add --labels or --pairs")


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
