"""serving.json: what another search must do to serve a plan. Models and adapters lie beside it, in lineage/."""

from pathlib import Path

from csd_core.records.ranking import Identity, ScoreMap
from csd_core.records.stages import Digest, Record
from csd_core.retrieval.gallery import Gallery, Provenance
from csd_core.upgrade.plans import UpgradePlan

RECORD = "serving.json"


class ServedRows(Record):
    """Old rows that are treated alike."""

    embedded_by: Digest
    """The model that made the vectors."""
    adapters: str
    """Digests of what mapped them since, oldest first, joined by commas; empty for none."""
    rows: int
    re_embedded: int
    """Of these, from their images, by the new model."""
    map_by: str | None
    """ONNX file from stored vectors (`vectors`, N x D_old) to those searched (`embeddings`, N x D); None: as stored."""
    query_model: str
    """ONNX file that embeds a query for the rows that are not re-embedded."""
    score: ScoreMap
    """From cosines of these queries to what orders the answers."""


class Serving(Record):
    """serving.json."""

    new_model: str
    """ONNX file that embeds a query for re-embedded and new rows."""
    new_score: ScoreMap
    """Of these."""
    groups: tuple[ServedRows, ...]


def serving_of(plan: UpgradePlan, gallery: Gallery) -> Serving:
    """Return what a plan asks of a search."""
    scoring = {Provenance(each.embedded_by, each.adapters): each for each in plan.scoring}
    groups = []
    for provenance, rows in gallery.groups().items():
        adapter = plan.adapters.get(provenance)
        group = scoring.get(provenance.mapped_by(adapter.digest) if adapter else provenance)
        groups.append(
            ServedRows(
                embedded_by=provenance.embedded_by,
                adapters=provenance.adapters,
                rows=len(rows),
                re_embedded=int(plan.embed[rows].sum()),
                map_by=_file(adapter.digest) if adapter else None,
                query_model=_file(group.query_model if group else plan.model),
                score=group.score if group else Identity(),
            )
        )
    own = scoring.get(Provenance(plan.model, ""))
    return Serving(new_model=_file(plan.model), new_score=own.score if own else Identity(), groups=tuple(groups))


def _file(digest: Digest) -> str:
    return (Path("lineage") / f"{digest}.onnx").as_posix()
