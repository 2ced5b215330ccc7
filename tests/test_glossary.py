"""The glossary leads to modules that exist, once for each term and in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
TERMS = re.findall(
    r"^\| \[([^\]]+)\]\(([^)]+)\) \| (.+) \|$", (DOCS / "glossary.md").read_text(encoding="utf-8"), re.MULTILINE
)
MARKDOWN = [*DOCS.rglob("*.md"), *DOCS.parent.glob("*.md")]


def test_terms_are_in_order_and_none_is_there_twice():
    names = [name.lower() for name, _, _ in TERMS]
    assert len(names) > 30
    assert names == sorted(set(names))


@pytest.mark.parametrize(("term", "link", "meaning"), TERMS, ids=[name for name, _, _ in TERMS])
def test_a_term_has_a_module_and_whole_sentences(term, link, meaning):
    assert (DOCS / link).is_file()
    assert meaning[0].isupper()
    assert meaning.endswith(".")


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(DOCS.parent)))
def test_links_between_documents_resolve(page):
    targets = re.findall(r"\]\((?!\w+:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []
