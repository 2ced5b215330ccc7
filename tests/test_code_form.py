"""The form of code that digests are taken of: what is written otherwise is the same, what computes otherwise is not."""

import ast
import hashlib
import io
import json
import tokenize
from pathlib import Path

import pytest

from csd_core.code_digest.form import form_of

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    path
    for part in ("data", "learning", "release", "retrieval", "reporting")
    for path in (ROOT / "csd_core" / part).rglob("*.py")
)


def form(text):
    return json.dumps(form_of(ast.parse(text)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 1  # why"),
        ("x = 'a'", 'x = "a"'),
        ("x = ('a' 'b')", 'x = "ab"'),
        ("f(a,\n  b,)", "f(a, b)"),
        ("x = (1 + 2)", "x = 1 + 2"),
        ("x = 1_000", "x = 1000"),
        ("x = u'a'", "x = 'a'"),
        ("def f():\n    'Say.'\n    return 1", "def f():\n    return 1"),
        ("class A:\n    'Be.'", "class A:\n    pass"),
        ("class A:\n    x: int\n    'Of x.'", "class A:\n    x: int"),
        ("'Module.'\nx = 1", "x = 1"),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import a", "from typing import TYPE_CHECKING"),
        ("if a:\n    pass\nelse:\n    b()", "if a:\n    'nothing'\nelse:\n    b()"),
        ("x = f'{a:}'", "x = f'{a}'"),
    ],
)
def test_what_is_only_written_otherwise_has_the_same_form(one, other):
    assert form(one) == form(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = '1'", "x = 1"),
        ("x = b'a'", "x = 'a'"),
        ("x = None", "x = 'None'"),
        ("x = ''", "x = None"),
        ("x = 0.1", "x = 0.10000000000000002"),
        ("return_ = a - b", "return_ = b - a"),
        ("x = a + b", "x = a - b"),
        ("x = a < b", "x = a <= b"),
        ("x = a and b", "x = a or b"),
        ("a()\nb()", "b()\na()"),
        ("def f(a=1): return a", "def f(a=2): return a"),
        ("def f(*, a=1): return a", "def f(*, a): return a"),
        ("def f(*, a=None, b): return a", "def f(*, a, b=None): return a"),
        ("def f(a, /): return a", "def f(a): return a"),
        ("def f(): return", "def f(): yield"),
        ("def f(): return g", "async def f(): return g"),
        ("x = {**a, 'b': 1}", "x = {'b': 1, **a}"),
        ("x = {None: a}", "x = {**a}"),
        ("x: int = 1", "x: float = 1"),
        ("f(a)", "f(*a)"),
        ("f(a=b)", "f(**b)"),
        ("@d\ndef f(): pass", "def f(): pass"),
        ("x = f'{a}'", "x = f'{a!r}'"),
        ("x = f'{a:.1f}'", "x = f'{a:.2f}'"),
        ("x = f'{a}b'", "x = f'{a}c'"),
        ("x = [a for a in b]", "x = [a async for a in b]"),
        ("try:\n    a()\nfinally:\n    b()", "try:\n    a()\nexcept E:\n    b()"),
        ("match a:\n    case None: b()", "match a:\n    case True: b()"),
        ("from . import a", "from .. import a"),
        ("import a as b", "import b"),
        ("global_ = x[1:]", "global_ = x[:1]"),
        ("x = lambda: 1", "x = lambda: 2"),
        ("if a:\n    b()", "if a:\n    b()\nelse:\n    c()"),
        ("for a in b:\n    c()", "while b:\n    c()"),
        ("raise A", "raise A from None"),
        ("assert a", "assert a, b"),
    ],
)
def test_what_computes_otherwise_has_another_form(one, other):
    assert form(one) != form(other)


def with_other_looks(text):
    """The same module with a comment on every line that can bear one, and a blank line at its end."""
    lines = text.splitlines()
    ends = {
        token.start[0]
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type in {tokenize.NEWLINE, tokenize.NL}
    }
    commented = [f"{line}  # seen" if number in ends and line.strip() else line for number, line in enumerate(lines, 1)]
    return "# first\n\n" + "\n".join(commented) + "\n\n"


class OtherDocstrings(ast.NodeTransformer):
    """Another docstring in everything that may have one."""

    def visit(self, node):
        self.generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [ast.Expr(ast.Constant("Something else.")), *node.body]
        return node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_comments_docstrings_and_another_formatter_leave_every_module_as_it_is(path):
    text = path.read_text(encoding="utf-8")
    before = form(text)
    assert form(with_other_looks(text)) == before
    tree = ast.fix_missing_locations(OtherDocstrings().visit(ast.parse(text)))
    assert form(ast.unparse(tree)) == before


def mutated(node):
    """Change one thing that a node computes, if it is of a kind that has such a thing."""
    before = dict(vars(node))
    match node:
        case ast.Constant(value=bool()):
            node.value = not node.value
        case ast.Constant(value=int() | float()):
            node.value = node.value + 1
        case ast.BinOp():
            node.op = ast.Div() if isinstance(node.op, ast.Sub) else ast.Sub()
        case ast.Compare():
            node.ops = [ast.IsNot() if isinstance(each, ast.LtE) else ast.LtE() for each in node.ops]
        case ast.FunctionDef(body=[_, *_, _, _]):
            node.body = [*node.body[:-2], node.body[-1], node.body[-2]]
        case ast.arguments(args=[_, _, *_]):
            node.args = [node.args[1], node.args[0], *node.args[2:]]
        case ast.Call(args=[_, *_]):
            node.args = node.args[:-1]
    return before if vars(node) != before else None


@pytest.mark.parametrize("path", MODULES[::8], ids=lambda path: str(path.relative_to(ROOT)))
def test_a_mutant_of_a_module_has_another_form(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    before, same = json.dumps(form_of(tree)), []
    nodes = list(ast.walk(tree))
    for node in nodes[:: 1 + len(nodes) // 150]:
        former = mutated(node)
        if former and json.dumps(form_of(tree)) == before:
            same.append(ast.unparse(node))
        vars(node).update(former or {})
    assert json.dumps(form_of(tree)) == before
    assert same == []


def test_the_form_is_that_of_other_pythons():
    """Syntax whose trees differ between Python 3.11 and 3.14; each of them must give this digest."""
    text = 'async def f(a, /, *, b=None):\n    "Doc."\n    x: int = -1\n    return f"{a!r:>{b}} {x}"\nclass A(B): ...\n'
    assert (
        hashlib.sha256(form(text).encode()).hexdigest()
        == "c7d9f860598e979726288512988de3d568350b2f6fa35dbf78fee22c61e08a3c"
    )
