"""What an operator is told before a backfill starts and after it ended: rows that stay, and what the check expects."""

from collections.abc import Mapping

from csd_core.live.rows import Strings
from csd_core.records.check import CheckReport
from csd_core.releases.activate import LISTED
from csd_core.releases.contents.release import CHECK, Release
from csd_core.system.console import echo


def announce(release: Release, with_image: Strings, without_image: Mapping[str, str]) -> None:
    """Say how many rows can be re-embedded, which cannot, and what the check measured of a whole backfill.

    Args:
        release: The active release.
        with_image: (n,) ids of rows that other models made and that have an image or a reference to one.
        without_image: Id -> why the image of such a row is not there.
    """
    if without_image:
        rows = len(set(with_image.tolist()) | without_image.keys())
        echo(
            f"{len(without_image):,} of the {rows:,} rows that other models made have no image that can be read; "
            "they will stay as they are, with the models and adapters that they need"
        )
        name_rows(without_image)
    expected = expected_in_words(release)
    if len(with_image) and expected:
        echo(expected)


def name_rows(reasons: Mapping[str, str]) -> None:
    """Print the first rows by name, each with its reason."""
    for identity, reason in sorted(reasons.items())[:LISTED]:
        echo(f"  {identity}: {reason}")
    if len(reasons) > LISTED:
        echo(f"  and {len(reasons) - LISTED:,} more")


def expected_in_words(release: Release) -> str:
    """Return what the check measured of the release and of a whole backfill; empty where it did not measure both."""
    report = CheckReport.load(release.folder / CHECK)
    recalls: dict[str, float | None] = {
        each.strategy: each.measured.overall.recall_at_1
        for each in report.alternatives
        if each.measured and each.strategy != "partial"
    }
    now, then = recalls.get(release.record.strategy), recalls.get("backfill")
    if now is None or then is None or release.record.strategy == "backfill":
        return ""
    words = (
        f"the check of {report.task} measured Recall@1 {100 * now:.1f} % under {release.record.strategy} and "
        f"{100 * then:.1f} % after a backfill of every row, on gate queries over the pipeline's rows"
    )
    return f"{words}; `csd rollback` returns to the higher one" if then < now else words
