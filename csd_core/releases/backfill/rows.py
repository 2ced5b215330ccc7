"""Backfill of the live gallery: which active rows other models made, cut into shards that are embedded one by one.

A release under keep, adapt, merge or partial serves rows of mixed provenance. Its table is tagged, so that what is read
can neither change nor be cleaned up while people write on. What a killed run leaves is found again by its names, and
the next run goes on with it:

    operations/backfills/<release>/   the finished shards
    tag backfill-NNNN                 the rows of release NNNN as they were when it was planned
"""

import hashlib
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from lancedb.table import Table

from csd_core.audit.log import whoami
from csd_core.engine.pace import Pace
from csd_core.live.gallery import LiveGallery
from csd_core.live.images import unreachable
from csd_core.live.reader import kinds_of
from csd_core.live.rows import Strings, texts_of
from csd_core.records.stages import ImageForm
from csd_core.releases.backfill.announcement import announce
from csd_core.releases.candidate import Production
from csd_core.releases.contents.release import Release
from csd_core.releases.recovery import recover
from csd_core.retrieval.embedder import Embedder
from csd_core.system.errors import ArtifactError
from csd_core.system.locks import WAIT, Lock
from csd_core.upgrade.backfill.embedding import ShardEmbedder
from csd_core.upgrade.backfill.images import Fetched
from csd_core.upgrade.backfill.shards import SHARD_ROWS, BackfillShard, ShardResult, ShardResults, plan_shards

_TAG = re.compile(r"backfill-\d{4,}")
_REFERENCES = "image IS NULL AND image_ref IS NOT NULL AND image_ref != ''"
_HAS_IMAGE = "image IS NOT NULL OR (image_ref IS NOT NULL AND image_ref != '')"


@dataclass(frozen=True)
class TaggedImages:
    """The images of a live table's rows at a tag; each process opens the table when it is first asked.

    Attributes:
        uri: Of the live gallery.
        root: The project's folder, absolute: where relative references start.
        table: The table.
        tag: Of the version that is read.
        form: What the model takes.
        stored: Whether every image lies in the table, so that a machine needs nothing but the gallery.
    """

    uri: str
    root: Path
    table: str
    tag: str
    form: ImageForm
    stored: bool

    def __reduce__(self) -> tuple[type["TaggedImages"], tuple[str, Path, str, str, ImageForm, bool]]:
        mine = (self.uri, self.root, self.table, self.tag, self.form, self.stored)
        return TaggedImages, mine  # never the open gallery

    @cached_property
    def _live(self) -> LiveGallery:
        return LiveGallery.open(self.uri, lock=self.root / ".csd" / "live.lock", root=self.root)

    def mark(self) -> str:
        """Return what the tag stands for, and the project's parameters where images are references.

        Raises:
            OSError: if a folder is not there.
            CsdError: if the gallery or its table is not.
        """
        if "://" not in self.uri:
            Path(self.uri).stat()  # LanceDB would make it
        rows = self._live.read(self.table, self.tag, lambda handle: int(handle.count_rows()))
        parameters = b"" if self.stored else (self.root / "params.yaml").read_bytes()
        about = f"{self.uri} {self.table} {self._live.tags(self.table)[self.tag]} {rows}"
        return f"{about} {hashlib.sha256(parameters).hexdigest()}"

    def images(self, ids: Strings, /) -> Fetched:
        """Read images by id.

        Raises:
            ArtifactError: if the table or its tag is gone.
        """
        found = self._live.images_of(self.table, ids, form=self.form, version=self.tag)
        return Fetched(images=found.images, read=np.isin(ids, found.ids), reasons=found.failed)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LiveBackfill:
    """What is to be re-embedded.

    Attributes:
        release: The active release, whose table it completes.
        tag: Its rows as they were when this was planned.
        shards: Ids of the rows that have an image or a reference to one and are not the model's own, as units of work.
        embedder: Embeds a shard, in any thread or process, or on another machine.
        results: What is embedded already.
        without_image: Id -> why the image of a row that another model made is not there, as far as that shows
            before it is read. Rows whose reference leads nowhere are tried again with their shard.
    """

    release: Release
    tag: str
    shards: tuple[BackfillShard, ...]
    embedder: ShardEmbedder
    results: ShardResults
    without_image: Mapping[str, str]

    @property
    def rows(self) -> int:
        """How many rows are to be embedded."""
        return sum(len(shard.ids) for shard in self.shards)


@contextmanager
def alone(production: Production, *, wait: float = WAIT) -> Iterator[None]:
    """Keep other backfills of the live gallery out, from `plan` to `finish`; a killed one holds nothing.

    Raises:
        CsdError: if another is at work after `wait` seconds, naming it.
    """
    lock = Lock(_folders(production) / ".lock", what="the backfill of the live gallery")
    with lock.held(wait=wait):
        yield


