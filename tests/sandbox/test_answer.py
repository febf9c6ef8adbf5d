"""What imaging makes is believed, whatever was asked; what it would never make is not."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from PIL import Image

from tests.support.images import RED, build_photo, encode, render
from thumbs.domain import DecodeLimits, Fit, OutputFormat, ThumbnailSpec
from thumbs.sandbox.answer import check_picture, pack_answer, parse_answer

LIMITS = DecodeLimits()
SPEC = ThumbnailSpec()
SOURCES = {
    "photo": build_photo(),
    "one px": Image.new("RGB", (1, 1), RED),
    "line": Image.new("RGB", (3000, 1), RED),
    "column": Image.new("RGBA", (1, 3000), (*RED, 40)),
    "clear": Image.new("RGBA", (20, 20), (0, 0, 0, 0)),
}
PICTURE = render(encode(build_photo(), "PNG"))


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
@pytest.mark.parametrize("fit", list(Fit))
@pytest.mark.parametrize("output", list(OutputFormat))
def test_what_imaging_makes_is_believed(source: Image.Image, fit: Fit, output: OutputFormat) -> None:
    spec = ThumbnailSpec(width=70, height=20, fit=fit, format=output)
    picture = render(encode(source, "PNG"), width=70, height=20, fit=fit, format=output)

    members, body = pack_answer(picture)

    check_picture(picture, spec, LIMITS)
    assert parse_answer(members.pop("kind"), members, body) == picture


@pytest.mark.parametrize("source_format", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF"])
def test_source_of_each_format_is_believed(source_format: str) -> None:
    check_picture(render(encode(build_photo(), source_format)), SPEC, LIMITS)


def test_hash_is_the_parents_own() -> None:
    members, body = pack_answer(PICTURE)

    found = parse_answer(members.pop("kind"), members, body + b"x")

    assert found == replace(PICTURE, body=body + b"x", sha256=sha256(body + b"x").hexdigest())


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
        (SPEC, {"source_content_type": "image/tiff"}),
        (SPEC, {"source_content_type": ""}),
        (SPEC, {"source_width": 0}),
        (SPEC, {"source_height": -1}),
        (SPEC, {"source_width": 30_001}),
        (SPEC, {"source_width": 20_000, "source_height": 10_001}),
        (SPEC, {"source_width": 10**4000}),
    ],
)
def test_what_imaging_would_not_make_is_not_believed(spec: ThumbnailSpec, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        check_picture(replace(PICTURE, **changes), spec, LIMITS)


def test_format_that_is_not_accepted_is_not_believed() -> None:
    with pytest.raises(ValueError, match="content type"):
        check_picture(PICTURE, SPEC, DecodeLimits(formats=frozenset({"jpeg"})))


def test_answer_of_an_unknown_kind_is_none() -> None:
    with pytest.raises(ValueError, match="kind"):
        parse_answer("pickle", {}, b"")
