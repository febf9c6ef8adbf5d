"""Bombs of the formats that have to be asked for; with those on, broken files of any format end as they do without."""

from collections.abc import Iterator

import pytest

from tests.support.bombs import Bomb
from tests.support.corpus import CORPUS, ROWS, needs_corpus
from tests.support.decoders import build_sandbox, check_bomb, tell_code
from tests.support.images import EVERY_FORMAT
from tests.support.optional_bombs import list_optional_bombs
from thumbs.sandbox import Sandbox

MAX_CHILD_MIB = 640
"""A HEIF of 49 MP takes 424 MiB of a fresh child, for libheif's pixels, a copy and Pillow's; a used one keeps some."""

BROKEN = [row for row in ROWS if row["path"].startswith("broken/")]
OPTIONAL = [row for row in ROWS if row["path"].endswith((".tif", ".heic"))]


@pytest.fixture(scope="module")
def every() -> Iterator[Sandbox]:
    """One child for all of them and every format, with time enough on a loaded machine."""
    with build_sandbox(EVERY_FORMAT, timeout_seconds=30) as sandbox:
        yield sandbox


@pytest.mark.parametrize("bomb", list_optional_bombs(), ids=lambda bomb: bomb.name)
def test_bomb_ends_with_its_code(every: Sandbox, bomb: Bomb) -> None:
    check_bomb(every, bomb.build(), bomb.code, max_mib=MAX_CHILD_MIB)


@needs_corpus
@pytest.mark.parametrize("row", BROKEN, ids=[row["path"] for row in BROKEN])
def test_broken_file_ends_with_its_code(every: Sandbox, row: dict[str, str]) -> None:
    """A broken TIFF is unsupported in the manifest, which is for the formats that are on by default."""
    expected = "image_corrupt" if row in OPTIONAL else row["expected"]

    assert tell_code(every, (CORPUS / row["path"]).read_bytes()) == expected


@needs_corpus
@pytest.mark.parametrize("row", [row for row in OPTIONAL if row not in BROKEN], ids=lambda row: row["path"])
def test_photo_of_the_corpus_is_decoded(every: Sandbox, row: dict[str, str]) -> None:
    assert tell_code(every, (CORPUS / row["path"]).read_bytes()) == "ok"
