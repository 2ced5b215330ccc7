"""A way to serve the measured items: where the vector of each row comes from, and how it is searched."""

from dataclasses import dataclass

from csd_core.records.ranking import ScoreMap
from csd_core.retrieval.adapter import Adapter
from csd_core.retrieval.gallery import Provenance
from csd_core.retrieval.parts import IDENTITY, Ints


@dataclass(frozen=True, slots=True)
class Source:
    """Where vectors come from: a model that embeds the items, or the gallery.

    Attributes:
        model: Digest of the model; empty for the gallery.
        stored: Provenance of the gallery's rows.
        adapter: Maps them; None for rows as they are stored.
    """

    model: str = ""
    stored: Provenance | None = None
    adapter: Adapter | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Piece:
    """Rows of one provenance that are searched in one way.

    Attributes:
        provenance: What made the vectors.
        rows: (n,) ascending positions of the items.
        source: Where the vectors come from.
        query_model: Digest of the model whose queries search them.
        score: Makes scores of cosines.
    """

    provenance: Provenance
    rows: Ints
    source: Source
    query_model: str
    score: ScoreMap = IDENTITY


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Way:
    """Pieces that together hold each of the items once."""

    pieces: tuple[Piece, ...]

    def alike(self) -> list[list[Piece]]:
        """Return the pieces in groups; cosines of a group are compared as they are."""
        groups: dict[tuple[str, ScoreMap], list[Piece]] = {}
        for piece in self.pieces:
            groups.setdefault((piece.query_model, piece.score), []).append(piece)
        return list(groups.values())
