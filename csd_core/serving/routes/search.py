"""POST /v1/embed and /v1/search."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Depends, Request, Response
from fastapi.routing import APIRoute

from csd_core.retrieval.gallery import UNIT_TOLERANCE
from csd_core.serving.http.answers import EmbedAnswer, Hit, Message, SearchAnswer, named
from csd_core.serving.http.asks import PIXEL, EmbedAsk, SearchAsk, SearchParameters
from csd_core.serving.http.bodies import is_json, read_json
from csd_core.serving.http.problems import Problem, responses
from csd_core.serving.http.schema import body_of, parameters_of
from csd_core.serving.loaded_release import Ask, FoundRows, LoadedRelease, QueryVectors, Vector
from csd_core.serving.service import Service, service_of


class _DirectRoute(APIRoute):
    """A route whose endpoint reads the request itself.

    What FastAPI does before it calls an endpoint takes longer than a search in a small gallery.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the endpoint."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


router = APIRouter(prefix="/v1", tags=["search"], route_class=_DirectRoute)
Running = Annotated[Service, Depends(service_of)]


def answer(message: Message, served: LoadedRelease, *, status: int = 200) -> Response:
    """Return a message as JSON, with the release that it came from."""
    return Response(
        message.model_dump_json(),
        status,
        {"X-CSD-Release": str(served.release.number)},
        media_type="application/json",
    )


@router.post(
    "/embed",
    response_model=EmbedAnswer,
    responses=responses(400, 401, 408, 413, 415, 422, 429, 503),
    openapi_extra=body_of(EmbedAsk, example={"images": [PIXEL]}),
)
async def embed(request: Request) -> Response:
    """Embed images with the query models of the active release."""
    service = await service_of(request)
    files = (await read_json(request, EmbedAsk)).images if is_json(request) else [await request.body()]
    most = service.params.serve.max_batch
    if len(files) > most:
        raise Problem(
            422, "invalid-request", f"images: {len(files)} of them; at most {most} (serve.max_batch) a request"
        )
    async with service.current.lease() as served:
        found = await _vectors(service, files, served)
        own, *others = served.queries
        return answer(
            EmbedAnswer(
                release=served.release.number,
                model=served.model.digest,
                variant=served.model.variant,
                dimension=own.embed.metadata.dimension,
                vectors=[vectors[own.model].tolist() for vectors in found],
                others={each.served.digest: [vectors[each.model].tolist() for vectors in found] for each in others},
            ),
            served,
        )


async def _vectors(service: Service, files: list[bytes], served: LoadedRelease) -> list[QueryVectors]:
    """The vectors of each image; the first that is refused ends the work on all others."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.decoder.vectors(file, served)) for file in files]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


@router.post(
    "/search",
    response_model=SearchAnswer,
    responses=responses(400, 401, 404, 408, 409, 413, 415, 422, 429, 503),
    openapi_extra={
        "parameters": parameters_of(SearchParameters),
        **body_of(SearchAsk, example={"image": PIXEL, "k": 5, "filters": {"origin": ["pipeline"]}}),
    },
)
async def search(request: Request) -> Response:
    """The nearest items of the gallery. The query parameters belong to a raw image; JSON has them in its body."""
    service = await service_of(request)
    if is_json(request):
        ask = await read_json(request, SearchAsk)
    else:
        ask = SearchParameters.of(request.query_params).ask(await request.body())
    most = service.params.serve.max_k
    if ask.k > most:
        raise Problem(422, "invalid-request", f"k: {ask.k} is more than {most} (serve.max_k)")
    async with service.current.lease(ask.release) as served:
        vectors = await _query(service, served, ask)
        wanted = ask.k + (ask.item is not None)  # the item itself is left out
        found = await served.searching(Ask(vectors, wanted, ask.filters.filters()))
        return answer(_answer(served, found, ask), served)


async def _query(service: Service, served: LoadedRelease, ask: SearchAsk) -> QueryVectors:
    """The vectors of the query."""
    if ask.image is not None:
        return await service.decoder.vectors(ask.image, served)
    if ask.item is not None:
        return await _of_item(service, served, ask.item)
    given = dict(zip(ask.models or [ask.model or ""], ask.vectors or [ask.vector or []], strict=True))
    lacking = [each.served.digest[:12] for each in served.queries if each.served.digest not in given]
    if len(lacking) == len(served.queries):
        raise Problem(
            409,
            "wrong-model",
            f"the vector was made by model {min(given)[:12]!r}, but release {served.release.number} is searched "
            f"with {', '.join(lacking)}; embed the image again",
        )
    if lacking:
        raise Problem(
            409,
            "wrong-model",
            f"release {served.release.number} is searched with {len(served.queries)} models, and the vector by "
            f"{', '.join(lacking)} is missing; send `vectors` and `models` with that of each, as /v1/embed gives them",
        )
    return {
        each.model: _vector(given[each.served.digest], dimension=each.embed.metadata.dimension)
        for each in served.queries
    }


def _vector(given: list[float], *, dimension: int) -> Vector:
    """(D,) of one model, refused if it is none."""
    vector = np.array(given, np.float32)
    if len(vector) != dimension:
        raise Problem(422, "invalid-request", f"vector: {len(vector)} dimensions, the gallery has {dimension}")
    if not abs(float(vector @ vector) - 1) <= 2 * UNIT_TOLERANCE:
        raise Problem(422, "invalid-request", "vector: not of unit length; send it as /v1/embed gives it")
    return vector


async def _of_item(service: Service, served: LoadedRelease, identity: str) -> QueryVectors:
    """The vectors of an item's image by the query models; its stored vector may be an older model's."""
    form = served.form
    table = served.release.table
    found = await service.read(lambda: service.current.live.images_of(table, [identity], form=form))
    if not len(found.ids):
        reason = found.failed[identity]
        status = "no-such-item" if "is not in table" in reason else "no-image"
        raise Problem(404, status, f"item {identity!r} of release {served.release.number} has no image to search by")
    vectors: QueryVectors = await served.embedding(found.images[0])
    return vectors


def _answer(served: LoadedRelease, found: FoundRows, ask: SearchAsk) -> SearchAnswer:
    columns = [column[0].tolist() for column in found.hits]
    variants = {each.model: each.served.digest for each in served.queries}
    hits = [
        Hit(
            id=identity,
            label=label,
            task=task,
            score=score,
            cosine=cosine,
            found_by=variants[found_by],
            embedded_by=embedded_by,
            generation=served.generations.get(embedded_by),
            space=space,
            origin=origin,
            **named(source, path),
        )
        for identity, label, task, embedded_by, space, origin, source, path, score, cosine, found_by in zip(
            *columns, strict=True
        )
        if identity not in ("", ask.item)
    ]
    return SearchAnswer(
        release=served.release.number,
        model=served.model.digest,
        variant=served.model.variant,
        query_models=[each.served.digest for each in served.queries],
        rows=found.rows,
        exact=found.exact,
        hits=hits[: ask.k],
    )
