"""What the gate found, for a pull request: Markdown for its readers, JUnit's XML for its checks."""

from collections.abc import Callable
from pathlib import Path
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

from csd_core.records.check import CheckReport
from csd_core.records.verdict import Promoted, Rejected, outcome_in_words
from csd_core.standalone.table import FIGURES, HEAD, rows_of
from csd_core.system.atomic import atomic_file, write_text
from csd_core.system.errors import ParamsError
from csd_core.system.output import printable

Write = Callable[[Path, CheckReport, Promoted | Rejected], None]


def summary_writer(file: Path) -> Write:
    """Return what writes a summary to a file of this name.

    Raises:
        ParamsError: if its ending is neither .md nor .xml.
    """
    known: dict[str, Write] = {".md": write_markdown, ".xml": write_junit}
    if file.suffix.lower() not in known:
        raise ParamsError(f"--summary {file}: is neither Markdown nor JUnit; name a file .md or .xml")
    return known[file.suffix.lower()]


def write_markdown(file: Path, report: CheckReport, verdict: Promoted | Rejected) -> None:
    """Write the verdict, its reasons and the table of all ways."""
    lines = [f"## {_capital(outcome_in_words(verdict))}", ""]
    lines += [f"- {_inline(reason)}" for reason in verdict.reasons]
    lines += ["", f"| {' | '.join(HEAD)} |", f"|{'|'.join('---:' if name in FIGURES else '---' for name in HEAD)}|"]
    lines += [f"| {' | '.join(map(_inline, row))} |" for row in rows_of(report, verdict)]
    write_text(file, "\n".join(lines) + "\n")


def write_junit(file: Path, report: CheckReport, verdict: Promoted | Rejected) -> None:
    """Write a test case for each condition of the way taken; in a rejection, of every way that was judged."""
    judged = [way for way in verdict.ways if way.judged]
    if isinstance(verdict, Promoted):
        judged = [way for way in judged if way.name == verdict.name]
    suite = Element("testsuite", name="csd check")
    for way in judged:
        for condition in way.conditions:
            case = SubElement(suite, "testcase", classname=f"csd.{way.name}", name=condition.name)
            if not condition.passed:
                SubElement(case, "failure", message=printable(condition.words))
    verdict_case = SubElement(suite, "testcase", classname="csd", name=f"verdict on {report.candidate[:12]}")
    if isinstance(verdict, Rejected):
        SubElement(verdict_case, "failure", message=printable("; ".join(verdict.reasons)))
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    indent(suite)
    with atomic_file(file) as partial:
        ElementTree(suite).write(partial, encoding="utf-8", xml_declaration=True)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _inline(text: str) -> str:
    return printable(text).replace("|", "\\|")
