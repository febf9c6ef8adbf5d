"""Builders of small images, good and hostile, so that the image tests need no files; and what reads the results."""

import random
import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pillow_heif
from PIL import Image

from thumbs.domain import DecodeLimits, Picture, Rendering, ThumbnailSpec
from thumbs.errors import JobError
from thumbs.imaging import make_thumbnails

EVERY_FORMAT = DecodeLimits(formats=DecodeLimits().formats | {"tiff", "heif"})
"""The usual limits, and the formats that have to be asked for."""

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNER_COLOURS = (RED, GREEN, BLUE, WHITE)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

ICC_HEADER_BYTES = 128
SRGB_PRIMARIES = ((0.4361, 0.2225, 0.0139), (0.3851, 0.7169, 0.0971), (0.1431, 0.0606, 0.7141))
"""The red, green and blue of sRGB as XYZ under D50."""


def render(body: bytes, limits: DecodeLimits | None = None, **spec: Any) -> Picture:
    """Make the thumbnail of the bytes; `spec` as in ThumbnailSpec."""
    return take_only(render_whole(body, limits, **spec))


def render_whole(body: bytes, limits: DecodeLimits | None = None, **spec: Any) -> Rendering:
    """Render the bytes, and tell about their source too."""
    return make_thumbnails(body, [ThumbnailSpec(**spec)], limits or DecodeLimits())


def take_only(rendering: Rendering) -> Picture:
    """Take the only picture; raises why there is none."""
    (picture,) = rendering.pictures
    if isinstance(picture, JobError):
        raise picture
    return picture


def open_result(picture: Picture) -> Image.Image:
    """Open a thumbnail as its receiver would."""
    image = Image.open(BytesIO(picture.body))
    image.load()
    return image


def encode(image: Image.Image, image_format: str, **options: Any) -> bytes:
    """Encode by Pillow, HEIF through pillow-heif."""
    buffer = BytesIO()
    if image_format == "HEIF":
        pillow_heif.register_heif_opener()
    image.save(buffer, image_format, **options)
    return buffer.getvalue()


def build_corners(width: int = 320, height: int = 320, colours: tuple[Any, ...] = CORNER_COLOURS) -> Image.Image:
    """Build an RGB picture of four quarters: upper left, upper right, lower left, lower right."""
    image = Image.new("RGB", (width, height), colours[0])
    image.paste(colours[1], (width // 2, 0, width, height // 2))
    image.paste(colours[2], (0, height // 2, width // 2, height))
    image.paste(colours[3], (width // 2, height // 2, width, height))
    return image


def build_photo(width: int = 320, height: int = 240) -> Image.Image:
    """Build an RGB picture of soft random blotches, the same each time."""
    source = random.Random(7)
    blotches = Image.frombytes("RGB", (8, 6), source.randbytes(8 * 6 * 3))
    return blotches.resize((width, height), Image.Resampling.BICUBIC)


def build_checkers(size: int = 400) -> Image.Image:
    """Build a 1-bit picture of alternating px: grey from afar, black or white where px are only picked."""
    return Image.frombytes("1", (size, size), (b"\x55" * (size // 8) + b"\xaa" * (size // 8)) * (size // 2))


def build_exif(orientation: int, *, byte_order: str = "<") -> bytes:
    """Build an EXIF block that holds the orientation only."""
    mark = b"II*\0" if byte_order == "<" else b"MM\0*"
    entry = struct.pack(f"{byte_order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(f"{byte_order}IH", 8, 1) + entry + b"\0\0\0\0"


def build_png(width: int, height: int, *, depth: int, kind: int, rows: Iterable[bytes], extra: bytes = b"") -> bytes:
    """Build a PNG from unfiltered rows; `extra` chunks go before the pixels."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    return PNG_SIGNATURE + png_chunk(b"IHDR", head) + extra + png_chunk(b"IDAT", data) + png_chunk(b"IEND", b"")


def png_chunk(name: bytes, data: bytes) -> bytes:
    """Build one chunk."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def build_webp_bomb() -> bytes:
    """Build 46 bytes that announce a canvas of 16,384 x 16,384 px (2.7 GB in plain Pillow)."""
    head = b"VP8X" + struct.pack("<I", 10) + b"\0\0\0\0" + (16_383).to_bytes(3, "little") * 2
    frame = b"VP8L" + struct.pack("<I", 8) + b"\x2f" + b"\0" * 7
    return b"RIFF" + struct.pack("<I", 4 + len(head) + len(frame)) + b"WEBP" + head + frame


def build_slow_png(side: int = 7000) -> bytes:
    """Build a small PNG of 49 MP of RGB that takes about half a second to decode."""
    return build_png(side, side, depth=8, kind=2, rows=(bytes(side * 3) for _ in range(side)))


def build_rgb_profile(primaries: tuple[tuple[float, float, float], ...] = SRGB_PRIMARIES, gamma: float = 2.2) -> bytes:
    """Build an ICC profile of RGB with these primaries and this gamma."""
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags = {name: _icc_xyz(*primary) for name, primary in zip(names, primaries, strict=True)}
    curve = _icc_gamma(gamma)
    return _build_profile(b"RGB ", b"XYZ ", tags | {b"rTRC": curve, b"gTRC": curve, b"bTRC": curve})


def build_grey_profile(gamma: float) -> bytes:
    """Build an ICC profile of grey with this gamma."""
    return _build_profile(b"GRAY", b"XYZ ", {b"kTRC": _icc_gamma(gamma)})


def build_cmyk_profile(lab: tuple[int, int, int]) -> bytes:
    """Build an ICC profile of CMYK in which all inks together are black, and all else one colour: Lab as 0..255."""
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", *(65_536 if place % 4 == 0 else 0 for place in range(9)))
    table = bytes((4, 3, 2, 0)) + matrix + ramp * 4 + bytes(lab) * 15 + bytes((0, 128, 128)) + ramp * 3
    return _build_profile(b"CMYK", b"Lab ", {b"A2B0": b"mft1\0\0\0\0" + table}, kind=b"prtr")


def _build_profile(space: bytes, pcs: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    tags = {b"wtpt": _icc_xyz(0.9642, 1.0, 0.8249)} | tags
    table, data = struct.pack(">I", len(tags)), b""
    start = ICC_HEADER_BYTES + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(data), b"\0" * 4, 0x02100000, kind, space, pcs)
    head += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", *_fixed(0.9642, 1.0, 0.8249))
    return head.ljust(ICC_HEADER_BYTES, b"\0") + table + data


def _icc_xyz(*values: float) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *_fixed(*values))


def _icc_gamma(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def _fixed(*values: float) -> list[int]:
    return [round(value * 65_536) for value in values]
