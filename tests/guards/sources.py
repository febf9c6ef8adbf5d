"""What the guards read: our own files."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def list_modules() -> list[Path]:
    """List every module of the package, and the two beside it."""
    return [*sorted((ROOT / "thumbs").rglob("*.py")), ROOT / "tasks.py", ROOT / "wsgi.py"]


def list_test_modules() -> list[Path]:
    """List every module under tests/."""
    return sorted((ROOT / "tests").rglob("*.py"))


@functools.cache
def parse(path: Path) -> ast.Module:
    """Parse a module."""
    return ast.parse(path.read_text(encoding="utf-8"))


def walk_functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Walk every function and method."""
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def read_page(name: str) -> str:
    """Read a page of the documentation, or README.md."""
    return (ROOT / name).read_text(encoding="utf-8")


def name_module(path: Path) -> str:
    """Name a module for people: its path in the repository."""
    return str(path.relative_to(ROOT))
