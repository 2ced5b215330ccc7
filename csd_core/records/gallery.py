"""What a gallery says of its rows: gallery.json."""

from csd_core.records.ranking import GroupScoring
from csd_core.records.stages import Record


class GalleryRecord(Record):
    """gallery.json."""

    rows: int
    dimension: int | None
    """D; None while the gallery is empty."""
    query_model: str | None
    """Digest of the model whose queries search it."""
    searchable_spaces: tuple[str, ...]
    """Spaces of rows that may be searched: the model's own, and those the gate proved compatible."""
    scoring: tuple[GroupScoring, ...] = ()
    """How rows of some provenances are searched: by which model's queries, and with which score."""
