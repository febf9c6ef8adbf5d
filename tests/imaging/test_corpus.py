"""Every file of the corpus gives what its manifest says: real photographs, PngSuite, and files that were broken.

The corpus is not part of the repository; without it these tests are skipped.
"""

from pathlib import Path

import pytest

from tests.support.corpus import CORPUS, ROWS, needs_corpus
from tests.support.images import open_result, render, render_whole, take_only
from thumbs.domain import ThumbnailSpec
from thumbs.errors import JobError

MAX_TURNED_DIFFERENCE = 12
"""Mean levels between two orientations of the same photo, which were compressed on their own and are numbered."""


@needs_corpus
@pytest.mark.parametrize("row", ROWS, ids=[row["path"] for row in ROWS])
def test_file_gives_what_the_manifest_says(row: dict[str, str]) -> None:
    found, size = render_row(CORPUS / row["path"])

    assert found == row["expected"]
    if size and row["size"]:
        # The manifest tells sizes as stored, which differ by a quarter turn from those displayed.
        assert sorted(size) == sorted(int(side) for side in row["size"].split("x"))


def render_row(path: Path) -> tuple[str, tuple[int, int] | None]:
    try:
        rendering = render_whole(path.read_bytes())
        picture = take_only(rendering)
    except JobError as error:
        return error.code, None
    assert open_result(picture).size == (ThumbnailSpec().width, ThumbnailSpec().height)
    return "ok", (rendering.source_width, rendering.source_height)


@needs_corpus
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_all_eight_orientations_look_alike(name: str, orientation: int) -> None:
    folder = CORPUS / "orientation"
    first = open_result(render((folder / f"{name}_1.jpg").read_bytes())).tobytes()
    other = open_result(render((folder / f"{name}_{orientation}.jpg").read_bytes())).tobytes()

    assert sum(abs(a - b) for a, b in zip(first, other, strict=True)) / len(first) < MAX_TURNED_DIFFERENCE
