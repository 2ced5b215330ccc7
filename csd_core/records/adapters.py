"""What adapters were fitted, and which were chosen: adapters.json."""

from csd_core.params.upgrade import AdapterMethod
from csd_core.records.stages import Digest, Record


class AdapterOffer(Record):
    """One map from stored vectors to the candidate's space."""

    method: AdapterMethod
    strength: float | None = None
    """What it was fitted with: a penalty (ridge), directions (cca), a tolerance (orthogonal), a temperature (drift)."""
    centred: bool = False
    """Whether means were removed before."""
    digest: Digest | None
    """Of its file; None for a map that another one of its method surpassed."""
    select_recall: float | None
    """Recall@1 of the candidate's queries of these rows' items and of new ones on `select`, over the mapped rows and
    the candidate's own; None where `select` has no such rows."""
    select_cosine: float
    """Mean cosine between mapped and candidate's vectors of the current stage's `select` images."""


class AdapterFit(Record):
    """The maps for the rows of one provenance."""

    embedded_by: Digest
    adapters: str
    """The chain so far, joined by commas."""
    images: int
    """How many it was fitted on: what the candidate trained on, the memory too."""
    offers: tuple[AdapterOffer, ...]
    chosen: Digest
    """The best on `select`."""

    @property
    def kept(self) -> tuple[AdapterOffer, ...]:
        """The best of each method, which have files."""
        return tuple(offer for offer in self.offers if offer.digest is not None)


class AdapterFits(Record):
    """adapters.json: one fit for each provenance in the old gallery that has a path to the candidate's space."""

    fits: tuple[AdapterFit, ...]
    why_not: str | None
    """Why there is none."""
