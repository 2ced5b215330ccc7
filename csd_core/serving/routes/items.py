"""/v1/items, /v1/images, /v1/thumbnails and /v1/labels: what is in the gallery."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.convertors import PathConvertor, register_url_convertor

from csd_core.data.thumbnails import MEDIA_TYPE
from csd_core.live.filters import Filters
from csd_core.live.images import encode_png, picture
from csd_core.live.rows import IMAGES, texts_of
from csd_core.live.text import LONGEST_ID
from csd_core.serving.http.answers import (
    ItemAnswer,
    ItemName,
    ItemsAnswer,
    LabelCount,
    LabelsAnswer,
    PutAnswer,
    named,
)
from csd_core.serving.http.asks import PIXEL, ItemNameText, Label, PutAsk, Text
from csd_core.serving.http.bodies import is_json, read_json
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
    "source",
    "path",
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
        facts = await service.read(lambda: _texts(service, served, where, ("id", "label", "source", "path")))
        rows = np.linspace(0, facts.num_rows - 1, min(limit, facts.num_rows)).round().astype(np.int64)
        items = [
            ItemName(id=row["id"], label=row["label"], **named(row["source"], row["path"]))
            for row in facts.take(rows).to_pylist()
        ]
        return answer(ItemsAnswer(release=served.release.number, items=items), served)


@router.get("/labels", response_model=LabelsAnswer, responses=responses(401, 422, 429, 503))
async def labels(service: Running) -> Response:
    """The classes of the gallery and how many items each has."""
    async with service.current.lease() as served:
        found = await service.read(lambda: _texts(service, served, Filters(), ("id", "label")))
        names, counts = np.unique(texts_of(found, "label"), return_counts=True)
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
            **named(row["source"], row["path"]),
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
async def image(request: Request, item: Identity, service: Running) -> Response:
    """The image of an item, in the form that the model sees."""
    async with service.current.lease() as served:
        form, table = served.form, served.release.table
        found = await service.read(lambda: service.current.live.images_of(table, [item], form=form))
        if not len(found.ids):
            raise Problem(404, "no-such-item", f"release {served.release.number} has no image of an item {item!r}")
        return _picture(request, encode_png(found.images[0]), "image/png", served)


@router.get(
    "/thumbnails/{item:name}",
    response_class=Response,
    responses=responses(
        *(401, 404, 422, 429, 503),
        also={200: {"content": {MEDIA_TYPE: {}, "image/png": {}}, "description": "JPEG of the original, or PNG."}},
    ),
)
async def thumbnail(request: Request, item: Identity, service: Running) -> Response:
    """A small picture of an item's original, for people to look at; of an original that is not known, its image."""
    async with service.current.lease() as served:
        live, size, table = service.current.live, service.params.live.thumbnails, served.release.table

        def read() -> bytes | None:
            rows = live.rows(table, ids=[item], columns=["id", *IMAGES]).to_pylist()
            return picture(rows[0], form=served.form, size=size, root=live.root) if rows else None

        found = await service.read(read)
        if found is not None:
            return _picture(request, found, MEDIA_TYPE, served)
    return await image(request, item, service)


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
    name: Annotated[ItemNameText | None, Query(description="What people know a raw image by.")] = None,
) -> Response:
    """Write an item, or replace the one of this id. It is durable when this answers, and found soon after."""
    if is_json(request):
        ask = await read_json(request, PutAsk)
        label, file, name = ask.label, ask.image, ask.name
    else:
        file = await request.body()
    if label is None:
        raise Problem(422, "invalid-request", "label: name the class of the item (?label=...)")
    async with service.current.lease() as served:
        pixels = await service.decoder.image(file, served.form)
        small = await service.decoder.thumbnail(file, served.form, service.params.live.thumbnails)
    written = await service.writes(Put(item, label, pixels, name, small))
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


def _picture(request: Request, content: bytes, media_type: str, served: LoadedRelease) -> Response:
    """A picture, or that the client has it."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {"X-CSD-Release": str(served.release.number), "Cache-Control": "private, max-age=60", "ETag": tag}
    if request.headers.get("If-None-Match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, headers=headers, media_type=media_type)


def _texts(
    service: Service, served: LoadedRelease, where: Filters, columns: Sequence[str]
) -> pa.RecordBatch | pa.Table:
    """Columns of the rows that match, by id; from memory if they are there."""
    in_memory = served.snapshot.rows
    if in_memory is not None:
        mask = where.mask(in_memory.facts)
        return in_memory.texts(columns, None if mask is None else np.flatnonzero(mask))
    facts = service.current.live.rows(served.release.table, where=where, columns=columns)
    return facts.take(pc.sort_indices(facts, [("id", "ascending")]))