def plan(
    production: Production, *, by: str | None = None, wait: float = WAIT, shard_rows: int = SHARD_ROWS
) -> LiveBackfill | None:
    """Find the active rows that are not the model's own, at a tag that keeps them as they are; say what to expect.

    Planning again finds the same tag and the same shards until another release is active; what was planned for an
    earlier one is removed. The caller is `alone`.

    Args:
        production: Where.
        by: Who asked for it; by default the user of this process.
        wait: Seconds to wait for another publish or rollback.
        shard_rows: Rows of a shard.

    Returns:
        What is to be done, without a shard where older models search no row any more; None if every row that has an
        image is the model's own.

    Raises:
        ArtifactError: if nothing was published yet.
        CsdError: if another process is changing the releases.
    """
    live, workspace = production.live, production.workspace
    with production.releases.changing(wait=wait):
        recover(production, by=by or whoami())
        release = production.releases.active()
        if release is None:
            raise ArtifactError("no release is active, so there is no gallery to backfill; run `csd publish`")
        tag = _tag_of(release)
        clear(production, keep=release)
        if tag not in live.tags(release.table):
            live.tag(release.table, tag)
        others = rows_of_others(live, release, tag=tag, only_with_image=True)
        without_image = _without_image(live, release, tag)
        announce(release, others, without_image)
        if not len(others) and not _has_idle_models(live, release, tag):
            clear(production)
            return None
    images = TaggedImages(
        uri=live.uri,
        root=workspace.root.resolve(),
        table=release.table,
        tag=tag,
        form=Embedder.load(release.embedder, device="cpu").metadata.form,
        stored=not _has_references(live, release, tag),
    )
    model, device = release.record.model, production.params.runtime.device
    return LiveBackfill(
        release=release,
        tag=tag,
        shards=plan_shards(others, rows=shard_rows),
        embedder=ShardEmbedder(
            model=release.embedder,
            digest=model,
            source=images,
            device=device,
        ),
        results=ShardResults(folder=workspace.live_backfill(release.name), model=model, device=device),
        without_image=without_image,
    )


def embed(backfill: LiveBackfill, shard: BackfillShard, pace: Pace) -> ShardResult:
    """Embed a shard, or what of it an earlier run left to do; doing it again does no harm.

    Raises:
        ArtifactError: if the model, the table or its tag is gone, or the result cannot be written.
        CompatibilityError: if the images do not fit the model.
    """
    return backfill.results.keep(backfill.embedder(backfill.results.task(shard), pace))


def rows_of_others(live: LiveGallery, release: Release, *, tag: str, only_with_image: bool) -> Strings:
    """(n,) ids of the rows at a tag whose vector the model did not make, or that was mapped since."""

    def read(handle: Table) -> pa.Table:
        query = handle.search().select(["id", "embedded_by", "adapters"])
        return (query.where(_HAS_IMAGE) if only_with_image else query).to_arrow()

    rows = live.read(release.table, tag, read)
    return texts_of(rows.filter(_by_others(rows, release)), "id")


def _without_image(live: LiveGallery, release: Release, tag: str) -> dict[str, str]:
    """Id -> why the image of a row that is not the model's own is not there."""

    def read(handle: Table) -> pa.Table:
        columns = ["id", "embedded_by", "adapters", "image_ref"]
        return handle.search().select(columns).where("image IS NULL").to_arrow()

    rows = live.read(release.table, tag, read)
    rows = rows.filter(_by_others(rows, release))
    return unreachable(dict(zip(rows["id"].to_pylist(), rows["image_ref"].to_pylist(), strict=True)), root=live.root)


def _has_references(live: LiveGallery, release: Release, tag: str) -> bool:
    """Return whether the image of some row is a reference."""
    return live.read(release.table, tag, lambda handle: bool(handle.count_rows(_REFERENCES)))


def _by_others(rows: pa.Table, release: Release) -> pa.ChunkedArray:
    """(n,) rows whose vector the release's model did not make, or that was mapped since."""
    return pc.or_(pc.not_equal(rows["embedded_by"], release.record.model), pc.not_equal(rows["adapters"], ""))


def _has_idle_models(live: LiveGallery, release: Release, tag: str) -> bool:
    """Whether an older model embeds queries though no row is left for it to search."""
    scored = (release.rules.scored(provenance) for provenance, _ in live.read(release.table, tag, kinds_of))
    return not set(release.older_models) <= {each.query_model for each in scored if each}


def clear(production: Production, *, keep: Release | None = None) -> None:
    """Remove folders and tags of all backfills but that of one release, as far as they are there."""
    live, folders = production.live, _folders(production)
    kept = (None, None) if keep is None else (keep.table, _tag_of(keep))
    for table in live.tables():
        for tag in live.tags(table):
            if _TAG.fullmatch(tag) and (table, tag) != kept:
                live.untag(table, tag)
    for folder in folders.iterdir() if folders.is_dir() else ():
        if folder.is_dir() and (keep is None or folder.name != keep.name):
            shutil.rmtree(folder)


def _tag_of(release: Release) -> str:
    """The tag of a backfill of a release's table."""
    return f"backfill-{release.number:04}"


def _folders(production: Production) -> Path:
    """Where the folders of all backfills lie."""
    return production.workspace.live_backfill("any").parent
