"""/v1/items, /v1/images and /v1/labels: what is in the gallery."""

from typing import Annotated, Any

import numpy as np
import pyarrow.compute as pc
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor

from csd_core.live.filters import Filters
from csd_core.live.images import encode_png
from csd_core.live.rows import LONGEST_ID
from csd_core.serving.http.bodies import is_json, read_json
from csd_core.serving.http.messages import (
    PIXEL,
    ItemAnswer,
    ItemName,
    ItemsAnswer,
    Label,
    LabelCount,
    LabelsAnswer,
    PutAnswer,
    PutAsk,
    Text,
)
from csd_core.serving.http.problems import Problem, responses
from csd_core.serving.http.schema import body_of
from csd_core.serving.loaded_release import LoadedRelease
from csd_core.serving.routes.search import Running, answer
from csd_core.serving.service import Service
from csd_core.serving.writes import Delete, Put


class _Name(PathConvertor):
    """The rest of the path, line breaks included: Starlette's own `path` would take "a" and a break for "a"."""

    regex = r"[\s\S]*"


register_url_convertor("name", _Name())
router = APIRouter(prefix="/v1", tags=["items"])
_COLUMNS = [
    "id",
    "label",
    "task",
    "split",
    "origin",
    "embedded_by",
    "space",
    "adapters",
    "written_at",
    "image",
    "image_ref",
]
Identity = Annotated[str, Path(min_length=1, max_length=LONGEST_ID, pattern=r"^[^\x00]+$", description="Of the item.")]


@router.get("/items", response_model=ItemsAnswer, responses=responses(401, 422, 429, 503))
async def some_items(
    service: Running,
    limit: Annotated[int, Query(ge=1, le=200)] = 24,
    label: Annotated[list[Text] | None, Query()] = None,
) -> Response:
    """Some items, spread evenly over the gallery."""
    where = Filters(label=None if label is None else tuple(label))
    async with service.current.lease() as served:
        ids, labels = await service.read(lambda: _texts(service, served, where))
        rows = np.linspace(0, len(ids) - 1, min(limit, len(ids))).round().astype(np.int64).tolist()
        return answer(
            ItemsAnswer(
                release=served.release.number, items=[ItemName(id=ids[row], label=labels[row]) for row in rows]
            ),
            served,
        )


@router.get("/labels", response_model=LabelsAnswer, responses=responses(401, 422, 429, 503))
async def labels(service: Running) -> Response:
    """The classes of the gallery and how many items each has."""
    async with service.current.lease() as served:
        _, found = await service.read(lambda: _texts(service, served, Filters()))
        names, counts = np.unique(np.array(found, np.str_), return_counts=True)
        pairs = zip(names.tolist(), counts.tolist(), strict=True)
        return answer(
            LabelsAnswer(
                release=served.release.number, labels=[LabelCount(label=name, items=count) for name, count in pairs]
            ),
            served,
        )


@router.get("/items/{item:name}", response_model=ItemAnswer, responses=responses(401, 404, 422, 429, 503))
async def item(item: Identity, service: Running) -> Response:
    """What is known of an item, as it is stored now."""
    async with service.current.lease() as served:
        row = await _row(service, served, item)
        has_image = row.pop("image") is not None
        reference = row.pop("image_ref")
        facts = row | {
            "adapters": [each for each in row["adapters"].split(",") if each],
            "generation": served.generations.get(row["embedded_by"]),
            "has_image": has_image or bool(reference),
        }
        return answer(ItemAnswer(**facts), served)


@router.get(
    "/images/{item:name}",
    response_class=Response,
    responses=responses(
        401,
        404,
        422,
        429,
        503,
        also={200: {"content": {"image/png": {}}, "description": "The image as the model sees it."}},
    ),
)
async def image(item: Identity, service: Running) -> Response:
    """The image of an item, in the form that the model sees."""
    async with service.current.lease() as served:
        form, table = served.form, served.release.table
        found = await service.read(lambda: service.current.live.images_of(table, [item], form=form))
        if not len(found.ids):
            raise Problem(404, "no-such-item", f"release {served.release.number} has no image of an item {item!r}")
        return Response(
            encode_png(found.images[0]),
            headers={"X-CSD-Release": str(served.release.number), "Cache-Control": "private, max-age=60"},
            media_type="image/png",
        )


@router.put(
    "/items/{item:name}",
    response_model=PutAnswer,
    status_code=200,
    responses=responses(
        *(400, 401, 403, 408, 413, 415, 422, 429, 503, 507),
        also={201: {"model": PutAnswer, "description": "Written; there was none of this id."}},
    ),
    openapi_extra=body_of(PutAsk, example={"label": "7", "image": PIXEL}),
)
async def put(
    request: Request,
    item: Identity,
    service: Running,
    label: Annotated[Label | None, Query(description="The class of a raw image; JSON carries its own.")] = None,
) -> Response:
    """Write an item, or replace the one of this id. It is durable when this answers, and found soon after."""
    if is_json(request):
        ask = await read_json(request, PutAsk)
        label, file = ask.label, ask.image
    else:
        file = await request.body()
    if label is None:
        raise Problem(422, "invalid-request", "label: name the class of the item (?label=...)")
    async with service.current.lease() as served:
        pixels = await service.decoder.image(file, served.form)
    written = await service.writes(Put(item, label, pixels))
    service.current.look_soon()
    served = written.served
    return answer(
        PutAnswer(
            id=item,
            label=label,
            release=served.release.number,
            model=served.writer.digest,
            replaced=written.existed,
        ),
        served,
        status=200 if written.existed else 201,
    )


@router.delete("/items/{item:name}", status_code=204, responses=responses(401, 403, 404, 422, 429, 503, 507))
async def delete(item: Identity, service: Running) -> Response:
    """Delete an item; no upgrade or rollback brings it back, and none brings an item that is not there yet (404)."""
    written = await service.writes(Delete(item))
    if not written.existed:
        raise Problem(404, "no-such-item", f"release {written.served.release.number} has no item {item!r}")
    service.current.look_soon()
    return Response(status_code=204, headers={"X-CSD-Release": str(written.served.release.number)})


async def _row(service: Service, served: LoadedRelease, identity: str) -> dict[str, Any]:
    live, table = service.current.live, served.release.table
    rows = await service.read(lambda: live.rows(table, ids=[identity], columns=_COLUMNS))
    if not rows.num_rows:
        raise Problem(404, "no-such-item", f"release {served.release.number} has no item {identity!r}")
    row: dict[str, Any] = rows.to_pylist()[0]
    return row


def _texts(service: Service, served: LoadedRelease, where: Filters) -> tuple[list[str], list[str]]:
    """Ids and labels of the rows that match, by id; from memory if they are there."""
    in_memory = served.snapshot.rows
    if in_memory is not None:
        mask = where.mask(in_memory.facts)
        facts = in_memory.texts(["id", "label"], None if mask is None else np.flatnonzero(mask))
    else:
        facts = service.current.live.rows(served.release.table, where=where, columns=["id", "label"])
        facts = facts.take(pc.sort_indices(facts, [("id", "ascending")]))
    return facts["id"].to_pylist(), facts["label"].to_pylist()
