"""What is to become active: a model, the rows it starts from and what it does with rows that people wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from csd_core.live.gallery import LiveGallery
from csd_core.live.images import RowImages
from csd_core.live.migration import MigrationRules
from csd_core.live.rows import IMAGES, TEXTS, StoredImages, Strings, Times, gallery_of, texts_of
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
from csd_core.retrieval.gallery import Gallery
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Base:
    """The rows a new table starts from.

    Attributes:
        gallery: G rows, as the model searches them.
        origins: (G,) pipeline or live.
        revisions: (G,) of rows carried over from a table; empty where the pipeline made the row.
        written_at: (G,) UTC, of rows carried over from a table.
        images: Their images.
    """

    gallery: Gallery
    origins: Strings
    revisions: Strings
    written_at: Times
    images: RowImages

    @classmethod
    def at(cls, live: LiveGallery, release: Release, *, tag: str) -> Self:
        """The rows of a release's table at a tag, as its model searches them."""
        rows = live.rows(release.table, version=tag, columns=[*TEXTS, "vector", "written_at"])

        def images(ids: Strings, /) -> StoredImages:
            found = live.rows(release.table, version=tag, ids=ids, columns=["id", *IMAGES])
            at = {identity: row for row, identity in enumerate(found["id"].to_pylist())}
            return StoredImages.of(found.take(pa.array([at[identity] for identity in ids.tolist()], pa.int64())))

        return cls(
            gallery=gallery_of(
                rows,
                query_model=release.record.model,
                searchable_spaces=release.searchable_spaces,
                scoring=release.record.scoring,
            ),
            origins=texts_of(rows, "origin"),
            revisions=texts_of(rows, "revision"),
            written_at=rows["written_at"].cast(pa.timestamp("us")).to_numpy().astype("datetime64[us]"),
            images=images,
        )

    def without(self, ids: npt.NDArray[np.str_]) -> "Base":
        """The rows of all other items."""
        rows = np.flatnonzero(~np.isin(self.gallery.ids, ids))
        return Base(
            gallery=self.gallery.take(rows),
            origins=self.origins[rows],
            revisions=self.revisions[rows],
            written_at=self.written_at[rows],
            images=self.images,
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
