"""One release as a process serves it: its models, its rows, and who is still waiting for its answers.

B items of a batch, D dimensions.
"""

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.live.filters import Filters
from csd_core.live.hits import Hits
from csd_core.live.index.files import SearchIndex
from csd_core.live.reader import LiveReader
from csd_core.live.search import Snapshot
from csd_core.params.model import Params
from csd_core.records.stages import ImageForm
from csd_core.releases.contents.release import INDEX, QueryModel, Release
from csd_core.retrieval.embedder import Embedder
from csd_core.serving.batching import MicroBatcher
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import CompatibilityError

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]
QueryVectors = Mapping[str, Vector]
"""Of one image: query model -> (D,) of unit length. Models go by their own digests, whichever variant embeds."""


class Ask(NamedTuple):
    """One search."""

    vectors: QueryVectors
    k: int
    where: Filters


class QueryEmbedder(NamedTuple):
    """A model that embeds queries, in the variant that is served."""

    model: str
    """Digest of the model itself, by which rows and scores name it."""
    served: QueryModel
    """The variant's part of the release's record."""
    embed: Embedder


class FoundRows(NamedTuple):
    """The answer to one search."""

    hits: Hits
    """Of one query: (1, K)."""
    rows: int
    """Searched."""
    exact: bool


@dataclass(slots=True, kw_only=True, eq=False)
class LoadedRows:
    """The rows of a table as they were when last looked at.

    Attributes:
        token: Of the table's version, read before the rows were.
        snapshot: The rows.
        seconds: That loading them took.
        loaded_at: When it ended, of the monotonic clock.
    """

    token: str
    snapshot: Snapshot
    seconds: float
    loaded_at: float

    def become(self, newer: "LoadedRows") -> None:
        """Take over what was loaded later."""
        self.token, self.snapshot = newer.token, newer.snapshot
        self.seconds, self.loaded_at = newer.seconds, newer.loaded_at


class LoadedRelease:
    """A release, loaded: sessions, rows and the batches of its requests.

    Attributes:
        release: Which.
        queries: The models that embed each query; the first is the one that embeds new items too.
        writer: Embeds items; rows are always the fp32 model's.
        generations: Digest of a model -> number of the release that first served it.
        embedding: (size, size, channels) uint8 -> its vectors.
        searching: Ask -> FoundRows.
        leases: Requests that are being answered from it.
        used_at: When it was last leased, of the monotonic clock.
    """

    def __init__(
        self,
        release: Release,
        *,
        live: LiveReader,
        params: Params,
        threads: int,
        generations: dict[str, int],
        compute: Executor,
        searcher: Executor,
        metrics: Metrics,
    ) -> None:
        """Load it; takes a second or more, so call it on a thread.

        Raises:
            CsdError: if a model cannot be loaded or the rows cannot be searched by it.
        """
        self.release = release
        self.generations = generations
        self.leases = 0
        self.used_at = time.monotonic()
        self._live, self._params, self._metrics = live, params, metrics
        device = params.runtime.device
        self.writer = Embedder.load(release.embedder, device=device, threads=threads)
        queries = []
        for model in (release.record.model, *release.older_models):
            served = _chosen(release, model, params.serve.variant)
            embed = (
                self.writer
                if served.digest == self.writer.digest
                else Embedder.load(release.folder / served.file, device=device, threads=threads)
            )
            queries.append(QueryEmbedder(model, served, embed))
        self.queries = tuple(queries)
        self._index = SearchIndex.of(release.folder / INDEX)
        self._rows = self._load(self.stored())
        self._warm_up()
        self._cache: OrderedDict[bytes, QueryVectors] = OrderedDict()
        # neither refers to this object: with a cycle, models and rows would stay until Python's collector comes round
        self.embedding: MicroBatcher[Image, QueryVectors] = MicroBatcher(
            partial(_embed, self.queries, metrics),
            size=params.serve.max_batch,
            wait=params.serve.max_wait_ms / 1000,
            executor=compute,
            on_batch=lambda waits: metrics.batch("embed", waits),
        )
        self.searching: MicroBatcher[Ask, FoundRows] = MicroBatcher(
            partial(_search, self._rows, self.queries, metrics),
            size=params.serve.max_batch,
            wait=0,
            executor=searcher,
            on_batch=lambda waits: metrics.batch("search", waits),
        )

    @property
    def model(self) -> QueryModel:
        """What embeds the queries of new rows."""
        return self.queries[0].served

    @property
    def form(self) -> ImageForm:
        """What all its models take."""
        return self.writer.metadata.form

    @property
    def snapshot(self) -> Snapshot:
        """The rows as they were when last looked at."""
        return self._rows.snapshot

    def stored(self) -> str:
        """Return the token of the rows as they are stored now; call it on a thread."""
        return self._live.version(self.release.table)

    def refresh(self, token: str, *, patient: bool) -> bool:
        """Load the rows again if they changed; call it on a thread.

        Args:
            token: What `stored` returned.
            patient: Not if loading them would take more than a quarter of the time.

        Returns:
            Whether they were loaded.
        """
        if token == self._rows.token:
            return False
        if patient and time.monotonic() - self._rows.loaded_at < 3 * self._rows.seconds:
            return False
        self._rows.become(self._load(token))
        return True

    def remembered(self, key: bytes) -> QueryVectors | None:
        """Return the vectors of a query image that came before; None for a new one.

        Args:
            key: Of its bytes.
        """
        vectors = self._cache.get(key)
        if vectors is not None:
            self._cache.move_to_end(key)
        self._metrics.cache(hit=vectors is not None)
        return vectors

    def remember(self, key: bytes, vectors: QueryVectors) -> None:
        """Keep a query image's vectors; those that were not asked for longest go."""
        self._cache[key] = vectors
        if len(self._cache) > self._params.serve.cache_images:
            self._cache.popitem(last=False)

    def _load(self, token: str) -> LoadedRows:
        start = time.monotonic()
        with self._metrics.step("load"):
            snapshot = Snapshot.load(
                self._live,
                self.release.table,
                self.release.rules,
                index=self._index,
                probes=self._params.live.index_probes,
            )
        end = time.monotonic()
        return LoadedRows(token=token, snapshot=snapshot, seconds=end - start, loaded_at=end)

    def _warm_up(self) -> None:
        """Run every model and a search once, so that the first request finds memory and kernels ready.

        Raises:
            CompatibilityError: if a query model gives no unit vectors of its rows' dimension.
        """
        form = self.form
        blank = np.zeros((self._params.serve.max_batch, form.size, form.size, form.channels), np.uint8)
        vectors = {each.model: each.embed(blank) for each in self.queries}
        if self.writer is not self.queries[0].embed:
            self.writer(blank[:1])
        self.snapshot.search({model: found[:1] for model, found in vectors.items()}, k=1)


