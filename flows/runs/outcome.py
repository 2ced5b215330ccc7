"""How a retraining ends: a commit on its branch, a record, a report, and what production makes of it."""

import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from csd_core.params.production import Review
from csd_core.records.stages import Champion, SeenShards
from csd_core.records.verdict import Promoted, Rejected, VerdictFile, outcome_in_words
from csd_core.releases.store import Releases
from csd_core.retraining.history import Outcome, Retraining, retrainings
from csd_core.retraining.manifests import TakenBatch
from csd_core.retraining.origin import Origin, fetch_shared, share
from csd_core.retraining.start import Start
from csd_core.system.atomic import atomic_file
from csd_core.system.errors import BusyError, CompatibilityError, CsdError
from csd_core.system.git import answer
from csd_core.workspace import Workspace
from flows.forms import Retrain
from flows.publish import publish_tasks
from flows.runs.checkout import Checkout, remove_branch, remove_leftovers
from flows.runs.rejected_images import NOTHING_LIVE, Aside, aside_in_words

Verdicts = Mapping[str, Promoted | Rejected]
"""Of the tasks that a retraining brought, oldest first."""


def verdicts_of(workspace: Workspace, tasks: Sequence[str]) -> dict[str, Promoted | Rejected]:
    """Return the gate's verdicts on tasks that were judged."""
    return {task: VerdictFile.load(workspace.verdict(task)).verdict for task in tasks}


def in_words(verdicts: Verdicts) -> str:
    """Return what became of each task."""
    words = [
        f"{task} {outcome_in_words(verdict) if isinstance(verdict, Promoted) else 'rejected'}"
        for task, verdict in verdicts.items()
    ]
    return ", ".join(words) or "no new task"


def with_reasons(verdicts: Verdicts) -> str:
    """Return what became of each task, and why candidates were rejected."""
    why = [verdict.because for verdict in verdicts.values() if isinstance(verdict, Rejected)]
    return " ".join([f"{in_words(verdicts)}:", *why]) if why else f"{in_words(verdicts)}."


def record(
    project: Workspace,
    place: Checkout,
    name: str,
    *,
    start: Start,
    settings: Retrain,
    batches: Sequence[TakenBatch],
    verdicts: Verdicts,
    began: datetime,
) -> Retraining:
    """Commit what was made, on a branch of its own, and write down that it is there; nothing is published by that."""
    summary = in_words(verdicts)
    reasons = [f"- {reason}" for verdict in verdicts.values() for reason in verdict.reasons]
    taken = [f"- batch {each.name}: {each.images:,} images" for each in batches]
    release = start.release.name if start.release else "none"
    commit = place.commit(
        "\n".join([f"Retraining {name}: {summary}", "", *reasons, *taken, f"- release then: {release}"])
    )
    branch = f"retrain/{name}"
    place.give_branch(branch, commit)
    keep_report(project, place.workspace, name)
    retraining = Retraining(
        name=name,
        branch=branch,
        commit=commit,
        base=start.commit,
        release=start.release.name if start.release else None,
        tasks=tuple(verdicts),
        batches=tuple(batches),
        settings=settings.digest,
        outcome="unfinished",
        why=summary,
        flow_run=str(flow_run.get_id() or "") or None,
        publishes=settings.publish,
        on_reject=settings.on_reject,
        began=began.isoformat(timespec="seconds"),
        ended=_now(),
        deadline=None,
    )
    retraining.save_to(project)
    return retraining


def keep_report(project: Workspace, workspace: Workspace, name: str) -> None:
    """Keep the HTML page of a checkout where `csd ui` serves it."""
    if workspace.page.is_file():
        target = project.retraining(name).with_suffix(".html")
        with atomic_file(target) as partial:
            shutil.copyfile(workspace.page, partial)
        share(project, target)


def conclude(
    project: Workspace,
    workspace: Workspace,
    retraining: Retraining,
    verdicts: Verdicts,
    *,
    review: Review | None = None,
    aside: Aside = MappingProxyType({}),
) -> State[Any]:
    """Publish, if that is meant and there is something, and write down how it ended.

    Args:
        project: The project.
        workspace: The artefacts.
        retraining: As recorded.
        verdicts: Of its tasks.
        review: A person's decision, if there was one.
        aside: What the person set aside.

    Raises:
        CsdError: if it could not become active; the record says so.
    """
    summary = in_words(verdicts)
    rejected = [verdict for verdict in verdicts.values() if isinstance(verdict, Rejected)]
    if _stays(workspace, retraining, rejected, review):
        set_aside = f"; set aside: {aside_in_words(aside)}" if aside else ""
        end(project, retraining, "rejected", why=f"{summary}; nothing went live{set_aside}")
        listed = [] if review else ["This run's page lists what can be done."]
        message = " ".join(
            [f"{summary}:", *(each.because for each in rejected), f"Nothing went live{set_aside}.", *listed]
        )
        failed = retraining.on_reject == "stop" and review is None
        return (Failed if failed else Completed)(name="Rejected", message=message)
    if not retraining.publishes:
        end(project, retraining, "rejected" if len(rejected) == len(verdicts) > 0 else "kept", why=summary)
        return Completed(message=f"{summary}; recorded on {retraining.branch}")
    by = review.by if review else "retrain"
    why = f"{retraining.name}: {summary}" + (f"; {review.choice}: {review.reason}" if review else "")
    try:
        with Releases.of(project, project.params().live.releases).changing():
            refuse_outdated(project, retraining)
            _refuse_moved(project, retraining)
            made = publish_tasks(project, workspace, retraining.tasks, by=by, why=why)
    except CompatibilityError as error:
        end(project, retraining, "outdated", why=str(error))
        raise
    except BusyError:
        raise  # it stays open: a review can be decided again, and the next run makes the rest again
    except CsdError as error:
        end(project, retraining, "refused", why=str(error))
        raise
    active = f"active: {', '.join(made) or 'as before'}"
    if len(rejected) == len(verdicts) > 0:
        images = searchable_images(workspace, tuple(verdicts))
        live = f"{summary}; {images:,} new images are searchable under the champion; {active}"
        end(project, retraining, "images only", why=live)
        return Completed(name="ImagesOnly", message=live)
    end(project, retraining, "published", why=f"{summary}; {active}")
    return Completed(message=f"{summary}; {active}")


