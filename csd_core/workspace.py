"""Where every artefact lies; the only module that knows file names.

    artifacts/code.json       digests of the code that each stage runs                 code
    data/sources/<source>/    images.npy|.arrow items.parquet rejected.parquet source.json   ingest
                              thumbnails.arrow where originals are larger
    data/shards/<task>/       images.npy|.arrow items.parquet shard.json                split
    data/seen/<task>.json     the shards up to the task                                 split
    artifacts/<task>/
        candidate/model/      model.json weights.safetensors                            train
        candidate/curves/     the scalars of every epoch, as DVCLive writes them        train
        candidate/embedder.onnx                                                         export
        candidate/quantized/  quantization.json, embedder.int8.onnx if it ships         export
        candidate/adapters/   adapters.json, ONNX files and anchors                     adapt
        check.json            what promoting the candidate would do                     check
        champion/model/       as above: the candidate's, or the one carried over        promote
        champion/embedder/    champion.json embedder.onnx, its int8 variant if it ships promote
        gallery/              gallery.json rows.parquet vectors.npy                     promote
        lineage/              the models and adapters that made the gallery's rows      promote
        pending.json verdict.json ledger.json                                           promote
    metrics.json report/                                                                report
    .csd/unfinished/          checkpoints of unfinished stages; no artefact
    .csd/releases/            this machine's copy of releases that lie in an object store; it may be removed
    batches/<task>/           images of a task that was cut from the inbox, versioned by DVC   flow retrain
    batches/<task>.json       which batches they came in                                flow retrain
    operations/               side effects of scheduled work, no artefacts
        retrainings/<name>.json   what became of each retraining                        flows
        checkouts/<name>/     a run's own git worktree, while it works                  flows
        unfinished/           checkpoints that one run leaves to the next               flows
        unusable/<batch>.json batches whose files are no images                         flow retrain
        aside/<batch>.json    batches, or classes of them, that a person rejected       flow approve
        backfills/<release>/  finished shards of a backfill of the live gallery         csd backfill, flow backfill
        prefect/              the server's database and logs                            csd ui

The stage or flow that writes a thing stands behind it.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from csd_core.params.file import load_params
from csd_core.params.model import Params


@dataclass(frozen=True)
class Workspace:
    """File names below the folder that holds params.yaml.

    Attributes:
        root: That folder; the current one, as DVC runs stages there.
    """

    root: Path = field(default_factory=Path)

    def params(self) -> Params:
        """Return the checked parameters."""
        return load_params(self.root / "params.yaml")

    def path(self, configured: str) -> Path:
        """Return a path from params.yaml: relative to it, or absolute."""
        return self.root / configured

    @property
    def code(self) -> Path:
        """Digests of the code that each stage runs."""
        return self.root / "artifacts" / "code.json"

    def source(self, name: str) -> Path:
        """Folder of a canonical set."""
        return self.root / "data" / "sources" / name

    def rejected(self, source: str) -> Path:
        """What was wrong with the files of a source that had too many bad ones; no artefact, so it outlives the run."""
        return self.root / ".csd" / f"rejected-{source}.parquet"

    def shard(self, task: str) -> Path:
        """Folder of a task's own images and items."""
        return self.root / "data" / "shards" / task

    def seen(self, task: str) -> Path:
        """Return the list of shards up to `task`."""
        return self.root / "data" / "seen" / f"{task}.json"

    def _of(self, task: str) -> Path:
        return self.root / "artifacts" / task

    def candidate_model(self, task: str) -> Path:
        """Folder of the weights that the task's stage trained."""
        return self._of(task) / "candidate" / "model"

    def curves(self, task: str) -> Path:
        """Folder of the training scalars."""
        return self._of(task) / "candidate" / "curves"

    def candidate_embedder(self, task: str) -> Path:
        """Return the candidate's ONNX file."""
        return self._of(task) / "candidate" / "embedder.onnx"

    def candidate_quantized(self, task: str) -> Path:
        """Folder of the candidate's int8 variant, and of the record that says whether it ships."""
        return self._of(task) / "candidate" / "quantized"

    def candidate_adapters(self, task: str) -> Path:
        """Folder of the maps from stored vectors to the candidate's space."""
        return self._of(task) / "candidate" / "adapters"

    def check(self, task: str) -> Path:
        """Return the check's report."""
        return self._of(task) / "check.json"

    def champion_model(self, task: str) -> Path:
        """Folder of the champion's weights after `task`."""
        return self._of(task) / "champion" / "model"

    def champion_embedder(self, task: str) -> Path:
        """Folder of the champion's record and ONNX files after `task`."""
        return self._of(task) / "champion" / "embedder"

    def gallery(self, task: str) -> Path:
        """Folder of the gallery after `task`."""
        return self._of(task) / "gallery"

    def lineage(self, task: str) -> Path:
        """Folder of the models and adapters that made the gallery's rows after `task`."""
        return self._of(task) / "lineage"

    def pending(self, task: str) -> Path:
        """Return tasks that wait for the next stage after `task`."""
        return self._of(task) / "pending.json"

    def verdict(self, task: str) -> Path:
        """Return the gate's verdict on the task's candidate."""
        return self._of(task) / "verdict.json"

    def ledger(self, task: str) -> Path:
        """Return what became of every task up to `task`."""
        return self._of(task) / "ledger.json"

    @property
    def metrics(self) -> Path:
        """The figures of the report, for `dvc metrics`."""
        return self.root / "metrics.json"

    @property
    def report(self) -> Path:
        """Folder of the HTML page."""
        return self.root / "report"

    @property
    def plots(self) -> Path:
        """Folder of the report's plots, for `dvc plots`."""
        return self.root / "report" / "plots"

    @property
    def page(self) -> Path:
        """The HTML page."""
        return self.root / "report" / "index.html"

    def work(self, stage: str, fingerprint: str) -> Path:
        """Scratch of an unfinished stage; `fingerprint` hashes what its outcome depends on."""
        return self.root / ".csd" / "unfinished" / f"{stage}-{fingerprint[:16]}"

    def batch(self, task: str) -> Path:
        """Folder of the images of a task that was cut from the inbox."""
        return self.root / "batches" / task

    def batch_record(self, task: str) -> Path:
        """Return which batches those images came in."""
        return self.root / "batches" / f"{task}.json"

    @property
    def operations(self) -> Path:
        """Folder of what scheduled work leaves behind."""
        return self.root / "operations"

    def retraining(self, name: str) -> Path:
        """Return the record of a retraining."""
        return self.operations / "retrainings" / f"{name}.json"

    def checkout(self, name: str) -> Path:
        """Folder of a run's own git worktree."""
        return self.operations / "checkouts" / name

    def unusable(self, batch: str) -> Path:
        """Return the note that a batch cannot be used."""
        return self.operations / "unusable" / f"{batch}.json"

    def set_aside(self, batch: str) -> Path:
        """Return the note that a person rejected a batch."""
        return self.operations / "aside" / f"{batch}.json"

    @property
    def handed_on(self) -> Path:
        """Folder of checkpoints that one run leaves to the next."""
        return self.operations / "unfinished"

    def releases(self, configured: str) -> Path:
        """Folder of the releases, or of this machine's copy of those at an address (`live.releases`)."""
        if "://" not in configured:
            return self.path(configured)
        return self.root / ".csd" / "releases" / hashlib.sha256(configured.encode()).hexdigest()[:12]

    def live_backfill(self, release: str) -> Path:
        """Folder of the finished shards of a backfill of a release's live gallery."""
        return self.operations / "backfills" / release
