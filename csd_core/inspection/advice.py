"""What to look at in a folder before training, in sentences: each says what, where, and what to do."""

import shlex
from collections.abc import Iterator, Mapping, Sequence

from csd_core.data.grouping.equal_images import told
from csd_core.inspection.findings import Findings, twins
from csd_core.inspection.fitting import HASHED, LARGEST, are_few
from csd_core.params.section import Split
from csd_core.system.names import printable

PUBLISHED = "photos-quick"
"""The profile that starts from published weights and needs no GPU."""
SHOWN = 5
"""Names that a sentence lists."""


def advice(findings: Findings, roles: Mapping[str, Mapping[Split, int]]) -> list[str]:
    """Return sentences on what is probably wrong, the gravest first; none where nothing is.

    Args:
        findings: Of the folder.
        roles: Class -> role -> images.
    """
    return [*_of_layout(findings), *_of_copies(findings), *_of_classes(findings, roles), *_of_files(findings)]


def need_published_weights(findings: Findings, roles: Mapping[str, Mapping[Split, int]]) -> bool:
    """Return whether the photographs are too few for a network that starts from nothing.

    Args:
        findings: Of the folder.
        roles: Class -> role -> images.
    """
    training = sum(counts["train"] for counts in roles.values())
    return not findings.grey and findings.form.size >= LARGEST and are_few(findings, training)


def advice_on_start(findings: Findings, roles: Mapping[str, Mapping[Split, int]]) -> list[str]:
    """Return a sentence on start weights where photographs are too few for a network that starts from nothing.

    Args:
        findings: Of the folder.
        roles: Class -> role -> images.
    """
    if not need_published_weights(findings, roles):
        return []
    each = sum(counts["train"] for counts in roles.values()) / max(1, len(findings.classes))
    said = (
        f"training images of a class, on average: {each:.0f}; published weights search so few photographs better, and "
        f"sooner, than a network that starts from nothing: `{init_command(findings, PUBLISHED)}` and a new folder "
        "(with a GPU: `--profile photos`)"
    )
    return [said]


def init_command(findings: Findings, profile: str | None) -> str:
    """Return the command that sets up a project for the folder; the project's own name follows it.

    Args:
        findings: Of the folder.
        profile: Of the project; None fits network and recipe too.
    """
    chosen = f" --profile {profile}" if profile else ""
    return f"csd init --from {shlex.quote(str(findings.root))}{chosen}"


def _of_layout(findings: Findings) -> Iterator[str]:
    yield from findings.top.hints
    yield from findings.source.notes
    for names in twins(findings.classes):
        yield f"classes {_listed(names)} differ in case or spaces only; if they are one, move their images together"
    for label, names in findings.spellings.items():
        forms = " and ".join(ascii(name)[1:-1] for name in names)
        yield f'class "{label}" is spelt in {len(names)} Unicode forms ({forms}), which are taken for one'


def _of_copies(findings: Findings) -> Iterator[str]:
    conflicts, paths = findings.taken.conflicts, findings.taken.paths
    yield from (told(lost, findings.form) for lost in findings.lost)
    if conflicts:
        yield (
            f"copies of an image in another class: {len(conflicts):,}, such as {conflicts[0].path}, "
            f"{conflicts[0].reason}; remove the one that is labelled wrongly"
        )
    for pairs, where, remedy in (
        (findings.across_classes, "two classes", "one of the two may be labelled wrongly"),
        (findings.across_sets, "train and test", "the test knows its answers; write `split.group: hash`"),
    ):
        if len(pairs):
            left, right = (paths[row] for row in pairs[0])
            yield f"pairs of near-duplicates in {where}: {len(pairs):,}, such as {left} and {right}; {remedy}"
    if findings.in_groups and findings.form.size < HASHED:
        yield (
            f"images with a near-duplicate: {findings.in_groups:,}, but at {findings.form.size} pixels many differ in "
            "little; --page shows them side by side"
        )
    elif findings.in_groups:
        yield (
            f"images with a near-duplicate: {findings.in_groups:,}, at most {findings.largest_group:,} together; "
            "`split.group: hash` gives each such group one role, so that what trains a model does not judge it"
        )


def _of_classes(findings: Findings, roles: Mapping[str, Mapping[Split, int]]) -> Iterator[str]:
    classes = findings.classes
    if len(classes) == 1:
        yield f'"{next(iter(classes))}" is the only class; a model needs two to tell apart'
    single = [label for label, count in classes.items() if count == 1]
    if single:
        yield (
            f"classes with one image: {_listed(single)}; it trains, and no query can find another of its class; add "
            "images or leave the class out"
        )
    untrained = [label for label, counts in roles.items() if not counts["train"]]
    if untrained:
        yield f"classes without an image to train on: {_listed(untrained)}; add some to train"
    unjudged = [
        label
        for label, counts in roles.items()
        if classes[label] > 1 and counts["train"] and not (counts["select"] and counts["gate"])
    ]
    if unjudged:
        yield (
            f"classes with too few images for every role: {_listed(unjudged)}; none of theirs chooses or judges a "
            "model, so add images"
        )


def _of_files(findings: Findings) -> Iterator[str]:
    bad, headers = findings.unusable, findings.headers
    if bad:
        yield f"files that cannot be used: {len(bad):,}, such as {bad[0].path}, which {bad[0].reason}"
    if headers.animated:
        yield f"animated files: {headers.animated:,}; the first frame of each is taken"
    if headers.transparent:
        count, background = len(headers.transparent), findings.form.background
        yield f"files that are transparent somewhere: {count:,}; they lie on {background} (images.background)"


def _listed(labels: Sequence[str]) -> str:
    more = f" and {len(labels) - SHOWN:,} more" if len(labels) > SHOWN else ""
    return ", ".join(f'"{printable(label)}"' for label in labels[:SHOWN]) + more
