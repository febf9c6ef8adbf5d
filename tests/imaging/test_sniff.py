"""A format is told by its magic number alone, and only accepted ones go on."""

import pytest
from PIL import Image

from tests.support.images import EVERY_FORMAT, RED, encode, render
from thumbs.domain import DecodeLimits
from thumbs.errors import UnsupportedFormat
from thumbs.imaging.sniff import sniff

ALL = EVERY_FORMAT.formats

UNSUPPORTED = {
    "nothing": b"",
    "text": b"hello",
    "html": b"<!doctype html><title>404</title>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0",
    "pdf": b"%PDF-1.7",
    "psd": b"8BPS\0\1",
    "ico": b"\0\0\1\0\1\0",
    "big tiff": b"II+\0\x08\0\0\0",
    "big tiff, big-endian": b"MM\0+\0\x08\0\0",
    "tiff of mixed byte orders": b"II\0*\0\0\0\x08",
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "jpeg xl": b"\xff\x0a\xfa\x1f",
    "mp4": b"\0\0\0\x18ftypisom\0\0\0\0isommp42",
    "riff that is sound": b"RIFF\0\0\0\0WAVEfmt ",
    "half a png signature": b"\x89PNG\r\n",
}

KNOWN = {
    "jpeg": b"\xff\xd8\xff\xe0",
    "png": b"\x89PNG\r\n\x1a\n",
    "gif": b"GIF89a",
    "bmp": b"BM",
    "webp": b"RIFF\0\0\0\0WEBPVP8 ",
    "avif": b"\0\0\0\x1cftypavif\0\0\0\0mif1miaf",
    "tiff": b"II*\0\x08\0\0\0",
    "heif": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
}


@pytest.mark.parametrize("body", UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_sniff_refuses_what_is_not_on_the_list(body: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        sniff(body, ALL)


@pytest.mark.parametrize(("name", "body"), KNOWN.items())
def test_sniff_knows_each_accepted_format(name: str, body: bytes) -> None:
    assert sniff(body, ALL).name == name


@pytest.mark.parametrize(("name", "body"), KNOWN.items())
def test_sniff_refuses_a_known_format_that_is_not_accepted(name: str, body: bytes) -> None:
    with pytest.raises(UnsupportedFormat):
        sniff(body, ALL - {name})


def test_sniff_finds_avif_among_the_compatible_brands() -> None:
    """Never HEIF, although every AVIF has its brands, too."""
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avif", ALL).name == "avif"
    assert sniff(b"\0\0\0\x1cftypheic\0\0\0\0mif1avif", ALL).name == "avif"


@pytest.mark.parametrize("brand", ["heic", "heix", "heim", "heis", "hevc", "hevx", "hevm", "hevs", "mif1", "msf1"])
def test_sniff_knows_each_brand_of_heif(brand: str) -> None:
    assert sniff(b"\0\0\0\x14ftyp" + brand.encode() + bytes(4) + b"miaf", ALL).name == "heif"
    assert sniff(b"\0\0\0\x14ftypmiaf" + bytes(4) + brand.encode(), ALL).name == "heif"


def test_sniff_knows_big_endian_tiff() -> None:
    assert sniff(b"MM\0*\0\0\0\x08", ALL).name == "tiff"


@pytest.mark.parametrize("name", ["tiff", "heif"])
def test_some_formats_have_to_be_asked_for(name: str) -> None:
    with pytest.raises(UnsupportedFormat):
        sniff(KNOWN[name], DecodeLimits().formats)


def test_thumbnail_is_refused_when_the_limits_leave_its_format_out() -> None:
    with pytest.raises(UnsupportedFormat):
        render(encode(Image.new("RGB", (8, 8), RED), "PNG"), DecodeLimits(formats=frozenset({"jpeg"})))
