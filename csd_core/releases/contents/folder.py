"""A release's folder, written whole: model, evidence, known queries and their checksums."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from csd_core.audit.checksums import CHECKSUMS, Checksums
from csd_core.live.reader import kinds_of
from csd_core.releases.candidate import Commit, Production, ReleaseCandidate
from csd_core.releases.contents import golden_queries
from csd_core.releases.contents.release import (
    EMBEDDER,
    INDEX,
    LINEAGE,
    RECORD,
    Release,
    ReleaseRecord,
    name_of,
    table_of,
    tag_of,
)
from csd_core.retrieval.embedder import Embedder
from csd_core.system import git
from csd_core.system.atomic import atomic_folder


def write_release(
    production: Production,
    release_candidate: ReleaseCandidate,
    number: int,
    *,
    before: Release | None,
    left_out: int,
    index: Path | None,
    by: str,
    why: str,
) -> Release:
    """Write a release of the rows at its tag; it is not active by that.

    Args:
        production: Where.
        release_candidate: What it is to be.
        number: Its number.
        before: The active release.
        left_out: Rows that could not be carried over from it.
        index: Folder of its table's index; None for none.
        by: Who asked for it.
        why: For the record.
    """
    live, embedder, rules = production.live, release_candidate.rules.embedder, release_candidate.rules.search
    table, tag = table_of(number, embedder.digest), tag_of(number)
    commit = release_candidate.commit or _checked_out(production.workspace.root)
    record = ReleaseRecord(
        number=number,
        kind=release_candidate.kind,
        model=embedder.digest,
        parent_model=release_candidate.parent_model,
        dimension=embedder.metadata.dimension,
        parent=before.number if before else None,
        rolled_back_to=release_candidate.rolled_back_to,
        task=release_candidate.task,
        after=release_candidate.after,
        strategy=release_candidate.strategy,
        commit=commit.sha,
        uncommitted=commit.uncommitted,
        table=table,
        tag=tag,
        rows=live.count(table, version=tag),
        gallery=live.digest(table, version=tag, whole=True),
        artefact=release_candidate.artefact,
        query_models=release_candidate.query_models,
        adapters=release_candidate.adapters,
        scoring=rules.scoring,
        left_out=left_out,
        audit=production.releases.audit.read().last,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        by=by,
        why=why,
    )
    target = production.releases.root / name_of(number, embedder.digest)
    with atomic_folder(target) as folder:
        shutil.copyfile(release_candidate.embedder, folder / EMBEDDER)
        for name, source in release_candidate.copies.items():
            (folder / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source, folder / name)
        if index:
            shutil.copytree(index, folder / INDEX)
        provenances = {provenance for provenance, _ in live.read(table, tag, kinds_of)}
        query_models = tuple(rules.dimensions)
        lineage = release_candidate.lineage.needed_by(provenances, query_models=query_models)
        lineage.save(folder / LINEAGE)
        known = golden_queries.chosen(live.rows(table, version=tag, columns=["id"])["id"])
        fetched = live.images_of(table, known, form=embedder.metadata.form, version=tag)
        (folder / golden_queries.FOLDER).mkdir()
        queries = {
            digest: (
                embedder
                if digest == embedder.digest
                else Embedder.load(lineage.models[digest], device="cpu", threads=1)
            )(fetched.images)
            for digest in query_models
        }
        expected = golden_queries.expect(
            live.batches(table, golden_queries.COLUMNS, version=tag), fetched.ids, queries, rules
        )
        golden_queries.save(folder / golden_queries.FOLDER, fetched.images, expected)
        record.save(folder / RECORD)
        Checksums.of(folder).save(folder / CHECKSUMS)
    return Release.load(target)


def _checked_out(root: Path) -> Commit:
    """Where the repository stands now."""
    head = git.answer(root, "rev-parse", "HEAD")
    uncommitted = head is not None and git.answer(root, "diff", "--quiet", "HEAD") is None
    return Commit(head, uncommitted=uncommitted)
