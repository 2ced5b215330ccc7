"""Warnings that follow from a check: classes that nobody finds, and classes that the gate cannot judge."""

from collections.abc import Iterator

from csd_core.records.by_class import HANDFUL
from csd_core.records.check import CheckReport, most_found
from csd_core.system.words import count, listed, quoted


def warnings_of(report: CheckReport) -> Iterator[str]:
    """Yield what is wrong with the classes of a check: a sentence each, with the remedy."""
    best = most_found(report.alternatives)
    if best and best.by_class and best.by_class.never_found:
        lost = [each for each in best.by_class.worst if not each.after]
        total = best.by_class.never_found
        names = _names([each.name for each in lost], total)
        queries = f" (of {lost[0].queries:,} gate queries)" if total == 1 else ""
        yield (
            f"No gate query{queries} of {names} finds its own class first under {best.name}: look for wrong labels "
            f"among {'its' if total == 1 else 'their'} images, and add more."
        )
    asked = report.queries_by_class
    if asked and asked.few:
        few = [each for each in asked.fewest if each.queries < HANDFUL]
        names = _names([each.name for each in few], asked.few)
        yield (
            f"{names[0].upper()}{names[1:]} of {asked.classes:,} "
            f"{'has' if asked.few == 1 else 'have'} fewer than {count(HANDFUL, 'gate query', 'gate queries')}, so the "
            "gate hardly sees what becomes of them: add images, or raise `split.gate` for later tasks."
        )


def _names(names: list[str], total: int) -> str:
    """Return a class by its name, several by their number and some of their names."""
    if total == 1:
        return f"class {quoted(names[0])}"
    return f"{count(total, 'class', 'classes')} ({listed([quoted(name) for name in names])}{_more(total - len(names))})"


def _more(number: int) -> str:
    return f", {number:,} not listed" if number else ""
