"""The genesis stage: no model, an empty gallery; it makes the first task like every other."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("init")

from csd_core.params.rules import GENESIS
from csd_core.records.stages import Champion, ModelRecord, Pending, SeenShards
from csd_core.records.verdict import Ledger
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.lineage import Lineage
from csd_core.system.atomic import atomic_folder
from csd_core.workspace import Workspace


def main() -> None:
    """Write the state before the first task."""
    workspace = Workspace()
    SeenShards(shards=()).save(workspace.seen(GENESIS))
    with atomic_folder(workspace.champion_model(GENESIS)) as folder:
        ModelRecord(
            task=None, network=None, images=None, classes=(), trained_on=(), best_epoch=None, select_recall=None
        ).save(folder / "model.json")
    with atomic_folder(workspace.champion_embedder(GENESIS)) as folder:
        Champion(task=None, digest=None, parent=None, dimension=None, classes=()).save(folder / "champion.json")
    Gallery.empty().save(workspace.gallery(GENESIS))
    Lineage(models={}, adapters={}).save(workspace.lineage(GENESIS))
    Pending(tasks=()).save(workspace.pending(GENESIS))
    Ledger(entries=()).save(workspace.ledger(GENESIS))
