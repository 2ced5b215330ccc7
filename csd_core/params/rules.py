"""What must hold across the sections of params.yaml: tasks form one line, a class belongs to one task, and so on."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from csd_core.params.choices import OWN
from csd_core.params.training import DEFAULT, LATER

if TYPE_CHECKING:
    from csd_core.params.model import Params

GENESIS = "init"
"""The reserved name of the state before the first task: no model, an empty gallery."""


def contradictions(params: "Params") -> Iterator[str]:
    """Yield what is wrong across sections, each as `key: value: what to do`."""
    yield from _contradictions_of_tasks(params)
    yield from _contradictions_of_decisions(params)
    yield from _contradictions_of_network(params)
    if "gate" not in params.gallery.splits:
        yield f"gallery.splits: {params.gallery.splits}: the gate judges stored rows of its split; add gate"
    yield from _contradictions_of_method(params)
    shares = params.upgrade.partial.shares
    if shares != sorted(set(shares)):
        yield f"upgrade.partial.shares: {shares}: must ascend; sort them"
    if "://" in params.live.releases and "://" not in params.live.uri:
        yield (
            f"live.releases: {params.live.releases}: machines share the releases, and live.uri ({params.live.uri}) is "
            "a folder of one of them; name an object store there too"
        )
    if params.split.gate == 0 or params.split.select == 0:
        yield "split: select and gate need images to choose and judge on; give each a share above 0"


def _contradictions_of_network(params: "Params") -> Iterator[str]:
    channels, training, network = params.images.channels, params.training, params.training.network
    for key, values in (("mean", network.mean), ("std", network.std)):
        if values is not None and len(values) != channels:
            yield f"training.network.{key}: {values}: images have {channels} channel(s); give one number for each"
        if values is None and network.architecture == OWN:
            yield f"training.network.{key}: null: {OWN} has no published weights to take it from; give numbers"
    if network.weights == DEFAULT and network.architecture == OWN:
        yield f"training.network.weights: {DEFAULT}: nobody publishes weights of {OWN}; name a file, or write null"
    if network.weights is None and training.first.frozen > 0:
        yield (
            f"training.first.frozen: {training.first.frozen:g}: keeps start weights as they are, and "
            "training.network.weights is null; name weights there, or write 0"
        )
    if network.weights is None and training.first.epochs == 0:
        yield (
            "training.first.epochs: 0: takes the start weights as they are, and training.network.weights is null; "
            "name weights there, or train for at least 1"
        )


def _contradictions_of_method(params: "Params") -> Iterator[str]:
    classifier = params.training.network.classifier
    needed = {"lucir": ("scaled-cosine",), "hoc": ("simplex",), "bct": ("cosine", "simplex")}
    recipes = {f"recipes.{name}": recipe for name, recipe in params.training.recipes.items()}
    for name, later in {LATER: params.training.later, **recipes}.items():
        if later.method in needed and classifier not in needed[later.method]:
            choice = " or ".join(needed[later.method])
            yield f"training.network.classifier: {classifier}: method {later.method} needs {choice}; write that"
        if later.method == "hoc" and later.triplet.weight > 0:
            yield f"training.{name}.triplet.weight: {later.triplet.weight:g}: method hoc has no triplet term; write 0"


def _contradictions_of_tasks(params: "Params") -> Iterator[str]:
    known_sources = {**params.sources.published, **params.sources.folders}
    for name in params.sources.published.keys() & params.sources.folders.keys():
        yield f"sources.folders.{name}: is also the name of a published source; rename one"
    expected = GENESIS
    for name, task in params.tasks.items():
        at = f"tasks.{name}"
        if name == GENESIS:
            yield f"{at}: {GENESIS} is reserved for the state before the first task; rename the task"
        if task.previous != expected:
            known = task.previous == GENESIS or task.previous in params.tasks
            reason = "tasks form one line" if known else "there is no such task"
            yield f"{at}.previous: {task.previous}: {reason}; this one follows {expected}"
        if (task.recipe == "first") != (expected == GENESIS):
            recipe = "first" if expected == GENESIS else LATER
            yield (
                f"{at}.recipe: {task.recipe}: the first task has first, all others later or one of training.recipes; "
                f"write {recipe}"
            )
        _, _, its_recipe = task.recipe.partition(".")
        if its_recipe and its_recipe not in params.training.recipes:
            there = ", ".join(params.training.recipes) or "none"
            yield f"{at}.recipe: {task.recipe}: training.recipes has no {its_recipe}; add it there (known: {there})"
        if task.source not in known_sources:
            yield f"{at}.source: {task.source}: there is no such source; known: {', '.join(sorted(known_sources))}"
        expected = name
    yield from _contradictions_of_classes(params)
    if params.report.after != expected:
        yield f"report.after: {params.report.after}: the last task is {expected}; write {expected}"


def _contradictions_of_classes(params: "Params") -> Iterator[str]:
    learned: dict[str, str] = {}
    for name, task in params.tasks.items():
        at = f"tasks.{name}.classes"
        if task.classes is not None and not task.classes:
            yield f"{at}: []: a task needs a class; name some, or write null for the whole source"
        for label in task.classes or ():
            if learned.get(label) == name:
                yield f'{at}: "{label}": is there twice; name it once'
            elif label in learned:
                yield f'{at}: "{label}": is already learned by task {learned[label]}; a class belongs to one task'
            learned[label] = name


def _contradictions_of_decisions(params: "Params") -> Iterator[str]:
    for name in params.tasks:
        if name not in params.decisions:
            yield f"decisions.{name}: missing; add `{name}: auto`"
    for name, decision in params.decisions.items():
        if name not in params.tasks:
            yield f"decisions.{name}: {decision}: there is no such task; remove it"
        if decision in ("keep", "adapt", "merge", "partial", "backfill") and decision not in params.gate.allowed:
            yield (
                f"decisions.{name}: {decision}: gate.allowed has only {', '.join(params.gate.allowed) or 'nothing'}; "
                "allow it there or decide otherwise"
            )
    for name in params.reviews:
        if name not in params.tasks:
            yield f"reviews.{name}: there is no such task; remove it"
