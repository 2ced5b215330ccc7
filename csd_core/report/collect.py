"""Read what every stage left behind and measure it: from a workspace to a `ReportData`.

The only place where test images ask: each distinct promoted generation embeds those of all tasks, once.
"""

import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ruamel.yaml import YAML
from safetensors import SafetensorError, safe_open

from csd_core.data.pool import ItemPool
from csd_core.data.shards import ITEMS, load_shard
from csd_core.data.tables import read_table
from csd_core.engine.engines import engine_of
from csd_core.params.model import Params
from csd_core.records.adapters import AdapterFits
from csd_core.records.check import CheckReport
from csd_core.records.stages import Champion, SeenShards, ShardRecord
from csd_core.records.verdict import Ledger, LedgerEntry, VerdictFile
from csd_core.report.advice.task import advice_on
from csd_core.report.charts.thumbnails import Thumbnails, shrunk
from csd_core.report.data import ReportData, TaskStory
from csd_core.report.examples import UpgradeExamples, compare, examples_of, mistakes_of
from csd_core.report.figures import Generation, measure
from csd_core.report.scalars import load_curves
from csd_core.report.stored import StoredGallery
from csd_core.retrieval.embedder import Embedder
from csd_core.retrieval.metrics import Floats
from csd_core.system.console import progress
from csd_core.system.errors import ArtifactError
from csd_core.workspace import Workspace

CLASSIFIER = "classifier.weight"
"""The (K, D) tensor of weights.safetensors whose rows are the classes."""

Ints = npt.NDArray[np.intp]
Strings = npt.NDArray[np.str_]


def collect(workspace: Workspace, params: Params) -> ReportData:
    """Tell the story up to `report.after`.

    Raises:
        ArtifactError: if an artefact is missing or does not belong to the others.
    """
    last = params.report.after
    ledger, seen = Ledger.load(workspace.ledger(last)), SeenShards.load(workspace.seen(last))
    if tuple(entry.task for entry in ledger.entries) != seen.tasks:
        raise ArtifactError(
            f"{workspace.ledger(last)}: has tasks {', '.join(entry.task for entry in ledger.entries) or 'none'}, "
            f"the shards {', '.join(seen.tasks)}; run `csd run` to bring them together"
        )
    champions = _promoted(workspace, ledger.entries)
    numbers = {champion.task: number for number, champion in enumerate(champions)}
    active = [numbers.get(entry.champion_task) for entry in ledger.entries]
    pool = ItemPool(shards=[load_shard(workspace.shard(task)) for task in seen.tasks], engine=engine_of(params.runtime))
    test = pool.rows("test")
    labels, groups = pool.labels[test], pool.groups[test]
    task_of = np.searchsorted(np.cumsum([len(shard.ids) for shard in pool.shards]), test, side="right")
    galleries = [
        StoredGallery.load(workspace.gallery(entry.task), digest=entry.gallery, test_ids=pool.ids[test])
        for entry in ledger.entries
    ]
    tasks = tuple(
        _task(workspace, params, entry, shard, pool, number, old_rows, gallery, offset=len(test))
        for entry, shard, number, gallery, old_rows in zip(
            ledger.entries,
            seen.shards,
            active,
            galleries,
            [0, *map(len, galleries[:-1])],
            strict=True,
        )
    )
    generations = _embed(workspace, params, champions, pool, test)
    figures = measure(
        labels=labels,
        groups=groups,
        task_of=task_of,
        task_classes=[shard.classes for shard in seen.shards],
        active=active,
        generations=generations,
    )
    stores_test = "test" in params.gallery.splits
    upgrades = (
        tuple(_upgrades(workspace, params, tasks, generations, galleries, labels, groups, task_of))
        if stores_test
        else ()
    )
    shown = np.array(sorted(set(_items(tasks, upgrades))), np.intp)
    positions = np.concatenate([test, np.arange(len(pool.ids))])  # items beyond those of test are numbered by position
    return ReportData(
        tasks=tasks,
        generations=champions,
        figures=figures,
        stores_test=stores_test,
        upgrades=upgrades,
        thumbnails=Thumbnails(items=tuple(shown.tolist()), tiles=shrunk(pool, positions[shown])),
        files=dict(zip(shown.tolist(), _files(workspace, seen.tasks)[positions[shown]].tolist(), strict=True)),
        parameters=_yaml(params),
    )


def _task(
    workspace: Workspace,
    params: Params,
    entry: LedgerEntry,
    shard: ShardRecord,
    pool: ItemPool,
    generation: int | None,
    old_rows: int,
    gallery: StoredGallery,
    *,
    offset: int,
) -> TaskStory:
    """Read what became of a task; what its check names is numbered by the position in the pool, plus `offset`."""
    check = CheckReport.load(workspace.check(entry.task))
    verdict = VerdictFile.load(workspace.verdict(entry.task)).verdict
    rejected = entry.outcome == "rejected"
    return TaskStory(
        shard=shard,
        adapters=AdapterFits.load(workspace.candidate_adapters(entry.task) / "adapters.json"),
        check=check,
        verdict=verdict,
        review=params.reviews.get(entry.task),
        entry=entry,
        curves=load_curves(workspace.curves(entry.task)),
        generation=generation,
        old_rows=old_rows,
        groups=gallery.groups,
        advice=advice_on(workspace, params, check, verdict, place="project"),
        mistakes=mistakes_of(check.closer_look, pool, offset=offset) if check.closer_look else (),
        examples=examples_of(check, pool, previous=entry.champion_task or "", offset=offset) if rejected else None,
    )


