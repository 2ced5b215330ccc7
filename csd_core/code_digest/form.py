"""The form of Python code that its digest is taken of: what it computes, not how it is written.

Comments, docstrings, formatting and `pass` are no part of it, nor is what only a type checker reads. It is equal under
every Python that csd runs on, which `ast.dump` is not: node types and fields are written out here, and those that are
empty are left out, for newer Pythons have fields that older ones lack.
"""

import ast
from collections.abc import Iterator
from typing import Any

LEFT_OUT = frozenset({"ctx", "kind", "type_comment", "type_ignores"})
"""Fields that follow from the rest, or say nothing."""

BLOCKS = frozenset({"body", "orelse", "finalbody"})
"""Fields that hold statements."""

Form = Any
"""Nested lists of names and texts, as JSON has them."""


def form_of(tree: ast.AST) -> Form:
    """Return the form of a parsed module, or of a part of it."""
    if isinstance(tree, ast.Constant):
        return ["Constant", type(tree.value).__name__, repr(tree.value)]
    if isinstance(tree, ast.JoinedStr):
        return ["JoinedStr", *map(form_of, _pieces(tree))]
    fields = []
    for name, value in ast.iter_fields(tree):
        if name in LEFT_OUT or value is None or value == [] or (name == "format_spec" and not _pieces(value)):
            continue
        fields.append([name, _form(_saying(value) if name in BLOCKS and isinstance(value, list) else value)])
    return [type(tree).__name__, *fields]


def _form(value: Any) -> Form:
    if isinstance(value, ast.AST):
        return form_of(value)
    if isinstance(value, list):
        return [_form(each) for each in value]
    return value if value is None else str(value)


def _pieces(text: ast.JoinedStr) -> list[ast.expr]:
    """The pieces of an f-string that have a character or a value; Pythons differ in whether they write others."""
    return [each for each in text.values if not (isinstance(each, ast.Constant) and each.value == "")]


def _saying(block: list[ast.stmt]) -> list[ast.stmt]:
    return [statement for statement in block if not _says_nothing(statement)]


def _says_nothing(statement: ast.stmt) -> bool:
    """Return whether it is a docstring, another bare text, `pass`, or an import for a type checker."""
    match statement:
        case ast.Pass() | ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=[]):
            return True
    return False


def imports_of(tree: ast.AST, *, inside_functions: bool = True) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports of code, but for those that only a type checker reads.

    Args:
        tree: The code.
        inside_functions: Also those of functions, which run when the function is called.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt) and _says_nothing(node):
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif inside_functions or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports_of(node, inside_functions=inside_functions)
