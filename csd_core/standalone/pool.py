"""The items of a collection in their roles, embedded by models that each take images of their own form.

N items, D dimensions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from csd_core.data.encoded import Images
from csd_core.data.pool import ItemPool
from csd_core.data.tables import Strings
from csd_core.engine.pace import Rows
from csd_core.records.stages import ImageForm
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import UNIT_TOLERANCE, Provenance
from csd_core.retrieval.lineage import Embeds, Lineage
from csd_core.standalone.vectors.cache import VectorCache
from csd_core.standalone.vectors.given import VectorModel
from csd_core.system.errors import CompatibilityError

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]

AnyModel = Embedder | VectorModel
"""A model at hand, or one that is known by its vectors."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectionPool(ItemPool):
    """Items whose images are at hand in several forms; each model is given its own.

    Attributes:
        came_with: (N,) tasks.
        keys: (N,) by which the cache knows the items.
        pixels: Form -> (N, H, W, C) uint8.
        cache: Vectors that are known, and those to come.
    """

    came_with: Strings
    keys: Strings
    pixels: Mapping[ImageForm, Images]
    cache: VectorCache

    @property
    def tasks(self) -> Strings:
        """(N,) what each item came with."""
        return self.came_with

    def reader(self, positions: Ints, embedder: Embeds) -> Callable[[slice], Pixels]:
        """Return what reads the images at some of the positions, in the form that an embedder takes."""
        images = self.pixels[form_of(embedder)]
        return lambda some: images[positions[some]]

    def embed(self, positions: Ints, embedder: Embeds, *, report: Rows | None = None) -> Floats:
        """Return (len(positions), D) vectors, the same whoever embeds; only what the cache lacks is embedded.

        Raises:
            CompatibilityError: if a vector is zero or not finite, or unknown where no model is at hand.
        """
        if not isinstance(embedder, Embedder | VectorModel):
            return self._embedded(positions, embedder, report)
        return self.cache.vectors(
            embedder.digest, self.keys[positions], lambda some: self._embedded(positions[some], embedder, report)
        )

    def _embedded(self, positions: Ints, embedder: Embeds, report: Rows | None) -> Floats:
        if isinstance(embedder, VectorModel):
            return embedder(np.empty((len(positions), 0, 0, 0), np.uint8))
        vectors = super().embed(positions, embedder, report=report)
        squares = np.einsum("nd,nd->n", vectors, vectors)
        wrong = np.flatnonzero(~(np.abs(squares - 1) <= 2 * UNIT_TOLERANCE))
        if len(wrong):
            item = self.ids[positions[wrong[0]]]
            raise CompatibilityError(
                f"{len(wrong)} of {len(positions)} images get a vector of length 0 or one that is not finite, such as "
                f"item {item[:12]}; such items cannot be searched, look at the model's weights and preprocessing"
            )
        return vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class InForm:
    """An embedding function that knows the images it takes.

    Attributes:
        form: Of the images.
        embed: From images to vectors.
    """

    form: ImageForm
    embed: Embeds

    def __call__(self, images: Pixels, /) -> Floats:
        """Embed."""
        return self.embed(images)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormedLineage(Lineage):
    """A lineage whose models may take images of different forms.

    Attributes:
        at_hand: Digest -> models that are loaded, or known by their vectors.
    """

    at_hand: Mapping[str, AnyModel]

    def embed_as(
        self, provenance: Provenance, *, device: Literal["auto", "cpu", "cuda"] = "auto", threads: int = 0
    ) -> Embeds | None:
        """What embeds images as the rows of a provenance were, with the form it takes; None where files are missing."""
        if not provenance.chain and provenance.embedded_by in self.at_hand:
            return self.at_hand[provenance.embedded_by]
        embed = Lineage.embed_as(self, provenance, device=device, threads=threads)
        if embed is None:
            return None
        return InForm(form=Embedder.load(self.models[provenance.embedded_by]).metadata.form, embed=embed)


def form_of(embedder: Embeds) -> ImageForm:
    """Return the images that a model, or a generation of a lineage, takes."""
    if isinstance(embedder, Embedder):
        return embedder.metadata.form
    if isinstance(embedder, InForm):
        return embedder.form
    raise TypeError(f"{embedder} does not say which images it takes")


def dimension_of(model: AnyModel) -> int:
    """Return D of its vectors."""
    return model.metadata.dimension if isinstance(model, Embedder) else model.dimension
