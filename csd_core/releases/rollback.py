"""Rollback: an earlier release comes once more, with its model, its rows and what people wrote and deleted since."""

from csd_core.audit.log import whoami
from csd_core.live.migration import MigrationRules
from csd_core.releases.activate import OnStep, activate
from csd_core.releases.candidate import Base, Production, ReleaseCandidate
from csd_core.releases.contents.release import Release
from csd_core.releases.recovery import recover
from csd_core.releases.registry import register
from csd_core.releases.retention import retire
from csd_core.releases.verify import problems_of
from csd_core.retrieval.embedder import Embedder
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError, CompatibilityError
from csd_core.system.locks import WAIT


def rollback(
    production: Production,
    number: int | None = None,
    *,
    why: str,
    by: str | None = None,
    wait: float = WAIT,
    on_step: OnStep = lambda _: None,
) -> Release:
    """Activate an earlier release once more, under a new number, so that this can be undone too.

    Its rows are those at its tag. What people deleted since stays deleted; what they wrote since is re-embedded by
    the earlier model. Items that later tasks brought are not in it.

    Args:
        production: Where.
        number: Of the release; by default the one that was active before.
        why: For the audit log.
        by: Who asked for it; by default the user of this process.
        wait: Seconds to wait for another publish or rollback.
        on_step: Told each of `activate.STEPS` when it is done.

    Raises:
        ArtifactError: if there is no such release, it was retired or is damaged, or the new one proves unfit.
        CompatibilityError: if it is active.
        CsdError: if another process holds the lock.
    """
    who = by or whoami()
    with production.releases.changing(wait=wait):
        recover(production, by=who)
        release = activate(production, _heir(production, number), by=who, why=why, on_step=on_step)
        echo(register(production, release, by=who))
        retire(production, by=who)
    return release


def _heir(production: Production, number: int | None) -> ReleaseCandidate:
    """The earlier release as a release to be."""
    earlier = _chosen(production, number)
    record = earlier.record
    embedder = Embedder.load(
        earlier.embedder, device=production.params.runtime.device, threads=production.params.runtime.threads
    )
    return ReleaseCandidate.again(
        earlier,
        kind="rollback",
        rolled_back_to=earlier.number if record.rolled_back_to is None else record.rolled_back_to,
        strategy=record.strategy,
        base=Base.at(production.live, earlier, tag=earlier.tag),
        rules=MigrationRules(
            embedder=embedder,
            strategy=record.strategy,
            search=earlier.rules,
            stays=frozenset(),
            adapters={},
        ),
    )


def _chosen(production: Production, number: int | None) -> Release:
    """The release to return to, found fit."""
    releases = production.releases
    active = releases.active()
    if active is None:
        raise ArtifactError("nothing was published yet, so there is nothing to roll back; `csd publish` comes first")
    if number is None and active.record.parent is None:
        raise ArtifactError(f"release {active.name} is the first one: there is none before it to roll back to")
    earlier = releases.get(active.record.parent or 0 if number is None else number)
    if earlier.number == active.number:
        raise CompatibilityError(f"release {earlier.name} is active already; `csd releases` lists the others")
    if releases.is_retired(earlier):
        others = [each for each in releases.all() if each.number != active.number]
        kept = [str(each.number) for each in others if not releases.is_retired(each)]
        raise ArtifactError(
            f"release {earlier.name} was retired: its model and rows are gone; roll back to one of {', '.join(kept)}"
        )
    problems = list(problems_of(earlier, production.live, checksums=releases.audit.read().checksums_of(earlier.name)))
    if problems:
        raise ArtifactError(f"release {earlier.name} is damaged, so nothing was rolled back: {problems[0]}")
    return earlier
