"""A comparison whose figures are drawn, not trained: profiles, contenders and seeds, written as results.parquet."""

import numpy as np

from csd_core.comparison.results.figures import load_comparison
from csd_core.comparison.results.measures import CellMeasures, Measure
from csd_core.comparison.results.table import FILE, write_results
from csd_core.comparison.running.runs import Cell
from csd_core.retrieval import continual

PROFILES = {"glyphs-2": 2, "digits-11": 11}
LEVELS = {"finetune": 0.80, "frozen": 0.84, "joint": 0.97, "lwf": 0.86, "csd": 0.92, "csd-mild": 0.925}
METHODS = {**{name: name for name in LEVELS}, "csd-mild": "csd"}
SEEDS = (1, 2, 3)
ALONE = ("digits-11", "lwf")
"""Profile and contender that run with one seed only."""
MISSING = Cell("glyphs-2", "lwf", 2)
DIGEST = "3f" * 32
"""Of the parameters of every cell."""

PLANNED = tuple(
    Cell(profile, contender, seed)
    for seed in SEEDS
    for profile in PROFILES
    for contender in LEVELS
    if (profile, contender) != ALONE or seed == 1
)


def triangle(rng, level, size):
    """(T, T) shares around a level, lower triangular."""
    return np.round(np.tril(np.clip(rng.normal(level, 0.02, (size, size)), 0, 1)), 6)


WAYS = ("keep", "adapt", "merge", "backfill")


def upgrade_of(cell, row, name):
    """What the gate says of one upgrade: merge is taken, but of `finetune` every second candidate is rejected."""
    rejected = cell.contender == "finetune" and row % 2 == 0
    whole = round(0.02 + 0.01 * cell.seed + 0.001 * row, 6)
    for way, share, change, cost in zip(
        WAYS, (0.25, 0.5, 0.75, 1), (-0.02, -0.01, 0, 0.01), (0, 0, 0, 100 * row), strict=True
    ):
        told = {
            "promoted": float(way == "merge" and not rejected),
            "gain": share * whole,
            "gain_bound": share * whole - 0.03,
            "lost": 0.02 * share,
            "old_change": change + 0.01 * (row % 2),
            "rows_embedded": float(cost),
            "query_models": 1.0 + (way == "merge"),
        }
        yield from (Measure(measure=measure, after=name, on=way, value=value) for measure, value in told.items())
    if rejected:
        yield Measure(measure="stopped", after=name, on="max_task_regression", value=1.0)
    else:
        lost, gained = 5.0 + row, 7.0
        for measure, value in (("queries", 100.0), ("lost", lost), ("gained", gained), ("bound", 0.025 - 0.01 * row)):
            yield Measure(measure=f"test_{measure}", after=name, value=value)


def measures_of(cell):
    """What a cell might have measured; the same each time."""
    size, level = PROFILES[cell.profile], LEVELS[cell.contender]
    rng = np.random.default_rng([cell.seed, size, list(LEVELS).index(cell.contender)])
    names = [f"t{number}" for number in range(1, size + 1)]
    frozen = cell.contender == "frozen"
    recall = triangle(rng, level, size)
    if frozen:
        recall = np.tril(np.broadcast_to(recall[-1], recall.shape))
    accuracy, cross = triangle(rng, level - 0.2, size), triangle(rng, level, size)
    if frozen:
        cross = np.tril(np.full_like(cross, cross[0, 0]))
    for matrix, measure in ((recall, "recall_own"), (accuracy, "accuracy_own"), (cross, "compatibility")):
        for row, column in zip(*np.tril_indices(size), strict=True):
            yield Measure(measure=measure, after=names[row], on=names[column], value=matrix[row, column])
    for row, name in enumerate(names):
        yield Measure(measure="recall_seen", after=name, value=round(level - 0.01 * row + rng.normal(0, 0.005), 6))
        yield Measure(measure="accuracy_seen", after=name, value=round(level - 0.1 - 0.02 * row, 6))
        yield Measure(measure="train_images", after=name, value=100.0 * (row + 1 if cell.contender == "joint" else 1))
        if row or cell.contender == "finetune":  # the first stage came from the cache
            yield Measure(measure="train_seconds", after=name, value=10.0 + cell.seed + 5 * (cell.contender == "csd"))
        if row:
            yield Measure(measure="gate_self", after=name, value=0.9)
            raw, adapted = (0.0, 0.0) if frozen else (round(level - 0.95, 6), round(level - 0.91, 6))
            for strategy, measure, change in (("keep", "gate_cross", raw), ("adapt", "gate_adapted", adapted)):
                yield Measure(measure=measure, after=name, value=0.9 + change)
                yield Measure(measure=f"ecc_{strategy}", after=name, value=float(change > 0))
                yield Measure(measure=f"ecc_{strategy}_bound", after=name, value=change - 0.012)
                yield Measure(measure=f"would_pass_{strategy}", after=name, value=float(change > -0.03))
            yield Measure(measure="would_pass_merge", after=name, value=1.0)
            yield Measure(measure="would_pass_backfill", after=name, value=1.0)
            yield from upgrade_of(cell, row, name)
    found = continual.compatibility(cross)
    for name in ("ac", "am", "bc", "fc"):
        yield Measure(measure=name, value=getattr(found, name))
    yield Measure(measure="average", value=continual.average(recall))
    yield Measure(measure="forgetting_own_recall", value=continual.mean_forgetting(recall))
    yield Measure(measure="forgetting_own_accuracy", value=continual.mean_forgetting(accuracy))
    yield Measure(measure="forgetting_seen_recall", value=round(rng.normal(0.05, 0.01), 6))
    yield Measure(measure="forgetting_seen_accuracy", value=round(rng.normal(0.4, 0.05), 6))


def written(folder, *, cells=tuple(cell for cell in PLANNED if cell != MISSING), params=DIGEST):
    """results.parquet of some cells, in the given order; their parameters are all the same, or those of each."""
    of = params if isinstance(params, dict) else dict.fromkeys(cells, params)
    write_results(
        folder / FILE, {cell: CellMeasures(params=of[cell], values=tuple(measures_of(cell))) for cell in cells}
    )
    return folder / FILE


def loaded(path, *, planned=PLANNED, reference="csd"):
    wanted = planned if isinstance(planned, dict) else dict.fromkeys(planned, DIGEST)
    return load_comparison(path, name="drawn", planned=wanted, reference=reference, methods=METHODS)


def values(profile, contender, measure, after=None, on=None):
    """Seed -> the figure, straight from the drawing."""
    return {
        cell.seed: each.value
        for cell in PLANNED
        if (cell.profile, cell.contender) == (profile, contender) and cell != MISSING
        for each in measures_of(cell)
        if (each.measure, each.after, each.on) == (measure, after, on)
    }