def searchable_images(workspace: Workspace, tasks: Sequence[str]) -> int:
    """Return how many images tasks bring into the gallery."""
    splits = workspace.params().gallery.splits
    shards = SeenShards.load(workspace.seen(tasks[-1])).shards
    return sum(each.counts.get(split, 0) for each in shards if each.task in tasks for split in splits)


def _stays(workspace: Workspace, retraining: Retraining, rejected: Sequence[Rejected], review: Review | None) -> bool:
    """Return whether a rejection keeps everything as it is in production."""
    if not rejected:
        return False
    if _has_no_champion(workspace, retraining):
        return True
    if review and review.choice != "approve":  # a person who promotes one task may still leave another rejected
        return review.choice in NOTHING_LIVE
    return retraining.on_reject == "stop"


def end(project: Workspace, retraining: Retraining, outcome: Outcome, *, why: str) -> None:
    """Write down how a retraining ended."""
    retraining.model_copy(update={"outcome": outcome, "why": why, "ended": _now()}).save_to(project)


def refuse_outdated(project: Workspace, retraining: Retraining) -> None:
    """Refuse if what is active came from elsewhere than what was active when the retraining began.

    Raises:
        CompatibilityError: then its gallery lacks what came meanwhile.
    """
    releases = Releases.of(project, project.params().live.releases)
    now, then = releases.active(), retraining.release
    began = next((each for each in releases.all() if each.name == then), None)
    same = now is began if now is None or began is None else now.record.commit == began.record.commit
    if not same or (then is not None and began is None):
        raise CompatibilityError(
            f"{retraining.name} began at release {then or 'none'}, and {now.name if now else 'none'} is "
            "active: its gallery would lack what came since. Its batches wait in the inbox again"
        )


def _refuse_moved(project: Workspace, retraining: Retraining) -> None:
    """Refuse if the retraining's branch is elsewhere than where its run left it.

    Raises:
        CsdError: then the release's commit might be on no branch, and later retrainings start at that commit.
    """
    fetch_shared(project)
    branch, commit = retraining.branch, retraining.commit
    now = answer(project.root, "rev-parse", "--verify", "--quiet", f"refs/heads/{branch}")
    if now != commit:
        raise CsdError(
            f"branch {branch} is {f'at {now[:12]}' if now else 'gone'}, not at {commit[:12]} where its run left it: "
            f"somebody moved it. Move it back (git branch --force {branch} {commit[:12]}) and retrain again"
        )


def what_is_active(project: Workspace, retraining: Retraining) -> Outcome | None:
    """Return how it ended if a release of its own is active, for its run died after publishing it; else None."""
    releases = Releases.of(project, project.params().live.releases)
    now = releases.active()
    if now is None or now.record.commit != retraining.commit or retraining.commit == retraining.base:
        return None
    own = [each.record.kind for each in releases.all() if each.record.commit == retraining.commit]
    return "images only" if set(own) == {"refresh"} else "published"


def recover(project: Workspace) -> None:
    """End what killed runs left open, before a new one starts.

    What was published is written down as that. A run that died before anything came of it leaves neither branch nor
    record: its stages are in the cache, and the next run makes them again in seconds. A review that another release
    has outdated ends, so that its batches wait again.
    """
    remove_leftovers(project)
    for each in retrainings(project):
        if each.outcome not in ("unfinished", "in review") or _works_elsewhere(project, each):
            continue
        outcome = what_is_active(project, each)
        if outcome:
            end(project, each, outcome, why=each.why)
        elif each.outcome == "unfinished":
            remove_branch(project.root, each.branch, each.commit)
            left = project.retraining(each.name), project.retraining(each.name).with_suffix(".html")
            for file in left:
                file.unlink(missing_ok=True)
            share(project, *left)
        else:
            try:
                refuse_outdated(project, each)
            except CompatibilityError as error:
                end(project, each, "outdated", why=str(error))


def _works_elsewhere(project: Workspace, retraining: Retraining) -> bool:
    """Return whether its flow run is at work on another machine; on this one the lock of retrainings keeps it out."""
    if retraining.outcome != "unfinished" or not retraining.flow_run or Origin.of(project) is None:
        return False
    with get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(UUID(retraining.flow_run)).state
        except ObjectNotFound:
            return False
    return state is not None and not state.is_final()


def _has_no_champion(workspace: Workspace, retraining: Retraining) -> bool:
    last = workspace.champion_embedder(retraining.tasks[-1]) / "champion.json"
    return not last.is_file() or Champion.load(last).digest is None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
