"""Every file of the corpus gives what its manifest says: real photographs, PngSuite, and files that were broken.

The corpus is not part of the repository; without it these tests are skipped.
"""

from pathlib import Path

import pytest

from bench.fidelity_reference import build_reference, measure_psnr, read_thumbnail
from tests.imaging.fidelity import MIN_FIDELITY_DB
from tests.support.corpus import CORPUS, ROWS, needs_corpus
from tests.support.images import open_result, render, render_whole, take_only
from thumbs.domain import OutputFormat, ThumbnailSpec
from thumbs.errors import JobError

MAX_TURNED_DIFFERENCE = 12
"""Mean levels between two orientations of the same photo, which were compressed on their own and are numbered."""

TOO_LARGE = "photos/j100_flat.jpg"
"""Its reference, every pixel as three floats, takes 2 GB and 6 s; `bench.fidelity` has it."""

JUDGED = [
    row["path"]
    for row in ROWS
    if row["expected"] == "ok" and not row["path"].startswith("broken/") and row["path"] != TOO_LARGE
]


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
@pytest.mark.parametrize("path", JUDGED)
def test_thumbnail_is_faithful_to_every_pixel(path: str) -> None:
    """No file is left out: one that cannot reach the mark would have to be named here, with the reason."""
    body = (CORPUS / path).read_bytes()

    pixels = read_thumbnail(render(body, format=OutputFormat.PNG).body)

    assert measure_psnr(pixels, build_reference(body)) >= MIN_FIDELITY_DB


@needs_corpus
@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("name", ["Landscape", "Portrait"])
def test_all_eight_orientations_look_alike(name: str, orientation: int) -> None:
    folder = CORPUS / "orientation"
    first = open_result(render((folder / f"{name}_1.jpg").read_bytes())).tobytes()
    other = open_result(render((folder / f"{name}_{orientation}.jpg").read_bytes())).tobytes()

    assert sum(abs(a - b) for a, b in zip(first, other, strict=True)) / len(first) < MAX_TURNED_DIFFERENCE