def _embed(queries: Sequence[QueryEmbedder], metrics: Metrics, images: list[Image]) -> Sequence[QueryVectors]:
    """Embed a batch of query images by each query model."""
    with metrics.step("embed"):
        pixels = np.stack(images)
        by_model = {each.model: each.embed(pixels) for each in queries}
    return [{model: vectors[row] for model, vectors in by_model.items()} for row in range(len(images))]


def _search(
    rows: LoadedRows, queries: Sequence[QueryEmbedder], metrics: Metrics, asks: list[Ask]
) -> Sequence[FoundRows]:
    """Answer from one snapshot; asks with the same filters share a pass over the rows."""
    snapshot = rows.snapshot
    groups: dict[Filters, list[int]] = {}
    for number, ask in enumerate(asks):
        groups.setdefault(ask.where, []).append(number)
    found: dict[int, FoundRows] = {}
    with metrics.step("search"):
        for where, numbers in groups.items():
            vectors = {
                each.model: np.stack([asks[number].vectors[each.model] for number in numbers]) for each in queries
            }
            hits = snapshot.search(vectors, k=max(asks[number].k for number in numbers), where=where)
            for row, number in enumerate(numbers):
                found[number] = FoundRows(hits.of(row, k=asks[number].k), snapshot.count, snapshot.rows is not None)
    return [found[number] for number in range(len(asks))]


def _chosen(release: Release, model: str, variant: Literal["auto", "fp32", "int8"]) -> QueryModel:
    """The variant of a query model that the parameters ask for; an older model that has no int8 one is served as fp32.

    Raises:
        CompatibilityError: if the release's own model has none of that variant.
    """
    by_variant = release.queries_of(model)
    older = model != release.record.model
    wanted: tuple[Literal["fp32", "int8"], ...] = (variant,) if variant == "fp32" else ("int8", "fp32")
    for each in wanted[:1] if variant == "int8" and not older else wanted:
        if each in by_variant:
            return by_variant[each]
    raise CompatibilityError(
        f"release {release.name}: no {variant} model (serve.variant), only {', '.join(by_variant)}; take auto, or "
        "export with quantize: int8 and publish again"
    )
