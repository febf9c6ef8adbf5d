"""Bombs come to their end quickly and in little memory, and the next image is done by the same child."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bombs import Bomb, list_bombs
from tests.support.corpus import CORPUS, ROWS, needs_corpus
from tests.support.decoders import RED_PNG, build_sandbox, list_decoders, render_in
from thumbs.errors import JobError
from thumbs.sandbox import Sandbox

MAX_CHILD_MIB = 512
"""Half of what a child may have; a WebP of 16 MP takes most, four times its pixels."""

BROKEN = [row for row in ROWS if row["path"].startswith("broken/")]


@pytest.fixture(scope="module")
def single() -> Iterator[Sandbox]:
    """One child for all of them, with time enough on a loaded machine."""
    with build_sandbox(timeout_seconds=30) as sandbox:
        yield sandbox


def tell_code(sandbox: Sandbox, body: bytes) -> str:
    """Render, and tell the error's code, or ok."""
    try:
        render_in(sandbox, body)
    except JobError as error:
        return error.code
    return "ok"


def read_peak_mib(pid: int) -> int:
    """Read the most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


@pytest.mark.parametrize("bomb", list_bombs(), ids=lambda bomb: bomb.name)
def test_bomb_ends_with_its_code(single: Sandbox, bomb: Bomb) -> None:
    render_in(single, RED_PNG)
    before = list_decoders()

    assert tell_code(single, bomb.build()) == bomb.code

    assert render_in(single, RED_PNG).dominant_color == "#ff0000"
    assert list_decoders() == before, "no child died of it"
    assert all(read_peak_mib(child.pid) < MAX_CHILD_MIB for child in before)


@needs_corpus
@pytest.mark.parametrize("row", BROKEN, ids=[row["path"] for row in BROKEN])
def test_broken_file_ends_with_its_code(single: Sandbox, row: dict[str, str]) -> None:
    before = list_decoders()

    assert tell_code(single, (CORPUS / row["path"]).read_bytes()) == row["expected"]

    assert render_in(single, RED_PNG).dominant_color == "#ff0000"
    assert list_decoders() == before