def _items(tasks: Sequence[TaskStory], upgrades: Sequence[UpgradeExamples]) -> Iterator[int]:
    """Yield every item that is pictured."""
    for examples in (*upgrades, *(task.examples for task in tasks)):
        yield from examples.items if examples else ()
    for task in tasks:
        yield from (item for mistake in task.mistakes for pair in mistake.pairs for item in pair)


def _files(workspace: Workspace, tasks: Sequence[str]) -> Strings:
    """Return (N,) where each item of the tasks' shards is from: its path in its source."""
    tables = [read_table(workspace.shard(task) / ITEMS, ("path", "source")) for task in tasks]
    files = [
        f"{path} in {source}"
        for table in tables
        for path, source in zip(table["path"].tolist(), table["source"].tolist(), strict=True)
    ]
    return np.array(files, np.str_)


def _promoted(workspace: Workspace, entries: Sequence[LedgerEntry]) -> tuple[Champion, ...]:
    """Return the records of the distinct promoted generations, oldest first."""
    champions = []
    for entry in entries:
        if entry.outcome == "promoted":
            path = workspace.champion_embedder(entry.task) / "champion.json"
            champion = Champion.load(path)
            if champion.digest != entry.champion or champion.task != entry.task:
                raise ArtifactError(
                    f"{path}: is model {str(champion.digest)[:12]} of {champion.task}, the ledger has "
                    f"{str(entry.champion)[:12]} of {entry.task}; run `csd run` to make them again"
                )
            champions.append(champion)
    return tuple(champions)


def _embed(
    workspace: Workspace, params: Params, champions: Sequence[Champion], pool: ItemPool, test: Ints
) -> list[Generation]:
    """Embed the test items by every generation; the vectors wait on disk."""
    generations = []
    with progress("embedding test images", total=len(champions) * len(test), unit="images") as meter:
        for champion in champions:
            task = str(champion.task)
            embedder = Embedder.load(
                workspace.champion_embedder(task) / "embedder.onnx",
                device=params.compute.embedding_device,
                threads=params.compute.threads,
            )
            generations.append(
                Generation(
                    vectors=_spill(pool.embed(test, embedder, report=meter.advance)),
                    columns=_classifier(workspace.champion_model(task) / "weights.safetensors", champion),
                    classes=champion.classes,
                )
            )
    return generations


def _spill(vectors: Floats) -> Floats:
    """Move to a nameless file, mapped into memory: generations add up, and only one is looked at at a time."""
    if not vectors.size:
        return vectors
    with tempfile.TemporaryFile() as file:
        mapped: Floats = np.memmap(file, np.float32, "w+", shape=vectors.shape)
    mapped[:] = vectors
    return mapped


def _classifier(path: Path, champion: Champion) -> Floats:
    """Return (K, D) rows of the classes."""
    try:
        with safe_open(path, framework="numpy") as weights:
            rows: Floats = weights.get_tensor(CLASSIFIER).astype(np.float32)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: no readable {CLASSIFIER} ({error}); make it again with `csd run`") from None
    if rows.shape != (len(champion.classes), champion.dimension):
        raise ArtifactError(
            f"{path}: {CLASSIFIER} is {' x '.join(map(str, rows.shape))}, the champion has {len(champion.classes)} "
            f"classes and {champion.dimension} dimensions; make it again with `csd run`"
        )
    return rows


def _upgrades(
    workspace: Workspace,
    params: Params,
    tasks: Sequence[TaskStory],
    generations: Sequence[Generation],
    galleries: Sequence[StoredGallery],
    labels: Strings,
    groups: Ints,
    task_of: Ints,
) -> Iterator[UpgradeExamples]:
    """Yield each promotion that replaced a champion, before and after, over the rows as they are stored.

    Raises:
        ArtifactError: if a gallery lacks a test item that arrived by then.
    """
    for stage, task in enumerate(tasks):
        if task.generation is None:
            continue
        gallery, items = galleries[stage], np.flatnonzero(task_of <= stage)  # the numbers 0, 1, 2, ...
        if not np.array_equal(np.sort(gallery.items), items):
            raise ArtifactError(
                f"{workspace.gallery(task.name)}: has rows of {len(gallery.items)} test items, {len(items)} arrived by "
                f"{task.name}; run `csd run` to make it again"
            )
        previous = tasks[stage - 1] if stage else None
        if previous is None or previous.generation is None or task.chosen is None:
            continue
        by_digest = {
            str(each.entry.champion): generations[each.generation].vectors[items]
            for each in tasks[: stage + 1]
            if each.generation is not None
        }
        new = by_digest[str(previous.entry.champion)]
        yield compare(
            task=task.name,
            previous=str(previous.entry.champion_task),
            strategy=task.chosen.name,
            labels=labels[items],
            groups=groups[items],
            before=galleries[stage - 1].parts(by_digest.__getitem__, new=new),
            after=gallery.parts(by_digest.__getitem__),
            examples=params.report.example_queries,
            neighbours=params.report.neighbours,
        )


def _yaml(params: Params) -> str:
    """Return the parameters without `runtime`, which has no influence on what an artefact is."""
    stream = io.StringIO()
    writer: Any = YAML(typ="safe", pure=True)
    writer.default_flow_style, writer.sort_base_mapping_type_on_output, writer.width = False, False, 10_000
    writer.dump(params.model_dump(mode="json", exclude={"runtime"}), stream)
    return stream.getvalue()
