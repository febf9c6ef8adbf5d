"""Who may import whom is written in setup.cfg and holds; imports stand at the top, or say why they do not."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.guards.sources import ROOT, list_modules, name_module, parse, walk_functions

REASONS = ("optional dependency", "child process only", "opens the queues")


def test_every_import_is_one_that_the_layers_allow() -> None:
    """In a process of its own: import-linter takes logging and the import path for itself."""
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout


def list_late_imports(path: Path) -> list[ast.stmt]:
    return [
        node
        for function in walk_functions(parse(path))
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]


def has_reason(path: Path, line_number: int) -> bool:
    """Tell whether the line, or the comment right above it, gives one of the reasons."""
    lines = path.read_text(encoding="utf-8").splitlines()[:line_number]
    told = [lines.pop()]
    while lines and lines[-1].strip().startswith("#"):
        told.append(lines.pop())
    return any("#" in line and reason in line.lower() for line in told for reason in REASONS)


@pytest.mark.parametrize("path", list_modules(), ids=name_module)
def test_import_inside_a_function_says_why(path: Path) -> None:
    assert [node.lineno for node in list_late_imports(path) if not has_reason(path, node.lineno)] == []
