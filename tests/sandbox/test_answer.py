"""What imaging makes is believed, whatever was asked; what it would never make is not."""

import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from PIL import Image

from tests.support.images import EVERY_FORMAT, RED, build_photo, encode, render_whole, take_only
from thumbs.domain import DecodeLimits, Fit, OutputFormat, Step, ThumbnailSpec
from thumbs.errors import ImageTooLarge, JobError, RenderFailed, SourceForbidden
from thumbs.imaging import make_thumbnails
from thumbs.sandbox.answer import check_rendering, pack_answer, parse_answer

LIMITS = DecodeLimits()
SPEC = ThumbnailSpec()
SOURCES = {
    "photo": build_photo(),
    "one px": Image.new("RGB", (1, 1), RED),
    "line": Image.new("RGB", (3000, 1), RED),
    "column": Image.new("RGBA", (1, 3000), (*RED, 40)),
    "clear": Image.new("RGBA", (20, 20), (0, 0, 0, 0)),
}
RENDERING = render_whole(encode(build_photo(), "PNG"))
PICTURE = take_only(RENDERING)


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("output", list(OutputFormat))
def test_what_imaging_makes_is_believed(source: Image.Image, fit: Fit, output: OutputFormat) -> None:
    spec = ThumbnailSpec(width=70, height=20, fit=fit, format=output)
    rendering = make_thumbnails(encode(source, "PNG"), [spec], LIMITS)

    members, body = pack_answer(rendering)

    check_rendering(rendering, [spec], LIMITS)
    assert json.loads(json.dumps(members)) == members
    assert parse_answer(members.pop("kind"), members, body) == rendering


def test_several_pictures_keep_their_order_and_their_bytes() -> None:
    specs = [ThumbnailSpec(), ThumbnailSpec(width=300), ThumbnailSpec(format=OutputFormat.WEBP)]
    made = make_thumbnails(encode(build_photo(), "PNG"), specs, LIMITS)
    with_error = replace(made, pictures=(made.pictures[0], RenderFailed("no encoder"), made.pictures[2]))

    members, body = pack_answer(with_error)
    found = parse_answer(members.pop("kind"), members, body)

    assert isinstance(found, type(made))
    check_rendering(found, specs, LIMITS)
    assert (found.pictures[0], found.pictures[2]) == (made.pictures[0], made.pictures[2])
    assert isinstance(found.pictures[1], RenderFailed)
    assert found.pictures[1].detail == "no encoder"


@pytest.mark.parametrize("source_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_source_of_each_format_is_believed(source_format: str) -> None:
    check_rendering(render_whole(encode(build_photo(), source_format), EVERY_FORMAT), [SPEC], EVERY_FORMAT)


@pytest.mark.parametrize("source_format", ["TIFF", "HEIF"])
def test_source_of_a_format_that_was_not_asked_for_is_not_believed(source_format: str) -> None:
    with pytest.raises(ValueError, match="content type"):
        check_rendering(render_whole(encode(build_photo(), source_format), EVERY_FORMAT), [SPEC], LIMITS)


def test_hash_is_the_parents_own() -> None:
    changed = replace(PICTURE, body=PICTURE.body + b"x")
    members, body = pack_answer(replace(RENDERING, pictures=(changed,)))

    found = parse_answer(members.pop("kind"), members, body)

    assert found == replace(RENDERING, pictures=(replace(changed, sha256=sha256(body).hexdigest()),))


@pytest.mark.parametrize("size_bytes", [-1, len(PICTURE.body) - 1, len(PICTURE.body) + 1])
def test_bytes_of_the_pictures_have_to_add_up(size_bytes: int) -> None:
    members, body = pack_answer(RENDERING)
    members["pictures"][0]["bytes"] = size_bytes

    with pytest.raises(ValueError, match="bytes"):
        parse_answer(members.pop("kind"), members, body)


@pytest.mark.parametrize("error", [ImageTooLarge(), RenderFailed()])
def test_error_of_one_picture_is_believed(error: JobError) -> None:
    check_rendering(replace(RENDERING, pictures=(error,)), [SPEC], LIMITS)


def test_error_that_is_not_a_decoders_to_name_is_not_believed() -> None:
    members, body = pack_answer(replace(RENDERING, pictures=(SourceForbidden(),)))

    with pytest.raises(ValueError, match="error"):
        parse_answer(members.pop("kind"), members, body)


@pytest.mark.parametrize(
    ("spec", "changes"),
    [
        (SPEC, {"body": b""}),
        (SPEC, {"content_type": "image/webp"}),
        (SPEC, {"content_type": "text/html"}),
        (ThumbnailSpec(format=OutputFormat.WEBP), {"content_type": "image/png"}),
        (SPEC, {"width": 99}),
        (SPEC, {"height": 101}),
        (ThumbnailSpec(fit=Fit.INSIDE), {"width": 101}),
        (ThumbnailSpec(fit=Fit.INSIDE), {"height": 0}),
        (ThumbnailSpec(fit=Fit.INSIDE), {"width": -100}),
        (SPEC, {"thumbhash": ""}),
        (SPEC, {"thumbhash": "A" * 16}),
        (SPEC, {"thumbhash": "A" * 36}),
        (SPEC, {"thumbhash": "<img src=x>"}),
        (SPEC, {"thumbhash": PICTURE.thumbhash + "\n"}),
        (SPEC, {"dominant_color": "#FF0000"}),
        (SPEC, {"dominant_color": "#ff0000;"}),
        (SPEC, {"dominant_color": "red"}),
    ],
)
def test_picture_that_imaging_would_not_make_is_not_believed(spec: ThumbnailSpec, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        check_rendering(replace(RENDERING, pictures=(replace(PICTURE, **changes),)), [spec], LIMITS)


@pytest.mark.parametrize(
    "changes",
    [
        {"source_content_type": "image/tiff"},
        {"source_content_type": ""},
        {"source_width": 0},
        {"source_height": -1},
        {"source_width": 30_001},
        {"source_width": 20_000, "source_height": 10_001},
        {"source_width": 10**4000},
        {"pictures": ()},
        {"pictures": (PICTURE, PICTURE)},
        {"steps": (Step("\x1b[31m", 1.0, 1, 1),)},
        {"steps": (Step("decode", float("nan"), 1, 1),)},
        {"steps": (Step("decode", 1.0, -1, 1),)},
    ],
)
def test_source_that_cannot_be_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        check_rendering(replace(RENDERING, **changes), [SPEC], LIMITS)


def test_format_that_is_not_accepted_is_not_believed() -> None:
    with pytest.raises(ValueError, match="content type"):
        check_rendering(RENDERING, [SPEC], DecodeLimits(formats=frozenset({"jpeg"})))


def test_answer_of_an_unknown_kind_is_none() -> None:
    with pytest.raises(ValueError, match="kind"):
        parse_answer("pickle", {}, b"")
