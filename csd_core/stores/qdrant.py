"""A collection of Qdrant behind an alias: a second collection beside the first; the alias switches in one step.

ALIAS_csd_KEY      collection of the second vectors
ALIAS_before_KEY   alias of the collection before the upgrade, while it is active
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from csd_core.stores.protocol import BATCH_ROWS, Held, Rows, Strings, library, stacked
from csd_core.system.errors import ArtifactError, BusyError, message_of

SCROLL_ROWS = 1024
"""Points that are asked for, and sent, at a time; a request has a limit of bytes."""


class QdrantCollection:
    """Points of the collection that an alias leads to.

    Attributes:
        name: For messages.
        alias: What services search; a collection of that name cannot be switched.
        vector: Name of the vector; empty for the unnamed one.
    """

    def __init__(self, where: Mapping[str, str], *, name: str, collection: str, vector: str) -> None:
        client: Any = library("qdrant_client", extra="qdrant")
        self._models, self.name, self.alias, self.vector = client.models, name, collection, vector
        self._local = "path" in where
        if self._local and not Path(where["path"]).is_dir():
            raise ArtifactError(f"{name}: there is no such folder")  # the client would make it
        try:
            self._client = client.QdrantClient(
                **where,
                api_key=None if self._local else os.environ.get("QDRANT_API_KEY"),
                check_compatibility=False,  # a server that does not answer is an error below, not a warning
            )
        except RuntimeError:
            raise BusyError(
                f"{name}: another process has this folder open; end it, or run Qdrant as a server"
            ) from None
        with self._told(), ExitStack() as opened:
            opened.callback(self._client.close)
            if not self._client.collection_exists(collection):
                raise ArtifactError(f"{name}: has neither an alias nor a collection {collection}")
            self._parameters(collection)
            opened.pop_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A folder has one process; a server has no lock, and there a second apply writes the same points."""
        yield

    def count(self) -> int:
        """Return the number of points."""
        with self._told():
            return int(self._client.count(self.alias, exact=True).count)

    def rows(self) -> Iterator[Rows]:
        """Yield the points that have the vector."""
        return self._scan(self.alias)

    def held(self) -> Held | None:
        """Return the upgrade whose collection is there, or whose predecessor is."""
        mark, aliases = f"{self.alias}_csd_", self._aliases()
        with self._told():
            names = sorted(each.name for each in self._client.get_collections().collections)
        for key in (name.removeprefix(mark) for name in names if name.startswith(mark)):
            active = aliases.get(self.alias) == f"{mark}{key}"
            if not active or _before(self.alias, key) in aliases:
                return Held(key, active)
        return None

    def begin(self, key: str, dimension: int) -> None:
        """Make a collection like the first, with vectors of another size."""
        if self.alias not in self._aliases():
            raise ArtifactError(
                f"{self.name}: {self.alias} is a collection; make an alias for it and let services use that, for only "
                "an alias can be switched while they search"
            )
        if self._client.collection_exists(_second(self.alias, key)):
            return
        with self._told():
            info = self._client.get_collection(self.alias)
            vectors, mine = info.config.params.vectors, self._parameters(self.alias)
            resized = mine.model_copy(update={"size": dimension})
            self._client.create_collection(
                _second(self.alias, key),
                vectors_config={**vectors, self.vector: resized} if self.vector else resized,
                sparse_vectors_config=info.config.params.sparse_vectors,
                on_disk_payload=info.config.params.on_disk_payload,
                hnsw_config=self._models.HnswConfigDiff(**info.config.hnsw_config.model_dump(exclude_none=True)),
                quantization_config=info.config.quantization_config,
            )
            for field, index in {} if self._local else info.payload_schema.items():
                self._client.create_payload_index(_second(self.alias, key), field, index.params or index.data_type)

    def write(self, key: str, rows: Rows) -> None:
        """Upsert points with their payload and other vectors; Qdrant normalises vectors that are compared by cosine."""
        for start in range(0, len(rows.ids), SCROLL_ROWS):
            ids = [_identity(each) for each in rows.ids[start : start + SCROLL_ROWS].tolist()]
            fresh = dict(zip(ids, rows.vectors[start : start + SCROLL_ROWS].tolist(), strict=True))
            with self._told():
                found = self._client.retrieve(self.alias, ids, with_payload=True, with_vectors=bool(self.vector))
                points = [
                    self._models.PointStruct(
                        id=each.id,
                        payload=each.payload,
                        vector={**each.vector, self.vector: fresh[each.id]} if self.vector else fresh[each.id],
                    )
                    for each in found
                ]
                if points:
                    self._client.upsert(_second(self.alias, key), points, wait=True)

    def beside(self, key: str) -> Iterator[Rows]:
        """Yield the points of the second collection."""
        return self._scan(_second(self.alias, key))

    def discard(self, key: str, ids: Strings) -> None:
        """Delete the points from the second collection."""
        with self._told():
            self._client.delete(_second(self.alias, key), [_identity(each) for each in ids.tolist()], wait=True)

    def switch(self, key: str) -> None:
        """Delete what was deleted meanwhile, then move the alias and name the collection before it, in one request."""
        before, second = self._aliases()[self.alias], _second(self.alias, key)
        gone = self._ids(second) - self._ids(before)
        if gone:
            with self._told():
                self._client.delete(second, sorted(gone, key=str), wait=True)
        self._move({self.alias: second, _before(self.alias, key): before}, gone=(self.alias,))

    def undo(self, key: str) -> None:
        """Move the alias back in one request."""
        before = _before(self.alias, key)
        self._move({self.alias: self._aliases()[before]}, gone=(self.alias, before))

    def clean(self, key: str) -> None:
        """Delete the collection that is not active."""
        held, before = self.held(), _before(self.alias, key)
        with self._told():
            if held and held.active:
                if before in self._aliases():
                    self._client.delete_collection(self._aliases()[before])
            else:
                self._client.delete_collection(_second(self.alias, key))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _scan(self, collection: str) -> Iterator[Rows]:
        offset: Any = None
        pages: list[Any] = []
        while True:
            with self._told():
                found, offset = self._client.scroll(
                    collection, limit=BATCH_ROWS if self._local else SCROLL_ROWS, offset=offset, with_payload=False,
                    with_vectors=[self.vector] if self.vector else True,
                )  # fmt: skip
            pages = [(each.id, each.vector[self.vector] if self.vector else each.vector) for each in found
                     if each.vector and (not self.vector or self.vector in each.vector)]  # fmt: skip
            if pages:
                vectors = [np.array(vector, np.float32) for _, vector in pages]
                yield stacked([identity for identity, _ in pages], vectors, self.name)
            if offset is None:
                return

    def _ids(self, collection: str) -> set[int | str]:
        found: set[int | str] = set()
        offset: Any = None
        while True:
            with self._told():
                points, offset = self._client.scroll(
                    collection, limit=BATCH_ROWS, offset=offset, with_payload=False, with_vectors=False
                )
            found |= {each.id for each in points}
            if offset is None:
                return found

    def _parameters(self, collection: str) -> Any:
        vectors = self._client.get_collection(collection).config.params.vectors
        named = isinstance(vectors, dict)
        if named and self.vector not in vectors:
            raise ArtifactError(f"{self.name}: name one of its vectors with vector=…: {', '.join(vectors)}")
        if not named and self.vector:
            raise ArtifactError(f"{self.name}: its vectors have no name; leave out vector={self.vector}")
        return vectors[self.vector] if named else vectors

    def _aliases(self) -> dict[str, str]:
        """Alias -> collection."""
        with self._told():
            return {each.alias_name: each.collection_name for each in self._client.get_aliases().aliases}

    def _move(self, targets: Mapping[str, str], *, gone: tuple[str, ...]) -> None:
        models = self._models
        deletions = [models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=each)) for each in gone]
        creations = [
            models.CreateAliasOperation(create_alias=models.CreateAlias(alias_name=alias, collection_name=collection))
            for alias, collection in targets.items()
        ]
        with self._told():
            self._client.update_collection_aliases([*deletions, *creations])

    @contextmanager
    def _told(self) -> Iterator[None]:
        http: Any = library("qdrant_client.http.exceptions", extra="qdrant")
        try:
            yield
        except (http.ApiException, http.ResponseHandlingException, ValueError) as error:
            raise ArtifactError(f"{self.name}: Qdrant says {message_of(error)}") from None


def _second(alias: str, key: str) -> str:
    return f"{alias}_csd_{key}"


def _before(alias: str, key: str) -> str:
    return f"{alias}_before_{key}"


def _identity(text: str) -> int | str:
    """Return an id of Qdrant: a number or a UUID."""
    return int(text) if text.isdecimal() else text
