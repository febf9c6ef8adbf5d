"""A progressive JPEG gives the same thumbnail from its first scans, and what is unusual is read in full."""

from io import BytesIO

import pytest
from PIL import Image

from tests.imaging.fidelity import MIN_FIDELITY_DB, build_signs, measure_fidelity_db
from tests.support.corpus import CORPUS, needs_corpus
from tests.support.images import encode, open_result, render, render_whole
from thumbs.domain import OutputFormat, ThumbnailSpec
from thumbs.errors import ImageCorrupt
from thumbs.imaging.geometry import make_plan
from thumbs.imaging.progressive import select_scans
from thumbs.imaging.sniff import JPEG
from thumbs.imaging.structure import measure

SIGNS = build_signs()


def encode_signs(subsampling: int = 2, mode: str = "RGB") -> bytes:
    return encode(SIGNS.convert(mode), "JPEG", progressive=True, quality=85, subsampling=subsampling)


def select(body: bytes, side: int = 60) -> bytes | None:
    size = Image.open(BytesIO(body)).size
    header = measure(body, JPEG)
    plan = make_plan(size, ThumbnailSpec(width=side, height=side), is_turned=False, is_scalable=header.is_scalable)
    return select_scans(body, header, plan)


def count_scans(body: bytes) -> int:
    return body.count(b"\xff\xda")


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("side", [30, 41, 60, 83, 100, 160])
def test_selected_scans_are_faithful_to_the_whole_file(side: int, subsampling: int) -> None:
    """At 1/4 and 1/8, and on both sides of where the means of subsampled colours are enough."""
    body = encode_signs(subsampling)

    assert select(body, side)
    assert measure_fidelity_db(body, side) > MIN_FIDELITY_DB


def test_selected_scans_of_grey_are_faithful_to_the_whole_file() -> None:
    body = encode_signs(mode="L")

    assert all(measure_fidelity_db(body, side) > MIN_FIDELITY_DB for side in (60, 120))


@pytest.mark.parametrize(("side", "scans"), [(30, 1), (60, 3), (120, 4)])
def test_only_the_scans_that_count_are_kept(side: int, scans: int) -> None:
    """All means; from a shrink of less than 24 on, the coarse pattern of subsampled colours; at 1/4, of all."""
    body = encode_signs()

    selected = select(body, side)

    assert selected
    assert count_scans(selected) == scans
    assert len(selected) < len(body) / 2


def test_thumbnail_of_a_multi_picture_progressive_jpeg_is_its_first() -> None:
    second = Image.new("RGB", SIGNS.size, "white")
    body = encode(SIGNS, "MPO", save_all=True, append_images=[second], progressive=True, quality=85)

    assert select(body)
    assert measure_fidelity_db(body, 60) > MIN_FIDELITY_DB


def test_libjpeg_does_not_guess_what_the_scans_leave_out() -> None:
    """A zero among the quantisers of the unused coefficients stops it; the mean's quantiser stays."""
    body = encode_signs()
    selected = select(body, side=30)

    assert selected
    tables = Image.open(BytesIO(body)).quantization  # type: ignore[attr-defined]
    found = Image.open(BytesIO(selected)).quantization  # type: ignore[attr-defined]
    for name, table in tables.items():
        differing = [place for place in range(64) if found[name][place] != table[place]]
        assert len(differing) == 1
        assert differing != [0]


def test_larger_thumbnail_takes_the_whole_file() -> None:
    assert select(encode_signs(), side=400) is None


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_progressive_jpeg_without_its_end_is_corrupt(share: float) -> None:
    """However much more of it there is than the thumbnail needs."""
    body = encode_signs()

    with pytest.raises(ImageCorrupt):
        render(body[: int(len(body) * share)], width=30, height=30)


def test_bytes_behind_the_end_do_no_harm() -> None:
    body = encode_signs()

    assert select(body + b"\xff\xda\0\0 anything") == select(body)


def put_before(body: bytes, scan: int, segment: bytes) -> bytes:
    """Insert a segment before a scan."""
    place = 0
    for _ in range(scan):
        place = body.index(b"\xff\xda", place + 1)
    return body[:place] + segment + body[place:]


SIGNS_JPEG = encode_signs()
FIRST_SCAN = SIGNS_JPEG.index(b"\xff\xda")
FRAME = SIGNS_JPEG.index(b"\xff\xc2")
TABLE = SIGNS_JPEG[SIGNS_JPEG.index(b"\xff\xdb") :][: 2 + 67]
UNUSUAL = {
    "baseline": encode(SIGNS, "JPEG"),
    "CMYK": encode(SIGNS.convert("CMYK"), "JPEG", progressive=True),
    "RGB": encode(SIGNS, "JPEG", progressive=True, keep_rgb=True),
    "RGB by Adobe's mark": put_before(SIGNS_JPEG, 1, b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\0"),
    "12 bits": SIGNS_JPEG[: FRAME + 4] + b"\x0c" + SIGNS_JPEG[FRAME + 5 :],
    "arithmetic": SIGNS_JPEG.replace(b"\xff\xc2", b"\xff\xca", 1),
    "two frames": put_before(SIGNS_JPEG, 1, SIGNS_JPEG[FRAME : FRAME + 19]),
    "frame cut off": b"\xff\xd8\xff\xc2\0\x04\x08\0\xff\xda\0\x02\xff\xd9",
    "quantiser between scans": put_before(SIGNS_JPEG, 2, TABLE),
    "no mean before the pattern": put_before(SIGNS_JPEG, 1, b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0"),
    "mean and pattern in one": SIGNS_JPEG[: FIRST_SCAN + 12] + b"\x3f" + SIGNS_JPEG[FIRST_SCAN + 13 :],
    "scan of no component": put_before(SIGNS_JPEG, 2, b"\xff\xda\0\x06\0\x01\x3f\0"),
    "scan of another component": put_before(SIGNS_JPEG, 2, b"\xff\xda\0\x08\x01\x09\0\x01\x3f\0"),
    "end before the scans": put_before(SIGNS_JPEG, 2, b"\xff\xd9"),
}


@pytest.mark.parametrize("body", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_file_is_read_in_full(body: bytes) -> None:
    header = measure(body, JPEG)
    plan = make_plan(SIGNS.size, ThumbnailSpec(width=60, height=60), is_turned=False, is_scalable=True)

    assert select_scans(body, header, plan) is None


def test_profile_and_orientation_still_come_from_the_file() -> None:
    body = encode(
        SIGNS, "JPEG", progressive=True, exif=b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    )

    assert open_result(render(body, width=30, height=60, format=OutputFormat.PNG)).size == (30, 60)
    assert render_whole(body, width=30, height=60).source_width == SIGNS.height


@needs_corpus
@pytest.mark.parametrize("name", ["p02_photo.jpg", "p12_canon450d.jpg"])
def test_progressive_photo_is_faithful(name: str) -> None:
    body = (CORPUS / "photos" / name).read_bytes()
    selected = select(body, side=100)

    assert selected
    assert len(selected) < 0.2 * len(body)
    assert measure_fidelity_db(body) > MIN_FIDELITY_DB
