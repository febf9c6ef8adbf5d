"""Formats that are not on the list are not decoded: not under another name, and not behind another one's signature."""

from collections.abc import Iterator

import pytest
from PIL import Image

from tests.support.decoders import build_sandbox, render_in, render_whole_in
from tests.support.images import EVERY_FORMAT, PNG_SIGNATURE, build_photo, encode
from thumbs.domain import DecodeLimits
from thumbs.errors import DecodeError, ImageCorrupt, ImageTooLarge, UnsupportedFormat
from thumbs.sandbox import Sandbox

PHOTO = build_photo(48, 48)
OTHERS = ["DDS", "EPS", "ICNS", "ICO", "JPEG2000", "PCX", "PDF", "PPM", "QOI", "SGI", "SPIDER", "TGA", "TIFF"]
"""What Pillow can write, and mostly read; EPS it would hand to Ghostscript."""

MODES = {"SPIDER": "F"}

TEXTS = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg' width='1' height='1'/>",
    "svg behind a declaration": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "html": b"<!doctype html><img src=x>",
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\1\0\0\0\1\0\x08\0\3" + bytes(30),
    "xbm": b"#define a_width 1\n#define a_height 1\nstatic char a_bits[] = { 0x00 };",
    "wmf": b"\xd7\xcd\xc6\x9a" + bytes(80),
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(80),
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(80),
    "avif behind a byte": b"\0" + encode(PHOTO, "AVIF"),
    "jpeg behind a line": b"\n" + encode(PHOTO, "JPEG"),
}

SIGNATURES = {
    "jpeg": b"\xff\xd8\xff\xe0",
    "png": PNG_SIGNATURE,
    "gif": b"GIF89a",
    "bmp": b"BM",
    "webp": b"RIFF\xff\0\0\0WEBPVP8 ",
    "avif": b"\0\0\0\x14ftypavif\0\0\0\0avif",
}


@pytest.mark.parametrize("name", OTHERS)
def test_format_that_is_not_on_the_list_is_unsupported(shared: Sandbox, name: str) -> None:
    body = encode(PHOTO.convert(MODES.get(name, "RGB")), name)

    with pytest.raises(UnsupportedFormat):
        render_in(shared, body)


@pytest.mark.parametrize("body", TEXTS.values(), ids=TEXTS.keys())
def test_what_only_looks_like_an_image_is_unsupported(shared: Sandbox, body: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        render_in(shared, body)


@pytest.mark.parametrize("signature", SIGNATURES.values(), ids=SIGNATURES.keys())
@pytest.mark.parametrize("name", ["EPS", "ICO", "TIFF", "PDF"])
def test_signature_is_the_only_plugin_that_is_asked(shared: Sandbox, signature: bytes, name: str) -> None:
    """Another one's bytes behind it are damage, or a wild size; no other plugin gets to see them."""
    with pytest.raises((ImageCorrupt, ImageTooLarge)):
        render_in(shared, signature + encode(PHOTO, name))


@pytest.fixture(scope="module")
def every() -> Iterator[Sandbox]:
    """A sandbox that takes every format."""
    with build_sandbox(EVERY_FORMAT) as sandbox:
        yield sandbox


@pytest.mark.parametrize("name", ["TIFF", "HEIF"])
def test_format_that_was_asked_for_is_decoded(every: Sandbox, name: str) -> None:
    """Within the sandbox, too, where no library can be loaded any more."""
    found = render_whole_in(every, encode(PHOTO, name))

    assert found.source_content_type == f"image/{name.lower()}"
    assert (found.source_width, found.source_height) == PHOTO.size


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4"])
def test_each_compression_of_a_tiff_is_decoded_in_the_sandbox(every: Sandbox, compression: str) -> None:
    mode = "1" if compression == "group4" else "RGB"

    assert render_in(every, encode(PHOTO.convert(mode), "TIFF", compression=compression))


@pytest.mark.parametrize("signature", [b"II*\0", b"MM\0*", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"])
@pytest.mark.parametrize("name", ["EPS", "ICO", "PDF", "PNG"])
def test_optional_signature_is_the_only_plugin_that_is_asked(every: Sandbox, signature: bytes, name: str) -> None:
    with pytest.raises(DecodeError):
        render_in(every, signature + encode(PHOTO, name))


@pytest.mark.parametrize("name", [name for name in OTHERS if name != "TIFF"])
def test_other_formats_stay_unsupported(every: Sandbox, name: str) -> None:
    with pytest.raises(UnsupportedFormat):
        render_in(every, encode(PHOTO.convert(MODES.get(name, "RGB")), name))


@pytest.mark.parametrize("tail", ["EPS", "PDF", "TIFF"])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_is_hung_on_an_image_is_not_looked_at(shared: Sandbox, name: str, tail: str) -> None:
    found = render_whole_in(shared, encode(PHOTO, name) + encode(Image.new("RGB", (9, 9)), tail))

    assert found.source_content_type == f"image/{name.lower()}"
    assert (found.source_width, found.source_height) == PHOTO.size


def test_list_of_formats_is_the_documented_one() -> None:
    assert DecodeLimits().formats == {"jpeg", "png", "gif", "bmp", "webp", "avif"}
