"""The active release once more, with an index over all its rows: those that people wrote since are in it then."""

from csd_core.audit.log import whoami
from csd_core.live.migration import MigrationRules
from csd_core.releases.activate import OnStep, activate
from csd_core.releases.candidate import Base, Production, ReleaseCandidate
from csd_core.releases.contents.release import Release
from csd_core.releases.recovery import recover
from csd_core.releases.registry import register
from csd_core.releases.retention import retire
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Provenance
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import WAIT


def reindex(
    production: Production,
    *,
    why: str,
    by: str | None = None,
    wait: float = WAIT,
    on_step: OnStep = lambda _: None,
) -> Release:
    """Publish the active release again as it is; a gallery of more than `live.exact_rows` rows gets an index.

    Args:
        production: Where.
        why: For the audit log.
        by: Who asked for it; by default the user of this process.
        wait: Seconds to wait for another publish or rollback.
        on_step: Told each of `activate.STEPS` when it is done.

    Raises:
        ArtifactError: if no release is active, or the new one proves unfit.
        CsdError: if another process holds the lock.
    """
    who = by or whoami()
    with production.releases.changing(wait=wait):
        recover(production, by=who)
        active = production.releases.active()
        if active is None:
            raise ArtifactError("no release is active, so there is nothing to index; run `csd publish`")
        runtime = production.params.runtime
        embedder = Embedder.load(active.embedder, device=runtime.device, threads=runtime.threads)
        release = activate(production, same_rows(production, active, embedder), by=who, why=why, on_step=on_step)
        echo(register(production, release, by=who))
        retire(production, by=who)
    return release


def same_rows(production: Production, release: Release, embedder: Embedder) -> ReleaseCandidate:
    """A release of the same model and rows; what people wrote since stays as it is too.

    Args:
        production: Where.
        release: The active one.
        embedder: Its model.
    """
    rules = release.rules
    return ReleaseCandidate.again(
        release,
        kind="refresh",
        rolled_back_to=None,
        strategy=release.record.strategy,
        base=Base.at(production.live, release, tag=release.tag),
        rules=MigrationRules(
            embedder=embedder,
            strategy=release.record.strategy,
            search=rules,
            stays=frozenset(rules.searchable_spaces),
            kept=frozenset(Provenance(each.embedded_by, each.adapters) for each in rules.scoring),
            adapters={},
        ),
    )
