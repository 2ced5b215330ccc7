"""What is to become active: a model, the rows it starts from and what it does with rows that people wrote."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from csd_core.live.gallery import LiveGallery
from csd_core.live.images import RowImages
from csd_core.live.migration import MigrationRules
from csd_core.live.rows import COLUMNS, IMAGES, StoredImages, Strings, pipeline_rows
from csd_core.live.storage.clock import after
from csd_core.params.model import Params
from csd_core.params.upgrade import Strategy
from csd_core.releases.contents.release import (
    ADAPTERS,
    CHECK,
    EMBEDDER,
    LINEAGE,
    PARAMS,
    VERDICT,
    Kind,
    QueryModel,
    Release,
)
from csd_core.releases.store import Releases
from csd_core.retrieval.gallery_file import GalleryFile
from csd_core.retrieval.lineage import Lineage
from csd_core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """A project's releases and live gallery.

    Attributes:
        workspace: The project.
        params: Its parameters.
        releases: Which model and gallery are active.
        live: The gallery's tables.
    """

    workspace: Workspace
    params: Params
    releases: Releases
    live: LiveGallery

    @classmethod
    def of(cls, workspace: Workspace) -> Self:
        """Of a project; nothing is read but params.yaml."""
        params = workspace.params()
        return cls(
            workspace=workspace,
            params=params,
            releases=Releases.of(workspace, params.live.releases),
            live=LiveGallery.of(workspace, params),
        )


Batches = Callable[[], Iterator[pa.RecordBatch]]
Revisions = Callable[[pa.StringArray], pa.StringArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """The rows a new table starts from; some of them are in memory at a time.

    Attributes:
        batches: The rows as `csd_core.live.rows.batch_of` makes them and as the model searches them.
        revisions: Ids (n,) of rows that people wrote -> (n,) their revisions here; null where there is none.
        images: Their images.
    """

    batches: Batches
    revisions: Revisions
    images: RowImages

    @classmethod
    def of(cls, gallery: GalleryFile, *, images: RowImages) -> Self:
        """The rows of the pipeline's gallery."""
        now = after()
        return cls(
            batches=lambda: (pipeline_rows(part, origin="pipeline", written_at=now) for part in gallery.parts()),
            revisions=lambda ids: pa.nulls(len(ids), pa.string()),
            images=images,
        )

    @classmethod
    def at(cls, live: LiveGallery, release: Release, *, tag: str) -> Self:
        """The rows of a release's table at a tag, as its model searches them."""

        def revisions(ids: pa.StringArray) -> pa.StringArray:
            rows = live.rows(release.table, version=tag, columns=["id", "revision"])
            return rows["revision"].combine_chunks().take(pc.index_in(ids, value_set=rows["id"]))

        def images(ids: Strings, /) -> StoredImages:
            found = live.rows(release.table, version=tag, ids=ids, columns=["id", *IMAGES])
            at = {identity: row for row, identity in enumerate(found["id"].to_pylist())}
            return StoredImages.of(found.take(pa.array([at[identity] for identity in ids.tolist()], pa.int64())))

        return cls(
            batches=lambda: live.batches(release.table, COLUMNS, version=tag), revisions=revisions, images=images
        )


class Commit(NamedTuple):
    """Where the project's git repository stood."""

    sha: str | None
    """None outside git."""
    uncommitted: bool
    """Files that git knows differed from it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ReleaseCandidate:
    """A release to be.

    Attributes:
        kind: What it is to the active release.
        parent_model: The champion the model was trained from.
        rolled_back_to: The release that comes once more.
        task: Whose candidate the model was.
        after: The task after which the gallery was taken.
        strategy: The verdict's.
        artefact: Digest of the pipeline's gallery.
        query_models: Which may search it.
        adapters: Digests of the model's own adapters.
        embedder: The model's ONNX file.
        copies: Further files of the release: name in its folder -> where it lies now.
        lineage: What may have made the rows; the release keeps what its rows need.
        base: The rows to start from.
        rules: What becomes of rows that people wrote.
        commit: Where the next retraining starts; None for what is checked out.
    """

    kind: Kind
    parent_model: str | None
    rolled_back_to: int | None
    task: str
    after: str
    strategy: Strategy
    artefact: str
    query_models: tuple[QueryModel, ...]
    adapters: tuple[str, ...]
    embedder: Path
    copies: Mapping[str, Path]
    lineage: Lineage
    base: Base
    rules: MigrationRules
    commit: Commit | None = None

    @classmethod
    def again(
        cls,
        release: Release,
        *,
        kind: Kind,
        rolled_back_to: int | None,
        strategy: Strategy,
        base: Base,
        rules: MigrationRules,
    ) -> Self:
        """A release's model, evidence and commit once more, with rows of their own.

        Args:
            release: Whose.
            kind: What that is to the active release.
            rolled_back_to: The release that comes once more with its rows.
            strategy: How its rows came to be.
            base: The rows to start from.
            rules: What becomes of rows that people wrote.
        """
        record, folder = release.record, release.folder
        query_models = [
            each.model_copy(update={"searchable_spaces": rules.search.spaces[each.older or record.model]})
            for each in record.query_models
            if (each.older or record.model) in rules.search.spaces
        ]
        elsewhere = (EMBEDDER, f"{LINEAGE}/")
        files = [VERDICT, CHECK, PARAMS, *(each.file for each in query_models if not each.file.startswith(elsewhere))]
        adapters = [path.relative_to(folder).as_posix() for path in sorted((folder / ADAPTERS).iterdir())]
        return cls(
            kind=kind,
            parent_model=record.parent_model,
            rolled_back_to=rolled_back_to,
            task=record.task,
            after=record.after,
            strategy=strategy,
            artefact=record.artefact,
            query_models=tuple(query_models),
            adapters=record.adapters,
            embedder=release.embedder,
            copies={name: folder / name for name in (*files, *adapters)},
            lineage=Lineage.load(folder / LINEAGE),
            base=base,
            rules=rules,
            commit=Commit(record.commit, record.uncommitted),
        )
