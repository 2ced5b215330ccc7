"""/v1/releases, /healthz, /readyz and /metrics: what is served and how well."""

import asyncio
import time
from typing import Annotated, Any

from fastapi import APIRouter, Path, Response

from csd_core.records.verdict import VerdictFile
from csd_core.releases.contents.release import VERDICT, Release, number_of
from csd_core.serving.http.answers import (
    AliveAnswer,
    ReadyAnswer,
    RefusedAnswer,
    ReleaseAnswer,
    ReleasesAnswer,
    ReleaseWithVerdict,
    VerdictAnswer,
)
from csd_core.serving.http.problems import Problem, responses
from csd_core.serving.routes.search import Running
from csd_core.serving.service import Service

router = APIRouter()
Number = Annotated[int, Path(ge=0, lt=1 << 31, description="Of the release.")]


@router.get("/v1/releases", tags=["releases"], responses=responses(401, 422, 429, 503))
async def releases(service: Running) -> ReleasesAnswer:
    """The releases of the project, newest first, and which is served."""
    current = service.current

    def read() -> tuple[str | None, list[ReleaseAnswer]]:
        retired = set(current.releases.audit.read().retired)
        return current.releases.pointer(), [
            ReleaseAnswer(**_facts(each, retired=each.name in retired)) for each in reversed(current.releases.all())
        ]

    pointer, found = await service.read(read)
    return ReleasesAnswer(
        active=None if pointer is None else number_of(pointer),
        served=current.served.release.number if current.is_ready else None,
        releases=found,
    )


@router.get("/v1/releases/{number}", tags=["releases"], responses=responses(401, 404, 422, 429, 503))
async def release(number: Number, service: Running) -> ReleaseWithVerdict:
    """A release, and what the gate decided about its model."""

    def read() -> ReleaseWithVerdict | None:
        there = {each.number: each for each in service.current.releases.all()}
        if number not in there:
            return None
        found = there[number]
        verdict = VerdictFile.load(found.folder / VERDICT).verdict
        return ReleaseWithVerdict(
            **_facts(found, retired=service.current.releases.is_retired(found)),
            verdict=VerdictAnswer(
                outcome=verdict.outcome,
                strategy=getattr(verdict, "strategy", None),
                reasons=list(verdict.reasons),
            ),
        )

    found = await service.read(read)
    if found is None:
        raise Problem(404, "no-such-release", f"there is no release {number}; /v1/releases lists them")
    return found


@router.get("/healthz", tags=["operation"], responses=responses(422))
async def alive() -> AliveAnswer:
    """The process answers."""
    return AliveAnswer(status="alive")


@router.get("/readyz", tags=["operation"], responses=responses(422, 503))
async def ready(service: Running) -> ReadyAnswer:
    """Say whether queries are answered, from which release, and whether the active one was refused."""
    return _ready(service)


@router.get(
    "/metrics",
    tags=["operation"],
    response_class=Response,
    responses=responses(401, 422, also={200: {"content": {"text/plain": {}}, "description": "For Prometheus."}}),
)
async def metrics(service: Running) -> Response:
    """Figures of all processes, for Prometheus."""
    content, media_type = await asyncio.to_thread(service.metrics.render)  # also while the readers wait for a store
    return Response(content, headers={"Content-Type": media_type})


def _ready(service: Service) -> ReadyAnswer:
    served, refused, trouble = service.current.served, service.current.refused, service.current.trouble
    reason = trouble.reason if trouble and trouble.is_lost else service.keys.trouble if service.keys else ""
    if reason:
        raise Problem(503, "not-ready", reason, headers={"Retry-After": "10"})
    active = service.current.active or served.release.name
    return ReadyAnswer(
        status="degraded" if refused or trouble or active != served.release.name else "ready",
        release=served.release.number,
        active=number_of(active),
        seconds_since_look=round(time.monotonic() - service.current.looked_at, 1),
        model=served.model.digest,
        variant=served.model.variant,
        query_models=[each.served.digest for each in served.queries],
        rows=served.snapshot.count,
        refused=RefusedAnswer(release=refused.release, reason=refused.reason) if refused else None,
        trouble=trouble.reason if trouble else None,
    )


def _facts(release: Release, *, retired: bool) -> dict[str, Any]:
    record = release.record
    names = ("number", "kind", "task", "strategy", "model", "rows", "created", "by", "why")
    query_models = [record.model, *release.older_models]
    return {name: getattr(record, name) for name in names} | {"retired": retired, "query_models": query_models}
