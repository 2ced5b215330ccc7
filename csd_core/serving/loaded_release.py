"""One release as a process serves it: its models, its rows, and who is still waiting for its answers.

B items of a batch, D dimensions.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from csd_core.audit.checksums import CHECKSUMS
from csd_core.live.filters import Filters
from csd_core.live.gallery import LiveGallery
from csd_core.live.reader import LiveReader
from csd_core.live.search import Hits, Snapshot
from csd_core.params.model import Params
from csd_core.releases.contents.release import QueryModel, Release
from csd_core.releases.store import Releases
from csd_core.releases.verify import problems_of
from csd_core.retrieval.embedder import Embedder, digest_of
from csd_core.serving.batching import MicroBatcher
from csd_core.serving.telemetry import Metrics
from csd_core.system.errors import ArtifactError, CompatibilityError

Image = npt.NDArray[np.uint8]
Vector = npt.NDArray[np.float32]


class Ask(NamedTuple):
    """One search."""

    vector: Vector
    """(D,) of unit length."""
    k: int
    where: Filters


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


def check_fit(release: Release, releases: Releases, live: LiveGallery) -> None:
    """Examine a release before it is served.

    Raises:
        CsdError: with the first thing that is wrong with it.
    """
    trail = releases.audit.read()
    checksums = trail.checksums_of(release.name)
    if checksums is None and trail.open and trail.open.release == release.name:
        checksums = digest_of(release.folder / CHECKSUMS)  # its publisher examined it and is about to log it
    problem = next(problems_of(release, live, checksums=checksums, rows=False), None)
    if problem is not None:
        raise ArtifactError(f"release {release.name}: {problem}")


def generations_of(releases: Releases) -> dict[str, int]:
    """Return digest of a model -> number of the release that first served it."""
    found: dict[str, int] = {}
    for each in releases.all():
        found.setdefault(each.record.model, each.number)
    return found


class LoadedRelease:
    """A release, loaded: sessions, rows and the batches of its requests.

    Attributes:
        release: Which.
        model: The query model's part of its record.
        query: Embeds queries.
        writer: Embeds items; rows are always the fp32 model's.
        generations: Digest of a model -> number of the release that first served it.
        embedding: (size, size, channels) uint8 -> (D,) vector.
        searching: Ask -> Found.
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
        self.model = _chosen(release, params.serve.variant)
        device = params.runtime.device
        self.writer = Embedder.load(release.embedder, device=device, threads=threads)
        self.query = (
            self.writer
            if self.model.digest == self.writer.digest
            else Embedder.load(release.folder / self.model.file, device=device, threads=threads)
        )
        self._rows = self._load(self.stored())
        self._warm_up()
        self._cache: OrderedDict[bytes, Vector] = OrderedDict()
        self.embedding: MicroBatcher[Image, Vector] = MicroBatcher(
            self._embed,
            size=params.serve.max_batch,
            wait=params.serve.max_wait_ms / 1000,
            executor=compute,
            on_batch=lambda waits: metrics.batch("embed", waits),
        )
        self.searching: MicroBatcher[Ask, FoundRows] = MicroBatcher(
            self._search,
            size=params.serve.max_batch,
            wait=0,
            executor=searcher,
            on_batch=lambda waits: metrics.batch("search", waits),
        )

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
        self._rows = self._load(token)
        return True

    def remembered(self, key: bytes) -> Vector | None:
        """Return the vector of a query image that came before; None for a new one.

        Args:
            key: Of its bytes.
        """
        vector = self._cache.get(key)
        if vector is not None:
            self._cache.move_to_end(key)
        self._metrics.cache(hit=vector is not None)
        return vector

    def remember(self, key: bytes, vector: Vector) -> None:
        """Keep a query image's vector; the one that was not asked for longest goes."""
        self._cache[key] = vector
        if len(self._cache) > self._params.serve.cache_images:
            self._cache.popitem(last=False)

    def _load(self, token: str) -> LoadedRows:
        knobs = self._params.live
        start = time.monotonic()
        with self._metrics.step("load"):
            snapshot = Snapshot.load(
                self._live,
                self.release.table,
                searchable_spaces=self.release.spaces_for(self.model.digest),
                dimension=self.query.metadata.dimension,
                exact_rows=knobs.exact_rows,
                probes=knobs.index_probes,
            )
        end = time.monotonic()
        return LoadedRows(token=token, snapshot=snapshot, seconds=end - start, loaded_at=end)

    def _warm_up(self) -> None:
        """Run every model and a search once, so that the first request finds memory and kernels ready.

        Raises:
            CompatibilityError: if the query model gives no unit vectors of the rows' dimension.
        """
        form = self.query.metadata
        blank = np.zeros((self._params.serve.max_batch, form.size, form.size, form.channels), np.uint8)
        vectors = self.query(blank)
        if self.writer is not self.query:
            self.writer(blank[:1])
        self.snapshot.search(vectors[:1], k=1)

    def _embed(self, images: list[Image]) -> Sequence[Vector]:
        with self._metrics.step("embed"):
            return list(self.query(np.stack(images)))

    def _search(self, asks: list[Ask]) -> Sequence[FoundRows]:
        """Answers of one snapshot; asks with the same filters share a pass over the rows."""
        snapshot = self.snapshot
        groups: dict[Filters, list[int]] = {}
        for number, ask in enumerate(asks):
            groups.setdefault(ask.where, []).append(number)
        found: dict[int, FoundRows] = {}
        with self._metrics.step("search"):
            for where, numbers in groups.items():
                queries = np.stack([asks[number].vector for number in numbers])
                hits = snapshot.search(queries, k=max(asks[number].k for number in numbers), where=where)
                for row, number in enumerate(numbers):
                    found[number] = FoundRows(hits.of(row, k=asks[number].k), snapshot.count, snapshot.rows is not None)
        return [found[number] for number in range(len(asks))]


def _chosen(release: Release, variant: Literal["auto", "fp32", "int8"]) -> QueryModel:
    """The query model that the parameters ask for.

    Raises:
        CompatibilityError: if the release has none of that variant.
    """
    by_variant = {model.variant: model for model in release.record.query_models}
    wanted = ("int8", "fp32") if variant == "auto" else (variant,)
    for each in wanted:
        if each in by_variant:
            return by_variant[each]
    raise CompatibilityError(
        f"release {release.name}: no {variant} model (serve.variant), only {', '.join(by_variant)}; take auto, or "
        "export with quantize: int8 and publish again"
    )
