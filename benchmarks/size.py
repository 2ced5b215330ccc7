"""How large the house is, beside what it should be: lines, modules and packages. `make check` holds the way of imports.

python benchmarks/size.py
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("csd_core", "flows", "benchmarks", "tests")
LINES, PACKAGE, MODULE = 26_000, 15, 300
"""At most so many lines of csd_core and flows, modules of a package, and lines of a module."""
QUIET = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}


def kinds(file: Path) -> Counter[str]:
    """Return the lines of a module: all, those of code, and those of docstrings."""
    text = file.read_text(encoding="utf-8")
    said = {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    busy = {line for each in tokens if each.type not in QUIET for line in range(each.start[0], each.end[0] + 1)}
    return Counter(all=len(text.splitlines()), code=len(busy - said), docstrings=len(said))


def main() -> None:
    """Print the figures."""
    modules = {top: sorted((ROOT / top).rglob("*.py")) for top in SOURCES}
    for top, files in modules.items():
        found = sum((kinds(file) for file in files), Counter[str]())
        print(
            f"{top:12} {len(files):4} modules  {found['all']:6,} lines: {found['code']:,} of code, "
            f"{found['docstrings']:,} of docstrings"
        )
    source = [file for top in ("csd_core", "flows") for file in modules[top]]
    lengths = {file.relative_to(ROOT): len(file.read_text(encoding="utf-8").splitlines()) for file in source}
    packages = Counter(file.parent for file in lengths if file.name != "__init__.py")
    longer = {file: lines for file, lines in lengths.items() if lines > MODULE}
    bare = [
        file for file in source if file.name == "__init__.py" and ast.get_docstring(ast.parse(file.read_text())) is None
    ]
    ((largest, most),) = packages.most_common(1)
    print(f"lines of source     {sum(lengths.values()):,} (at most {LINES:,})")
    print(f"largest package     {most} modules, {largest} (at most {PACKAGE})")
    print(f"modules over {MODULE}    {len(longer)}:", *(f"{file} {lines}" for file, lines in sorted(longer.items())))
    print(f"packages that do not say what belongs there  {len(bare)}")


if __name__ == "__main__":
    main()
