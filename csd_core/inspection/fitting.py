"""Parameters that fit a folder of images: its form, and how long, how large and how strictly to train."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ruamel.yaml.comments import CommentedSeq

from csd_core.data.grouping.equal_images import BACKGROUNDS, equal_by_background
from csd_core.data.grouping.roles import apportion
from csd_core.inspection.headers import Headers
from csd_core.params.file import PROFILES, merge, profile_text
from csd_core.params.model import Params, SplitShares
from csd_core.params.section import UNSEEN, Split
from csd_core.records.stages import ImageForm
from csd_core.system.yaml_file import document_of, dump, parse_yaml

if TYPE_CHECKING:
    from csd_core.inspection.findings import Findings

BASE = "imagefolder"
"""The profile whose other values stay."""

SMALLEST, LARGEST = 8, 64
"""Pixels; a from-scratch network on larger images takes hours on a CPU and learns little more of a small set."""
_SQUARE = 1.15
"""Images up to this ratio of their sides look right when they are squashed."""
_STEPS = 2400
"""Of a first training, where FEWEST_EPOCHS and MOST_EPOCHS allow."""
FEWEST_EPOCHS, MOST_EPOCHS = 5, 120
_LATER = 0.75
"""Epochs of a later training by those of the first."""
_BATCHES = ((60, 16), (2_000, 32), (20_000, 64))
"""Up to so many training images -> batch size; more take 128."""
_RECALLS = ((5, 0.8), (20, 0.6), (100, 0.4))
"""Up to so many classes -> Recall@1 that a first model must reach; more ask for 0.2. mAP@R is half of it."""
_SPARE_SHARE, _SPARE_FILES = 0.01, 10
"""Unusable files allowed beyond those found: a share of all files, but at least so many."""
GROUPED, HASHED = 0.01, 32
"""Share of images with a near-duplicate from which on they share a role, and pixels below which none do: of small
symbols, many differ in little."""


FEW = 20
"""Training images of a class, on average, up to which given start weights stay as they are: a few epochs on 14 of a
class found less than they do (docs/experiments.md)."""


def fitting_form(headers: Headers) -> ImageForm:
    """Return the form for images of these sizes, in colour, on the background that makes the fewest of them equal."""
    short = int(np.median(headers.sizes.min(axis=1)))
    ratio = np.maximum(headers.aspects, 1 / headers.aspects)
    square = float(np.quantile(ratio, 0.9)) <= _SQUARE
    size = min(LARGEST, max(SMALLEST, short // 4 * 4))
    form = ImageForm(size=size, channels=3, resize="squash" if square else "pad", background=BACKGROUNDS[0])
    if not headers.transparent:
        return form
    equal = equal_by_background(headers.transparent, form)
    return form.model_copy(update={"background": min(BACKGROUNDS, key=equal.__getitem__)})


def fitting_network() -> dict[str, Any]:
    """Return the keys of `training.network` that choose the network: one for images of up to LARGEST pixels."""
    return {"architecture": "resnet-cifar", "depth": 20, "width": 16}


def batch_size(training_images: int) -> int:
    """Return the batch size for so many training images."""
    return next((size for most, size in _BATCHES if training_images <= most), 128)


def epochs(training_images: int) -> int:
    """Return the epochs that make about enough steps of so many training images."""
    steps = -(-training_images // batch_size(training_images))
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, round(_STEPS / steps)))


def least_recall(classes: int) -> float:
    """Return the Recall@1 that a first model of so many classes must reach."""
    return next((recall for most, recall in _RECALLS if classes <= most), 0.2)


def changes(
    findings: "Findings", *, training_images: int, source: str, path: str, keep: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """Return the blocks of params.yaml that differ from the profile they start from.

    Args:
        findings: Of the folder.
        training_images: How many of its images train.
        source: Name of the source.
        path: Of the folder, as params.yaml is to name it.
        keep: Blocks that the profile decides.
    """
    form, first = findings.form, epochs(training_images)
    grouped = form.size >= HASHED and findings.in_groups > GROUPED * len(findings)
    bad = len(findings.taken.rejected) + len(findings.taken.conflicts)
    augmentation = {"crop_padding": form.size // 8, "flip": not findings.grey}
    recall = least_recall(len(findings.classes))
    fitted = {
        "images": {
            "pixels": form.size,
            "channels": form.channels,
            "resize": form.resize,
            "background": form.background,
        },
        "sources": {"published": {}, "folders": {source: {"path": path, "layout": findings.top.layout}}},
        "data": {"max_rejected": bad + max(_SPARE_FILES, round(_SPARE_SHARE * len(findings.source)))},
        "split": {"group": "hash" if grouped else None},
        "tasks": {"t1": {"previous": "init", "recipe": "first", "source": source, "classes": None}},
        "training": {
            "network": {**fitting_network(), "mean": on_one_line(findings.mean), "std": on_one_line(findings.std)},
            "first": {
                "epochs": first,
                "batch_size": batch_size(training_images),
                "augmentation": augmentation,
            },
            "later": {
                "epochs": max(FEWEST_EPOCHS, round(_LATER * first)),
                "batch_size": batch_size(training_images),
                "augmentation": augmentation,
            },
        },
        "gate": {"min_recall": recall, "min_map_at_r": recall / 2},
        "decisions": {"t1": "auto"},
        "report": {"after": "t1"},
    }
    return {block: values for block, values in fitted.items() if block not in keep}


def fitted_text(findings: "Findings", *, source: str, path: str, profile: str | None = None) -> str:
    """Return a params.yaml for a folder: a profile with what fits the folder.

    Args:
        findings: Of the folder.
        source: Name of the source.
        path: Of the folder, as params.yaml is to name it.
        profile: The text of one that decides form, network and recipes; None for BASE, where these are fitted too. Its
            start weights stay as they are where images are few.
    """
    document = document_of(profile or profile_text(PROFILES, BASE), where="profile")
    shares = SplitShares.model_validate(document["split"])
    training = sum(counts["train"] for counts in role_counts(findings, shares).values())
    keep = frozenset({"images", "training"} if profile else ())
    fitted = changes(findings, training_images=training, source=source, path=path, keep=keep)
    if profile and document["training"]["network"]["weights"] and are_few(findings, training):
        fitted["training"] = {"first": {"epochs": 0}}
    merge(document, document_of(dump(fitted), where="fitted parameters"))
    values = dump(document).partition("\n")[2]  # the first line says what BASE is for
    about = f"{len(findings):,} images of {len(findings.classes):,} classes"
    return f"# Fitted to {about} by `csd init --from`; `csd inspect` shows what is in the folder.\n{values}"


def are_few(findings: "Findings", training_images: int) -> bool:
    """Return whether there are so few training images that start weights are not trained."""
    return training_images <= FEW * len(findings.classes)


def on_one_line(values: Iterable[float]) -> CommentedSeq:
    """Return a list that is written on one line."""
    listed = CommentedSeq(values)
    listed.fa.set_flow_style()
    return listed


def source_name(folder: Path) -> str:
    """Return a name for a source: the folder's, in the characters that params.yaml allows."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_-]+", "-", plain).strip("-_")[:64]
    return name if name and name not in UNSEEN else "images"


def path_from(project: Path, folder: Path) -> str:
    """Return how params.yaml names a folder: relative to it inside of the project, else absolute."""
    home, place = project.resolve(), folder.resolve()
    return (place.relative_to(home) if place.is_relative_to(home) else place).as_posix()


def fitted_params(findings: "Findings") -> Params:
    """Return the parameters of `fitted_text`, of a source that has no name yet."""
    text = fitted_text(findings, source="images", path="images")
    return Params.model_validate(parse_yaml(text, where="fitted parameters"))


def role_counts(findings: "Findings", shares: SplitShares) -> dict[str, dict[Split, int]]:
    """Return, for each class, how many images each role gets.

    Args:
        findings: Of the folder.
        shares: The block `split`; groups that share a role shift the counts a little.
    """
    own_test = Counter(
        label
        for label, split in zip(findings.taken.labels, findings.taken.source_splits, strict=True)
        if split == "test"
    )
    found: dict[str, dict[Split, int]] = {}
    for label, count in findings.classes.items():
        here = shares.model_copy(update={"test": 0.0}) if own_test[label] else shares
        counts = apportion(count - own_test[label], here)
        found[label] = {**counts, "test": counts["test"] + own_test[label]}
    return found
