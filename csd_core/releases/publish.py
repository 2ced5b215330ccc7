"""Publish: the champion after a task, with its gallery, becomes active."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from csd_core.audit.log import whoami
from csd_core.data.shards import load_shard
from csd_core.live.migration import NO_IDS, MigrationRules
from csd_core.live.rules import SearchRules
from csd_core.params.upgrade import Strategy
from csd_core.records.stages import Champion, SeenShards
from csd_core.records.verdict import Ledger, LedgerEntry, Promoted, VerdictFile
from csd_core.releases.activate import OnStep, activate
from csd_core.releases.candidate import Base, Production, ReleaseCandidate
from csd_core.releases.contents.release import (
    ADAPTERS,
    CHECK,
    EMBEDDER,
    INT8,
    LINEAGE,
    PARAMS,
    VERDICT,
    Release,
)
from csd_core.releases.pool_images import PoolImages
from csd_core.releases.query_models import files_of, older_models, own_models, variants_of
from csd_core.releases.recovery import recover
from csd_core.releases.registry import is_registered, register
from csd_core.releases.reindex import same_rows
from csd_core.releases.retention import forget_deletions, retire
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.gallery_file import GalleryFile
from csd_core.retrieval.lineage import Lineage
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, CompatibilityError
from csd_core.system.locks import WAIT
from csd_core.upgrade.mapping import adapters as adapter_files
from csd_core.upgrade.mapping.adapters import CandidateAdapters


def publish(
    production: Production,
    *,
    task: str | None = None,
    why: str = "",
    by: str | None = None,
    wait: float = WAIT,
    on_step: OnStep = lambda _: None,
) -> Release | None:
    """Activate the champion after a task, with the gallery as it is then and what people wrote since.

    Args:
        production: Where.
        task: After which; by default that of the report, the last one.
        why: For the audit log.
        by: Who asked for it; by default the user of this process.
        wait: Seconds to wait for another publish or rollback.
        on_step: Told each of `activate.STEPS` when it is done.

    Returns:
        The release; None if it is active already.

    Raises:
        ArtifactError: if an artefact is missing, stale or damaged, or the new release proves unfit.
        CompatibilityError: if the champion was not trained from the active model.
        CsdError: if another process holds the lock.
    """
    who = by or whoami()
    with production.releases.changing(wait=wait):
        recover(production, by=who)
        before = production.releases.active()
        release_candidate = _heir(production, task or production.params.report.after, before)
        if release_candidate is None:
            if before and not is_registered(production, before):
                echo(register(production, before, by=who))
            return None
        release = activate(production, release_candidate, by=who, why=why, on_step=on_step)
        echo(register(production, release, by=who))
        retire(production, by=who)
        forget_deletions(production, after=release.record.after)
    return release


def _heir(production: Production, task: str, before: Release | None) -> ReleaseCandidate | None:
    """The champion after a task as a release to be; None if it is active already."""
    workspace = production.workspace
    champion = Champion.load(workspace.champion_embedder(task) / "champion.json")
    if champion.digest is None or champion.task is None:
        raise ArtifactError(
            f"task {task}: there is no champion after it, for no candidate was promoted; nothing to publish"
        )
    entries = Ledger.load(workspace.ledger(task)).entries
    gallery = GalleryFile.load(workspace.gallery(task))
    digest = gallery.digest
    embedder = Embedder.load(
        workspace.champion_embedder(task) / EMBEDDER,
        device=production.params.runtime.device,
        threads=production.params.runtime.threads,
    )
    _refuse_mixture(task, champion.digest, embedder, entries, gallery=(digest, gallery.record.query_model))
    same_model = before is not None and before.record.model == champion.digest
    if before and same_model and before.record.artefact == digest:
        return _with_other_variant(production, before, workspace.champion_embedder(task), embedder)
    if before and not same_model and champion.parent != before.record.model:
        raise CompatibilityError(_what_first(task, champion.digest, before, entries))
    verdict = VerdictFile.load(workspace.verdict(champion.task)).verdict
    if not isinstance(verdict, Promoted) or verdict.candidate != champion.digest:
        raise ArtifactError(
            f"{workspace.verdict(champion.task)}: does not promote the champion; run `csd run` and try again"
        )
    rules = SearchRules.of(
        gallery.kinds(),
        model=champion.digest,
        dimension=embedder.metadata.dimension,
        spaces=gallery.record.searchable_spaces,
        scoring=gallery.record.scoring,
    )
    query_models = own_models(workspace.champion_embedder(task), embedder, rules.spaces[champion.digest])
    adapters = CandidateAdapters.load(workspace.candidate_adapters(champion.task))
    copies = {
        VERDICT: workspace.verdict(champion.task),
        CHECK: workspace.check(champion.task),
        PARAMS: workspace.root / PARAMS,
        **files_of(workspace.champion_embedder(task), query_models),
        f"{ADAPTERS}/{adapter_files.RECORD}": workspace.candidate_adapters(champion.task) / adapter_files.RECORD,
    }
    lineage = Lineage.load(workspace.lineage(task)).extended(adapters=adapters.paths())
    if before:
        previous = Lineage.load(before.folder / LINEAGE)
        lineage = Lineage(
            models={**previous.models, **lineage.models}, adapters={**previous.adapters, **lineage.adapters}
        )
    older, variants = older_models(rules, embedder, lineage, variants_of(rules, workspace, entries, before))
    images = PoolImages(
        (load_shard(workspace.shard(name)) for name in SeenShards.load(workspace.seen(task)).tasks),
        kept=production.params.live.images,
        thumbnails=bool(production.params.live.thumbnails),
        workspace=workspace,
    )
    return ReleaseCandidate(
        kind="refresh" if same_model else "publish",
        parent_model=champion.parent,
        rolled_back_to=None,
        task=champion.task,
        after=task,
        strategy=verdict.strategy,
        artefact=digest,
        query_models=(*query_models, *older),
        adapters=tuple(fit.chosen for fit in adapters.record.fits),
        embedder=workspace.champion_embedder(task) / EMBEDDER,
        copies=copies | variants | {f"{ADAPTERS}/{path.name}": path for path in adapters.paths()},
        lineage=lineage,
        base=Base.of(gallery, images=images),
        rules=_migration(gallery, embedder, verdict.strategy, rules, adapters, same_model=same_model),
    )


def _migration(
    gallery: GalleryFile,
    embedder: Embedder,
    strategy: Strategy,
    search: SearchRules,
    adapters: CandidateAdapters,
    *,
    same_model: bool,
) -> MigrationRules:
    """What becomes of rows that people wrote.

    Where groups have scores, only a row of a provenance that has one stays or is mapped: the others are re-embedded.
    """
    scored = {Provenance(each.embedded_by, each.adapters) for each in search.scoring}
    chosen = adapters.chosen if not same_model and strategy in ("adapt", "merge") else {}
    stays = same_model or strategy in ("keep", "merge")
    return MigrationRules(
        embedder=embedder,
        strategy=strategy,
        search=search,
        stays=frozenset(gallery.record.searchable_spaces if stays and not scored else ()),
        kept=frozenset(scored if stays else ()),
        adapters={
            provenance: adapter
            for provenance, adapter in chosen.items()
            if not scored or provenance.mapped_by(adapter.digest) in scored
        },
        re_embed=NO_IDS if same_model else gallery.columns["id"],
    )


def _with_other_variant(
    production: Production, release: Release, folder: Path, embedder: Embedder
) -> ReleaseCandidate | None:
    """The active release with the int8 variant that was made or given up since; None if it has the same.

    Its rows come once more as they are, for a backfill may have completed them.
    """
    rules = release.rules
    query_models = own_models(folder, embedder, rules.spaces[release.record.model])
    older = tuple(each for each in release.record.query_models if each.older)
    if {each.digest for each in query_models} == {
        each.digest for each in release.record.query_models if not each.older
    }:
        return None
    again = same_rows(production, release, embedder)
    copies = {name: path for name, path in again.copies.items() if name != INT8}
    copies |= {PARAMS: production.workspace.root / PARAMS, **files_of(folder, query_models)}
    return replace(again, query_models=(*query_models, *older), copies=copies, commit=None)


def _refuse_mixture(
    task: str,
    champion: str,
    embedder: Embedder,
    entries: Sequence[LedgerEntry],
    *,
    gallery: tuple[str, str | None],
) -> None:
    """Refuse artefacts that do not belong together, such as those of a run that did not finish.

    Args:
        task: After which they are.
        champion: Digest of the model.
        embedder: Its file.
        entries: The ledger's.
        gallery: Its digest, and that of the model whose queries search it.
    """
    last = entries[-1]
    problem = None
    if embedder.digest != champion:
        problem = f"{EMBEDDER} is model {embedder.digest[:12]}, the champion is {champion[:12]}"
    elif (last.task, last.champion) != (task, champion):
        problem = f"the ledger ends with task {last.task} and model {str(last.champion)[:12]}"
    elif gallery != (last.gallery, champion):
        problem = "the gallery is another than the ledger's"
    if problem:
        raise ArtifactError(f"artifacts/{task}: {problem}; run `csd run`, then publish again")


def _what_first(task: str, champion: str, before: Release, entries: Sequence[LedgerEntry]) -> str:
    """Why a champion cannot follow the active release, and what can be done."""
    active = f"release {before.name} is active, and the champion after task {task} ({champion[:12]}) "
    followers = [
        entry.task
        for previous, entry in pairwise(entries)
        if previous.champion == before.record.model and entry.champion != before.record.model
    ]
    if followers:
        return (
            f"{active}was not trained from its model: publish the one between first (csd publish --task "
            f"{followers[-1]})"
        )
    return (
        f"{active}does not descend from its model {before.record.model[:12]}; `csd rollback N` returns to an earlier "
        "release, `csd releases` lists them"
    )
