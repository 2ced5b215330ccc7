"""A release's folder, written whole: model, evidence, known queries and their checksums."""

import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from csd_core.atomic import atomic_folder
from csd_core.production import known
from csd_core.production.checksums import CHECKSUMS, Checksums
from csd_core.production.release import (
    EMBEDDER,
    LINEAGE,
    RECORD,
    Release,
    ReleaseRecord,
    name_of,
    table_of,
    tag_of,
)
from csd_core.production.succession import Commit, Production, Succession


def write_release(
    production: Production,
    heir: Succession,
    number: int,
    *,
    before: Release | None,
    left_out: int,
    by: str,
    why: str,
) -> Release:
    """Write a release of the rows at its tag; it is not in force by that.

    Args:
        production: Where.
        heir: What it is to be.
        number: Its number.
        before: The release in force.
        left_out: Rows that could not be carried over from it.
        by: Who asked for it.
        why: For the record.
    """
    live, embedder = production.live, heir.treatment.embedder
    table, tag = table_of(number, embedder.digest), tag_of(number)
    rows = live.gallery(
        table, version=tag, query_model=embedder.digest, searchable_spaces=heir.treatment.searchable_spaces
    )
    commit = heir.commit or _checked_out(production.files.root)
    record = ReleaseRecord(
        number=number,
        kind=heir.kind,
        model=embedder.digest,
        parent_model=heir.parent_model,
        dimension=embedder.metadata.dimension,
        parent=before.number if before else None,
        rolled_back_to=heir.rolled_back_to,
        task=heir.task,
        after=heir.after,
        strategy=heir.strategy,
        commit=commit.sha,
        uncommitted=commit.uncommitted,
        table=table,
        tag=tag,
        rows=len(rows),
        gallery=live.digest(table, version=tag, whole=True),
        artefact=heir.artefact,
        query_models=heir.query_models,
        adapters=heir.adapters,
        left_out=left_out,
        audit=production.releases.audit.read().last,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
        why=why,
    )
    target = production.releases.root / name_of(number, embedder.digest)
    with atomic_folder(target) as folder:
        shutil.copyfile(heir.embedder, folder / EMBEDDER)
        for name, source in heir.copies.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, folder / name)
        heir.lineage.needed_by(rows.groups(), champion=embedder.digest).save(folder / LINEAGE)
        fetched = live.images_of(table, known.chosen(rows.ids), form=embedder.metadata.form, version=tag)
        (folder / known.FOLDER).mkdir()
        known.save(folder / known.FOLDER, fetched.images, known.expect(rows, fetched.ids, embedder(fetched.images)))
        record.save(folder / RECORD)
        Checksums.of(folder).save(folder / CHECKSUMS)
    return Release.load(target)


def _checked_out(root: Path) -> Commit:
    """Where the repository stands now."""
    git = ["git", "-C", str(root)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=False, capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], check=False, capture_output=True)
    except FileNotFoundError:
        return Commit(None, uncommitted=False)
    if head.returncode:
        return Commit(None, uncommitted=False)
    return Commit(head.stdout.strip(), uncommitted=bool(changed.returncode))
