"""Small, flat, boring: the sizes and names that docs/architecture.md promises."""

import ast
from pathlib import Path
from statistics import median, quantiles

import pytest

from tests.guards.sources import list_modules, list_test_modules, name_module, parse, walk_functions

MAX_MODULE_LINES = 400
MEDIAN_LINES, P90_LINES, MAX_LINES = 8, 25, 50
"""Of functions, without their docstrings."""
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "core", "base", "manager", "misc"}


def count_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a function from `def` to its end, without its docstring."""
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function) is None:
        return lines
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1)


def measure_functions() -> dict[str, int]:
    return {
        f"{name_module(path)}:{function.lineno} {function.name}": count_lines(function)
        for path in list_modules()
        for function in walk_functions(parse(path))
        if "migrations/versions" not in str(path)
    }


@pytest.mark.parametrize("path", list_modules(), ids=name_module)
def test_module_is_not_longer_than_it_can_be_read(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MAX_MODULE_LINES


def test_functions_fit_without_scrolling() -> None:
    assert {name: lines for name, lines in measure_functions().items() if lines > MAX_LINES} == {}


def test_functions_are_short_on_the_whole() -> None:
    lines = list(measure_functions().values())
    assert median(lines) <= MEDIAN_LINES
    assert quantiles(lines, n=10)[-1] <= P90_LINES


def test_no_module_has_a_name_that_says_nothing() -> None:
    parts = {part for path in list_modules() for part in path.with_suffix("").parts[-3:]}
    assert parts & BANNED_NAMES == set()


@pytest.mark.parametrize("path", list_modules(), ids=name_module)
def test_every_public_thing_says_in_a_sentence_what_it_is_for(path: Path) -> None:
    tree = parse(path)
    public = [
        node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")
    ]
    assert ast.get_docstring(tree)
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", list_test_modules(), ids=name_module)
def test_every_module_of_tests_says_which_rules_it_holds(path: Path) -> None:
    tree = parse(path)
    assert ast.get_docstring(tree) or not tree.body


def test_no_test_mocks_or_patches() -> None:
    """Fakes are small real implementations; setting a variable of the environment is no patch."""
    banned = ("unittest" + ".mock", "mock" + "er", "monkeypatch" + ".setattr", "monkeypatch" + ".setitem")
    texts = {name_module(path): path.read_text(encoding="utf-8") for path in list_test_modules()}
    assert [name for name, text in texts.items() if any(word in text for word in banned)] == []
