"""Which modules a module of the package imports, read from its source without importing it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sglang_glm52"


def sources(where: str = "") -> list[Path]:
    """The Python files of a folder, or the one file at `where` (without .py), relative to the package; may be none."""
    path = PACKAGE / where
    return sorted(path.rglob("*.py")) if path.is_dir() else [f for f in [path.with_suffix(".py")] if f.is_file()]


def imported_names(file: Path, *, at_import_only: bool = False) -> set[str]:
    """Dotted names that `file` imports; with `at_import_only`, without those inside functions.

    Imports under `if TYPE_CHECKING:` never run and are left out.
    """
    tree = ast.parse(file.read_text(), file)
    return {name for node in _nodes(tree, at_import_only) for name in _names(node)}


def closure(file: Path, *, at_import_only: bool = False) -> set[str]:
    """Names that importing `file` imports, through this package's own modules as well."""
    seen: set[Path] = set()
    found: set[str] = set()
    waiting = [file]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        names = imported_names(current, at_import_only=at_import_only)
        found |= names
        waiting += [path for name in names for path in _own_files(name)]
    return found


def _nodes(tree: ast.AST, at_import_only: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "__name__ == '__main__'"):
            continue
        yield node
        yield from _nodes(node, at_import_only)


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"relative import at line {node.lineno}: write the whole name"
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _own_files(name: str) -> Iterator[Path]:
    """Files that run when `name` of this package is imported: the module and the packages above it."""
    parts = name.split(".")
    if parts[0] != PACKAGE.name:
        return
    for length in range(1, len(parts) + 1):
        path = ROOT.joinpath(*parts[:length])
        yield from (file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file())
