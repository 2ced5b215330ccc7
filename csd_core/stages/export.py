"""Export a task's candidate to ONNX, compare it with torch on select images, and make its int8 variant."""

if __name__ == "__main__":
    from csd_core.stages.entry import run_stage

    run_stage("export")

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.learning.batches import LabelledImages
from csd_core.learning.export.embedder import export_embedder
from csd_core.learning.export.quantization import quantized
from csd_core.learning.networks.device import prepare_torch
from csd_core.learning.networks.weights import load_model
from csd_core.records.stages import Champion, Quantization, SeenShards
from csd_core.stages.computing import use_threads
from csd_core.system.atomic import atomic_folder
from csd_core.system.console import echo
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace


def main(task: str) -> None:
    """Write the candidate's embedder.onnx, and the folder of its int8 variant.

    Raises:
        ParamsError: if params.yaml has no such task.
        ArtifactError: if onnxruntime's embeddings differ from torch's.
    """
    workspace = Workspace()
    params = workspace.params()
    previous = params.task(task).previous
    prepare_torch(use_threads(params.compute))
    model = load_model(workspace.candidate_model(task))
    if model is None:
        raise ArtifactError(f"{workspace.candidate_model(task)}: holds no trained model; run `csd run` to make it")
    champion = Champion.load(workspace.champion_embedder(previous) / "champion.json")
    seen = SeenShards.load(workspace.seen(task))
    pool = ItemPool(shards=[load_shard(workspace.shard(name)) for name in seen.tasks])
    validation = LabelledImages.of(
        pool,
        "select",
        classes=seen.classes,
        max_in_memory_mb=0,  # only some are read
    )
    error = export_embedder(
        model,
        workspace.candidate_embedder(task),
        export=params.export,
        parent=champion.digest,
        validation=validation,
    )
    echo(f"{task}: embedder.onnx agrees with torch to 1 - cos = {error:.1e}")
    with atomic_folder(workspace.candidate_quantized(task)) as folder:
        record = quantized(
            workspace.candidate_embedder(task),
            folder / "embedder.int8.onnx",
            pool=pool,
            export=params.export,
            threads=params.compute.threads,
        )
        record.save(folder / "quantization.json")
    if record.asked == "int8":
        echo(f"{task}: {_in_words(record)}")


def _in_words(record: Quantization) -> str:
    """Return what became of the variant."""
    if record.why_not:
        return f"embedder.int8.onnx does not ship: {record.why_not}"
    return (
        f"embedder.int8.onnx ships: Recall@1 of its queries {100 * (record.recall_int8 or 0):.2f} %, of the float "
        f"model's {100 * (record.recall_fp32 or 0):.2f} %"
    )
