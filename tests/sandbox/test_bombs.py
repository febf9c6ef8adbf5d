"""Bombs come to their end quickly and in little memory, and the next image is done by the same child."""

from collections.abc import Iterator

import pytest

from tests.support.bombs import Bomb, list_bombs
from tests.support.corpus import CORPUS, ROWS, needs_corpus
from tests.support.decoders import RED_PNG, build_sandbox, check_bomb, list_decoders, render_in, tell_code
from thumbs.sandbox import Sandbox

MAX_CHILD_MIB = 512
"""Half of what a child may have; a WebP of 16 MP takes most, four times its pixels."""

BROKEN = [row for row in ROWS if row["path"].startswith("broken/")]


@pytest.fixture(scope="module")
def single() -> Iterator[Sandbox]:
    """One child for all of them, with time enough on a loaded machine."""
    with build_sandbox(timeout_seconds=30) as sandbox:
        yield sandbox


@pytest.mark.parametrize("bomb", list_bombs(), ids=lambda bomb: bomb.name)
def test_bomb_ends_with_its_code(single: Sandbox, bomb: Bomb) -> None:
    check_bomb(single, bomb.build(), bomb.code, max_mib=MAX_CHILD_MIB)


@needs_corpus
@pytest.mark.parametrize("row", BROKEN, ids=[row["path"] for row in BROKEN])
def test_broken_file_ends_with_its_code(single: Sandbox, row: dict[str, str]) -> None:
    before = list_decoders()

    assert tell_code(single, (CORPUS / row["path"]).read_bytes()) == row["expected"]

    assert render_in(single, RED_PNG).dominant_color == "#ff0000"
    assert list_decoders() == before
