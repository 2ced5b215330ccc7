"""What is to come into force: a model, the rows it starts from and what it does with rows that people wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from csd_core.params import Params, Strategy
from csd_core.production.carry import Treatment
from csd_core.production.images import ImageSource
from csd_core.production.live import LiveGallery
from csd_core.production.release import Kind, QueryModel
from csd_core.production.releases import Releases
from csd_core.production.rows import Strings, Times
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.workspace import Workspace


@dataclass(frozen=True, slots=True, kw_only=True)
class Production:
    """A project's releases and live gallery.

    Attributes:
        files: The project.
        params: Its parameters.
        releases: Which model and gallery are in force.
        live: The gallery's tables.
    """

    files: Workspace
    params: Params
    releases: Releases
    live: LiveGallery

    @classmethod
    def of(cls, files: Workspace) -> Self:
        """Of a project; nothing is read but params.yaml."""
        params = files.params()
        return cls(files=files, params=params, releases=Releases.of(files), live=LiveGallery.of(files, params))


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
    images: ImageSource

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Succession:
    """A release to be.

    Attributes:
        kind: A new model, the same with a newer gallery, or an earlier release once more.
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
        treatment: What becomes of rows that people wrote.
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
    treatment: Treatment
