"""Write a plan with all that carrying it out needs, here, in a store or in another search."""

from pathlib import Path

import numpy as np

from csd_core.records.verdict import Promoted
from csd_core.retrieval.embedder import Embedder
from csd_core.standalone.cost import Estimate, estimate
from csd_core.standalone.examination import GateInput, GateResult
from csd_core.standalone.plan_folder import PlanFolder, write_plan
from csd_core.standalone.serving import RECORD, serving_of
from csd_core.standalone.stored.gallery import StoredGallery
from csd_core.standalone.stored.rows import write_rows
from csd_core.standalone.stored.sample import MOST, Sample
from csd_core.system.atomic import atomic_folder, copy_tree
from csd_core.system.errors import ParamsError
from csd_core.upgrade.sampling import evenly


def write_whole_plan(
    gate_input: GateInput,
    gate_result: GateResult,
    *,
    stored: StoredGallery | None,
    price_per_image: float | None,
    scratch: Path,
    out: Path,
) -> Estimate | None:
    """Write a plan, whole or not at all; return what it takes, or None where the candidate is rejected.

    Args:
        gate_input: What was judged.
        gate_result: What the gate found.
        stored: The rows, where they lie in a store.
        price_per_image: For embedding one; None if it costs nothing.
        scratch: An empty folder.
        out: To write; there is none yet.
    """
    folder = scratch / "plan"
    new = gate_input.materials.new
    if new is None:
        raise ParamsError("no new model; a plan needs its ONNX file, which embeds rows and queries")
    write_plan(gate_result, gate_input.settings, new, folder)
    found = None
    if isinstance(gate_result.verdict, Promoted):
        planned, gallery = PlanFolder.load(folder), gate_result.own.gallery
        upgrade = planned.upgrade(gallery)
        serving_of(upgrade, gallery).save(folder / RECORD)
        roles, candidate = gate_result.roles, Embedder.load(new)
        pool = gate_result.collection.pool(splits=roles.splits, tasks=roles.tasks)
        if stored:
            write_rows(
                folder,
                ids=stored.ids,
                items=stored.items,
                gallery=gallery,
                plan=upgrade,
                dimension=planned.record.dimension,
            )
            asking = np.flatnonzero(roles.old & (roles.splits == "gate"))
            asking = asking[evenly(len(asking), MOST)]
            models = {*gallery.query_models, *upgrade.query_models.values(), upgrade.model}
            Sample(
                ids=pool.ids[asking],
                labels=pool.labels[asking],
                vectors={
                    digest: pool.embed(asking, Embedder.load(planned.lineage.models[digest]))
                    for digest in sorted(models)
                },
            ).save(folder)
        found = estimate(
            planned.record,
            gate_result.collection.pool(splits=roles.splits, tasks=roles.tasks),  # it knows no vector yet
            candidate,
            price_per_image=price_per_image,
            reading=stored.seconds if stored else 0.0,
        )
    with atomic_folder(out) as partial:
        copy_tree(folder, partial)
    return found
