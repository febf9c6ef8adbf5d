"""Small files that ask for much: huge canvases, endless parts, exploding chunks, lying lengths. All built by code.

Each bomb knows what it has to come to: an error's code, or "ok" where the file is odd but harmless. Those of several
megabytes are made when they are asked for.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

from PIL import Image

from tests.support.images import (
    PNG_SIGNATURE,
    build_photo,
    build_png,
    build_rgb_profile,
    build_webp_bomb,
    encode,
    png_chunk,
)

MB = 1_000_000
FILL_BYTES = 6 * 1024 * 1024
"""So much of the same takes Pillow several seconds; the 20 MiB of the largest source took it up to a minute."""


@dataclass(frozen=True, slots=True)
class Bomb:
    """A hostile file, and what has to come of it."""

    name: str
    code: str
    build: Callable[[], bytes]


def list_bombs() -> list[Bomb]:
    """List all of them."""
    return [Bomb(name, code, build) for name, (code, build) in (PNG_BOMBS | JPEG_BOMBS | OTHER_BOMBS).items()]


# ── PNG ─────────────────────────────────────────────────────────────────────────────────────────────────


def _head(width: int, height: int, depth: int = 8, kind: int = 2, interlace: int = 0) -> bytes:
    return PNG_SIGNATURE + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, interlace))


@cache
def _deflate_zeros(count: int) -> bytes:
    """Compress that many zeros, without ever having them."""
    stream = zlib.compressobj(1)
    return b"".join(stream.compress(bytes(MB)) for _ in range(count // MB)) + stream.flush()


def build_png_with(*chunks: bytes) -> bytes:
    """Build a small PNG with these chunks before its pixels."""
    return build_png(64, 64, depth=8, kind=0, rows=[bytes(64)] * 64, extra=b"".join(chunks))


def build_compressed_text(name: bytes, prefix: bytes) -> bytes:
    """Build a chunk whose text is 200 MB long, in 200 kB."""
    return build_png_with(png_chunk(name, prefix + _deflate_zeros(200 * MB)))


def build_png_of_wrong_rows() -> bytes:
    """Build a PNG that announces 7,000 rows of 7,000 px, and brings 200 MB of other ones."""
    return _head(7000, 7000) + png_chunk(b"IDAT", _deflate_zeros(200 * MB)) + png_chunk(b"IEND", b"")


def build_long_animation() -> bytes:
    """Build an APNG that announces 4 billion frames."""
    control = png_chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))
    frame = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 64, 64, 0, 0, 1, 10, 0, 0))
    return build_png_with(control, frame)


def build_fine_png_chunks() -> bytes:
    """Build a PNG whose pixels are spread over 49,000 chunks."""
    data = zlib.compress(bytes(65) * 64).ljust(49_000, b"\0")
    chunks = b"".join(png_chunk(b"IDAT", data[place : place + 1]) for place in range(len(data)))
    return _head(64, 64, kind=0) + chunks + png_chunk(b"IEND", b"")


def build_interlaced_png() -> bytes:
    """Build a PNG of 49 MP in seven passes, which is legitimate."""
    side, data = 7000, zlib.compressobj(9)
    starts = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    packed = b""
    for left, upper, across, down in starts:
        row = bytes(1 + len(range(left, side, across)))
        packed += b"".join(data.compress(row) for _ in range(upper, side, down))
    pixels = png_chunk(b"IDAT", packed + data.flush())
    return _head(side, side, kind=0, interlace=1) + pixels + png_chunk(b"IEND", b"")


def build_large_profile(size: int) -> bytes:
    """Build a PNG with a true profile, padded to this size."""
    return build_png_with(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(build_rgb_profile().ljust(size, b"\0"))))


def build_profile_of_many_tags() -> bytes:
    """Build a profile that announces 4 billion tags."""
    profile = bytearray(build_rgb_profile())
    profile[128:132] = b"\xff" * 4
    return build_png_with(png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(profile))))


def build_exif_ring() -> bytes:
    """Build a PNG with EXIF whose entries all say that they hold 4 GB, and whose directory is its own next one."""
    entry = struct.pack("<HHII", 0x010E, 2, 0xFFFFFFFF, 8)
    block = b"II*\0" + struct.pack("<IH", 8, 65_535) + entry * 5_000 + struct.pack("<I", 8)
    return build_png_with(png_chunk(b"eXIf", block))


PNG_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "png of 900 MP": ("image_too_large", lambda: _head(30_000, 30_000) + png_chunk(b"IDAT", zlib.compress(b"\0"))),
    "png of 2 billion px a side": ("image_corrupt", lambda: _head(0x7FFFFFFF, 0x7FFFFFFF)),
    "png with a side of -1": ("image_too_large", lambda: _head(0xFFFFFFFF, 1) + png_chunk(b"IDAT", b"")),
    "png without pixels": ("image_corrupt", lambda: _head(0, 0) + png_chunk(b"IEND", b"")),
    "png of 60,000 chunks": ("image_too_complex", lambda: build_png_with(png_chunk(b"tEXt", b"a\0b") * 60_000)),
    "png in 49,000 parts": ("ok", build_fine_png_chunks),
    "png with 200 MB of zTXt": ("image_corrupt", partial(build_compressed_text, b"zTXt", b"a\0\0")),
    "png with 200 MB of iTXt": ("image_corrupt", partial(build_compressed_text, b"iTXt", b"a\0\1\0\0\0")),
    "png with 200 MB of iCCP": ("image_corrupt", partial(build_compressed_text, b"iCCP", b"a\0\0")),
    "png with 200 MB of too short rows": ("ok", build_png_of_wrong_rows),
    "png of 4 billion frames": ("ok", build_long_animation),
    "png of 49 MP, interlaced": ("ok", build_interlaced_png),
    "png with a profile of 15 MB": ("image_corrupt", partial(build_large_profile, 15 * MB)),
    "png with a profile of 3.9 MB": ("image_corrupt", partial(build_large_profile, 3_900_000)),
    "png with a profile of 4 billion tags": ("ok", build_profile_of_many_tags),
    "png with EXIF in a ring": ("ok", build_exif_ring),
    "png with a chunk of 2 GB": ("image_corrupt", lambda: _head(9, 9) + b"\x7f\xff\xff\xffIDAT" + bytes(99)),
    "png with a negative chunk": ("image_corrupt", lambda: _head(9, 9) + b"\xff\xff\xff\xf4IDAT" + bytes(99)),
}


# ── JPEG ────────────────────────────────────────────────────────────────────────────────────────────────


def build_small_jpeg(**options: Any) -> bytes:
    """Build a JPEG of 64 x 64 px."""
    return encode(build_photo(64, 64), "JPEG", **options)


def set_jpeg_size(body: bytes, width: int, height: int) -> bytes:
    """Let a JPEG say that it has another size."""
    start = next(body.index(b"\xff" + mark) for mark in (b"\xc0", b"\xc2") if b"\xff" + mark in body)
    return body[: start + 5] + struct.pack(">HH", height, width) + body[start + 9 :]


def build_progressive(side: int, scan_count: int) -> bytes:
    """Build a progressive JPEG of grey, with empty refinements of its last coefficient up to this many scans."""
    body = encode(Image.new("L", (side, side), 128), "JPEG", progressive=True)
    last = body.rindex(b"\xff\xda")
    scan = body[last:-2]
    count = body.count(b"\xff\xda")
    return body[:-2] + scan * (scan_count - count) + b"\xff\xd9"


def insert_after_start(segments: bytes) -> bytes:
    """Build a JPEG with these segments in front."""
    body = build_small_jpeg()
    return body[:2] + segments + body[2:]


def build_many_profile_parts() -> bytes:
    """Build a JPEG with 255 parts of a profile of 15 MB, all zeros."""
    part = b"ICC_PROFILE\0"
    return insert_after_start(
        b"".join(
            b"\xff\xe2" + struct.pack(">H", 2 + 14 + 60_000) + part + bytes((number, 255)) + bytes(60_000)
            for number in range(1, 256)
        )
    )


def build_tiff(size: int) -> bytes:
    """Build an EXIF block of this size in which every entry holds as much as there is."""
    count = min(65_535, (size - 14) // 12)
    entry = struct.pack("<HHII", 0x010E, 7, size - 1, 0)
    return (b"II*\0" + struct.pack("<IH", 8, count) + entry * count).ljust(size, b"\0")


def build_jpeg_exif(count: int) -> bytes:
    """Build a JPEG with such a block in this many segments."""
    part, block = 65_000, build_tiff(65_000 * count)
    parts = [block[start : start + part] for start in range(0, len(block), part)]
    return insert_after_start(
        b"".join(b"\xff\xe1" + struct.pack(">H", 8 + part) + b"Exif\0\0" + data for data in parts)
    )


def build_photoshop() -> bytes:
    """Build a JPEG with 100 segments of 5,400 image resources each."""
    resources = b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5_400
    return insert_after_start((b"\xff\xed" + struct.pack(">H", 2 + len(resources)) + resources) * 100)


def build_multi_picture(count: int) -> bytes:
    """Build an MPO of this many tiny pictures."""
    frame = Image.new("RGB", (16, 16), (255, 0, 0))
    return encode(frame, "MPO", save_all=True, append_images=[frame] * (count - 1))


EXIF_SEGMENT = b"\xff\xe1\0\x0cExif\0\0II*\0"
TABLE = b"\xff\xdb\0\x43\0" + bytes(range(1, 65))
COMMENT = b"\xff\xfe\0\2"


def fill_jpeg(unit: bytes, *, before: bytes = b"") -> bytes:
    """Build a JPEG with so much of the same in front."""
    return insert_after_start(before + unit * (FILL_BYTES // len(unit)))


JPEG_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "jpeg of 100,000 scans": ("image_too_complex", partial(build_progressive, 512, 100_000)),
    "jpeg of 100 scans of 49 MP": ("image_too_complex", partial(build_progressive, 7000, 100)),
    "jpeg of 20 scans of 49 MP": ("ok", partial(build_progressive, 7000, 20)),
    "jpeg of 65,500 px a side": ("image_too_large", lambda: set_jpeg_size(build_small_jpeg(), 65_500, 65_500)),
    "jpeg of 200 MP without pixels": ("ok", lambda: set_jpeg_size(build_small_jpeg(), 20_000, 10_000)),
    "jpeg of 50 MP without pixels, progressive": (
        "ok",
        lambda: set_jpeg_size(build_small_jpeg(progressive=True), 10_000, 5_000),
    ),
    "jpeg of no height": ("image_corrupt", lambda: set_jpeg_size(build_small_jpeg(), 64, 0)),
    "jpeg with segments that lie": ("image_corrupt", lambda: insert_after_start(b"\xff\xe1\xff\xff" * 9)),
    "jpeg with a segment of no length": ("ok", lambda: insert_after_start(b"\xff\xe1\0\0")),
    "jpeg of 6 MiB of fill bytes": ("image_too_complex", partial(fill_jpeg, b"\xff")),
    "jpeg of 6 MiB of zeros": ("image_too_complex", partial(fill_jpeg, b"\0", before=COMMENT)),
    "jpeg of 6 MiB of restart markers": ("image_too_complex", partial(fill_jpeg, b"\xff\xd0")),
    "jpeg of 6 MiB of starts": ("image_too_complex", partial(fill_jpeg, b"\xff\xd8")),
    "jpeg of 6 MiB of ends": ("image_too_complex", partial(fill_jpeg, b"\xff\xd9")),
    "jpeg of 6 MiB of markers without length": ("image_too_complex", partial(fill_jpeg, b"\xff\xf0")),
    "jpeg of 6 MiB of comments": ("image_too_complex", partial(fill_jpeg, COMMENT)),
    "jpeg of 6 MiB of tables": ("image_too_complex", partial(fill_jpeg, TABLE)),
    "jpeg of 6 MiB of EXIF": ("image_too_complex", partial(fill_jpeg, EXIF_SEGMENT)),
    "jpeg of 320 segments of EXIF": ("image_too_complex", partial(build_jpeg_exif, 320)),
    "jpeg of 4 segments of EXIF": ("ok", partial(build_jpeg_exif, 4)),
    "jpeg of EXIF behind a marker without length": (
        "image_too_complex",
        lambda: insert_after_start(b"\xff\xf0" + EXIF_SEGMENT * 320),
    ),
    "jpeg of 100 segments of Photoshop": ("ok", build_photoshop),
    "jpeg with 15 MB of profile": ("ok", build_many_profile_parts),
    "mpo of 300 pictures": ("ok", partial(build_multi_picture, 300)),
}


# ── the others ──────────────────────────────────────────────────────────────────────────────────────────


def build_gif(canvas: tuple[int, int], frame: tuple[int, int, int, int], data: bytes = b"\2\2D\1\0") -> bytes:
    """Build a GIF of two colours: a canvas, and a frame on it (left, upper, width, height)."""
    head = b"GIF89a" + struct.pack("<HH", *canvas) + b"\x80\0\0" + bytes(3) + b"\xff" * 3
    return head + b"," + struct.pack("<HHHH", *frame) + b"\0" + data + b";"


def build_clearing_gif() -> bytes:
    """Build a GIF of 1 px with a frame of 900 MP, which is to be cleared after it was shown."""
    plain = build_gif((1, 1), (0, 0, 30_000, 30_000))
    start = plain.index(b",")
    return plain[:start] + b"!\xf9\4\x08\0\0\0\0" + plain[start:]


def build_bmp(width: int, height: int, *, compression: int = 0, bits: int = 24, data: bytes = b"") -> bytes:
    """Build a BMP with this header."""
    palette = bytes(4 * 256) if bits == 8 else b""
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(data), 0, 0, 0, 0)
    start = 14 + len(head) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + head + palette + data


def build_runs(data: bytes) -> bytes:
    """Build a BMP of 49 MP in runs of equal px."""
    return build_bmp(7000, 7000, compression=1, bits=8, data=data)


def build_animated_webp(count: int) -> bytes:
    """Build an animation of 4,000 x 4,000 px of this many tiny frames."""
    still = encode(Image.new("RGB", (16, 16), (255, 0, 0)), "WEBP", lossless=True)
    image = still[12:]
    frame = (0).to_bytes(6, "little") + (15).to_bytes(3, "little") * 2 + (1).to_bytes(3, "little") + b"\0" + image
    chunk = b"ANMF" + struct.pack("<I", len(frame)) + frame
    side = (3_999).to_bytes(3, "little")
    head = b"VP8X" + struct.pack("<I", 10) + b"\2\0\0\0" + side * 2 + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    body = head + chunk * count
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def change_avif(name: bytes, offset: int, value: bytes) -> bytes:
    """Build an AVIF, and overwrite something behind the first box of this name."""
    body = encode(build_photo(64, 64), "AVIF")
    start = body.index(name) + 4 + offset
    return body[:start] + value + body[start + len(value) :]


def build_avif_exif() -> bytes:
    """Build an AVIF with 2 MB of EXIF of that kind."""
    return encode(build_photo(64, 64), "AVIF", exif=b"Exif\0\0" + build_tiff(2_000_000))


OTHER_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "webp of 46 bytes and 268 MP": ("image_too_large", build_webp_bomb),
    "webp of 5,000 frames": ("ok", partial(build_animated_webp, 5_000)),
    "gif with a canvas of 4,294 MP": ("image_too_large", lambda: build_gif((65_535, 65_535), (0, 0, 1, 1))),
    "gif with a frame beyond its canvas": ("image_too_large", lambda: build_gif((1, 1), (0, 0, 65_535, 65_535))),
    "gif that clears 900 MP while it is opened": ("image_too_large", build_clearing_gif),
    "gif with a frame far out": ("image_too_large", lambda: build_gif((1, 1), (65_000, 65_000, 1, 1))),
    "bmp of 900 MP": ("image_too_large", lambda: build_bmp(30_000, 30_000)),
    "bmp that is upside down and huge": ("image_too_large", lambda: build_bmp(30_000, -30_000)),
    "bmp of -2147483648 px": ("image_too_large", lambda: build_bmp(1, -(2**31))),
    "bmp of 49 MP of runs": ("image_corrupt", lambda: build_runs(b"\xff\0" * 100_000 + b"\0\1")),
    "bmp of 49 MP that ends at once": ("image_corrupt", lambda: build_runs(b"\0\1")),
    "bmp of 6 MiB of runs": ("image_too_complex", lambda: build_runs(b"\1\0" * (FILL_BYTES // 2))),
    "gif of 6 MiB of comments": (
        "image_too_complex",
        lambda: b"GIF89a" + bytes(7) + b"!\xfe" + b"\1a" * (FILL_BYTES // 2),
    ),
    "gif of 6 MiB of nothing": ("image_too_complex", lambda: b"GIF89a" + bytes(FILL_BYTES)),
    "avif with a ring of EXIF": ("ok", build_avif_exif),
    "bmp of 49 MP of nothing": ("image_corrupt", lambda: build_bmp(7000, 7000)),
    "avif of 4 billion px a side": ("image_corrupt", lambda: change_avif(b"ispe", 4, b"\xff" * 8)),
    "avif of 900 MP": ("image_corrupt", lambda: change_avif(b"ispe", 4, struct.pack(">II", 30_000, 30_000))),
    "avif of 65,535 items": ("image_corrupt", lambda: change_avif(b"iinf", 4, b"\xff\xff")),
    "avif of 65,535 places": ("image_corrupt", lambda: change_avif(b"iloc", 6, b"\xff\xff")),
}
