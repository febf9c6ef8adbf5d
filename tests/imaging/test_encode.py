"""The thumbnail's bytes: the right format, nothing of the source's metadata, the same every time."""

from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from tests.support.images import RED, build_exif, build_photo, build_rgb_profile, encode, open_result, render
from thumbs.domain import OutputFormat

HALF_CLEAR = Image.new("RGBA", (200, 200), (*RED, 128))
OPAQUE_RGBA = Image.new("RGBA", (200, 200), (*RED, 255))
OUTPUTS = [OutputFormat.JPEG, OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.AVIF]
SECRET = "taken at home"


def build_talkative(image_format: str) -> bytes:
    """Build a picture with every kind of metadata that its format takes."""
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", SECRET)
    image = build_photo()
    exif = build_exif(1)
    profile = build_rgb_profile()
    options: dict[str, dict[str, Any]] = {
        "JPEG": {"comment": SECRET, "dpi": (300, 300)},
        "PNG": {"pnginfo": text, "dpi": (300, 300)},
    }
    return encode(
        image, image_format, exif=exif, icc_profile=profile, xmp=SECRET.encode(), **options.get(image_format, {})
    )


@pytest.mark.parametrize(
    ("image", "content_type"),
    [(HALF_CLEAR, "image/png"), (OPAQUE_RGBA, "image/jpeg"), (Image.new("RGB", (9, 9)), "image/jpeg")],
    ids=["transparent", "alpha channel that hides nothing", "no alpha channel"],
)
def test_auto_is_png_only_where_something_is_transparent(image: Image.Image, content_type: str) -> None:
    assert render(encode(image, "PNG")).content_type == content_type


@pytest.mark.parametrize("output", OUTPUTS)
def test_asked_format_is_what_comes_out(output: OutputFormat) -> None:
    picture = render(encode(build_photo(), "PNG"), format=output)

    assert picture.content_type == f"image/{output}"
    assert open_result(picture).format == output.name


@pytest.mark.parametrize("source", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_no_metadata_comes_along(source: str, output: OutputFormat) -> None:
    picture = render(build_talkative(source), format=output)

    assert not {"exif", "icc_profile", "xmp", "comment", "dpi", "Comment"} & set(open_result(picture).info)
    assert not any(name in picture.body for name in (b"Exif", b"ICC", b"iCCP", b"<x:", SECRET.encode()))


def test_comment_of_a_gif_does_not_come_along() -> None:
    body = encode(build_photo().quantize(16), "GIF", comment=SECRET)

    for output in OUTPUTS:
        assert SECRET.encode() not in render(body, format=output).body


def test_jpeg_is_baseline_with_halved_chroma() -> None:
    image = open_result(render(encode(build_photo(), "PNG")))

    assert "progressive" not in image.info
    assert [component[1:3] for component in getattr(image, "layer", [])] == [(2, 2), (1, 1), (1, 1)]


@pytest.mark.parametrize("output", [OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.AVIF])
def test_quality_is_obeyed(output: OutputFormat) -> None:
    body = encode(build_photo(), "PNG")

    assert len(render(body, format=output, quality=20).body) < len(render(body, format=output, quality=95).body)


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("source", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF"])
def test_same_bytes_and_spec_give_the_same_thumbnail(source: str, output: OutputFormat) -> None:
    body = encode(build_photo(), source)

    assert render(body, format=output) == render(body, format=output)
