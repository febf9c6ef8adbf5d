"""Hostile files of the formats that have to be asked for, TIFF and HEIF; otherwise as in `bombs`."""

import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache, partial

from PIL import Image

from tests.support.bombs import MB, Bomb
from tests.support.heifs import Item, build_grid, build_heif, encode_hevc
from tests.support.images import build_photo, encode
from tests.support.tiffs import (
    DEFLATE,
    EXIF,
    GREY,
    JPEG,
    LZW,
    ORIENTATION,
    PACK_BITS,
    RGB,
    Values,
    build_tiff,
    write_directory,
)
from thumbs.imaging.tiff import FLOAT, Photometric, Tag

LARGE = (7000, 7000)
LZW_CLEARS = int("100000000" * 8, 2).to_bytes(9)
"""LZW that only clears its table, over and over."""


def list_optional_bombs() -> list[Bomb]:
    """List all of them."""
    return [Bomb(name, code, build) for name, (code, build) in (TIFF_BOMBS | HEIF_BOMBS).items()]


# ── TIFF ────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def deflate_zeros(size_bytes: int) -> bytes:
    """Compress so many zeros, without ever having them."""
    stream = zlib.compressobj(1)
    return b"".join(stream.compress(bytes(MB)) for _ in range(size_bytes // MB)) + stream.flush()


def build_zeros(pixel_bytes: int, tags: Mapping[int, Values]) -> bytes:
    """Build a TIFF of 49 MP in one strip, all zeros."""
    return build_tiff(LARGE, [deflate_zeros(49 * MB * pixel_bytes)], {**tags, Tag.COMPRESSION: DEFLATE})


def share_strip(data: bytes, count: int, tags: Mapping[int, Values]) -> bytes:
    """Build a TIFF of rows that all have the same bytes."""
    places: dict[int, Values] = {Tag.STRIP_OFFSETS: [8] * count, Tag.STRIP_BYTES: [len(data)] * count}
    return build_tiff((64, count), [data], {**GREY, **places, Tag.ROWS_PER_STRIP: 1, **tags})


def build_many_entries() -> bytes:
    """Build a TIFF of 65,535 entries which each hold as much as there is."""
    entry = struct.pack("<HHII", 270, 7, 700_000, 0)
    return b"II*\0" + struct.pack("<IH", 8, 65_535) + entry * 65_535


def build_ring(tag: int) -> bytes:
    """Build a TIFF whose directory leads to itself."""
    data = bytes(64 * 64 * 3)
    own: dict[int, Values] = {tag: 8 + len(data)}
    return build_tiff((64, 64), [data], {**RGB, **own}, next_directory=8 + len(data))


def build_scans(count: int) -> bytes:
    """Build a TIFF of 49 MP, a progressive JPEG of this many scans in one strip."""
    body = encode(Image.new("L", LARGE, 128), "JPEG", progressive=True)
    scan = body[body.rindex(b"\xff\xda") : -2]
    jpeg = body[:-2] + scan * (count - body.count(b"\xff\xda")) + b"\xff\xd9"
    return build_tiff(LARGE, [jpeg], {**GREY, Tag.COMPRESSION: JPEG})


def build_lying_jpeg() -> bytes:
    """Build a TIFF of 64 x 64 px around a JPEG that says 65,500 x 65,500."""
    body = encode(build_photo(64, 64), "JPEG")
    start = body.index(b"\xff\xc0") + 5
    tags = {**RGB, Tag.PHOTOMETRIC: Photometric.YCBCR, Tag.COMPRESSION: JPEG}
    return build_tiff((64, 64), [body[:start] + struct.pack(">HH", 65_500, 65_500) + body[start + 4 :]], tags)


FOUR: dict[int, Values] = {Tag.BITS: (8,) * 4, Tag.SAMPLES: 4}
TILE_OF_49_MP: dict[int, Values] = {Tag.TILE_WIDTH: 6992, Tag.TILE_LENGTH: 6992}
TILE_OF_900_MP: dict[int, Values] = {Tag.TILE_WIDTH: 30_000, Tag.TILE_LENGTH: 30_000}
FINE_TILES: dict[int, Values] = {
    **{Tag.TILE_WIDTH: 16, Tag.TILE_LENGTH: 16},
    **{Tag.TILE_OFFSETS: [8] * 48_750, Tag.TILE_BYTES: [256] * 48_750},
}

TIFF_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "tiff of 900 MP": ("image_too_large", lambda: build_tiff((30_000, 30_000), [b""], RGB)),
    "tiff of 4 billion px a side": ("image_too_large", lambda: build_tiff((2**32 - 1, 2**32 - 1), [b""], RGB)),
    "tiff without pixels": ("image_corrupt", lambda: build_tiff((0, 0), [b""], RGB)),
    "tiff of 49 MP without pixels": ("image_corrupt", lambda: build_tiff(LARGE, [b""], RGB)),
    "tiff of 49 MP of zeros": ("ok", partial(build_zeros, 3, RGB)),
    "tiff of 49 MP, to be turned": ("ok", partial(build_zeros, 3, {**RGB, ORIENTATION: 6})),
    "tiff of 49 MP of CMYK": ("ok", partial(build_zeros, 4, {**RGB, **FOUR, Tag.PHOTOMETRIC: Photometric.CMYK})),
    "tiff of 49 MP of floats": ("ok", partial(build_zeros, 4, {**GREY, Tag.BITS: 32, Tag.SAMPLE_FORMAT: FLOAT})),
    "tiff of 49 MP of Lab": ("ok", partial(build_zeros, 3, {**RGB, Tag.PHOTOMETRIC: Photometric.LAB})),
    "tiff of 1 px in a tile of 900 MP": ("image_too_large", lambda: build_tiff((1, 1), [b""], RGB | TILE_OF_900_MP)),
    "tiff of 1 px in a tile of 49 MP": (
        "ok",
        lambda: build_tiff((1, 1), [deflate_zeros(147 * MB)], RGB | TILE_OF_49_MP | {Tag.COMPRESSION: DEFLATE}),
    ),
    "tiff of 30,000 strips": (
        "ok",
        lambda: build_tiff((1, 30_000), [b"x"] * 30_000, {**GREY, Tag.ROWS_PER_STRIP: 1}),
    ),
    "tiff of 60,000 strips": ("image_too_large", lambda: share_strip(b"x", 60_000, {Tag.WIDTH: 1})),
    "tiff of 48,750 tiles": ("ok", lambda: build_tiff((4000, 3120), [bytes(256)], GREY | FINE_TILES)),
    "tiff of 4 million tiles": (
        "image_too_complex",
        lambda: build_tiff(LARGE, [bytes(256)], GREY | FINE_TILES | {Tag.TILE_WIDTH: 1}),
    ),
    "tiff of strips of 4 GB": (
        "image_too_complex",
        lambda: build_tiff(LARGE, [b""], {**RGB, Tag.STRIP_BYTES: 2**32 - 1}),
    ),
    "tiff of 18 MB that clear a table": (
        "image_corrupt",
        lambda: share_strip(LZW_CLEARS * 2 * MB, 3, {Tag.COMPRESSION: LZW}),
    ),
    "tiff of 1,000 strips that share them": (
        "image_too_complex",
        lambda: share_strip(LZW_CLEARS * 2 * MB, 1000, {Tag.COMPRESSION: LZW}),
    ),
    "tiff of 1,000 strips that share 1 MB of nothing, and a row": (
        "image_too_complex",
        lambda: share_strip(b"\x80" * MB + b"\xc1\0", 1000, {Tag.COMPRESSION: PACK_BITS}),
    ),
    "tiff of 60 strips that do": (
        "ok",
        lambda: share_strip(b"\x80" * MB + b"\xc1\0", 60, {Tag.COMPRESSION: PACK_BITS}),
    ),
    "tiff of 18 MB of empty blocks": (
        "image_corrupt",
        lambda: share_strip(b"\x78\x01" + b"\0\0\0\xff\xff" * 4 * MB, 3, {Tag.COMPRESSION: DEFLATE}),
    ),
    "tiff of 20 MB of nothing": (
        "image_corrupt",
        lambda: share_strip(b"\x80" * 20 * MB, 3, {Tag.COMPRESSION: PACK_BITS}),
    ),
    "tiff of 20 MB of fax": (
        "ok",
        lambda: build_tiff(LARGE, [b"\xff" * 20 * MB], {**GREY, Tag.BITS: 1, Tag.COMPRESSION: 4}),
    ),
    "tiff of 65,535 entries": ("image_corrupt", build_many_entries),
    "tiff of 1,500 entries": (
        "image_too_complex",
        lambda: write_directory(b"", dict.fromkeys(range(1, 1_501), 1), order="<"),
    ),
    "tiff of a ring of pages": ("ok", partial(build_ring, 330)),
    "tiff of a ring of EXIF": ("ok", partial(build_ring, EXIF)),
    "tiff with a directory beyond its end": ("image_corrupt", lambda: b"II*\0\xff\xff\xff\xff" + bytes(99)),
    "tiff with a directory in its header": ("image_corrupt", lambda: b"II*\0\0\0\0\0" + bytes(99)),
    "tiff around a JPEG of 20 scans of 49 MP": ("ok", partial(build_scans, 20)),
    "tiff around a JPEG of 99 scans of 49 MP": ("image_too_complex", partial(build_scans, 99)),
    "tiff around a JPEG of another size": ("image_corrupt", build_lying_jpeg),
}


# ── HEIF ────────────────────────────────────────────────────────────────────────────────────────────────


def build_single(coded: tuple[int, int], told: tuple[int, int]) -> bytes:
    """Build a HEIF whose boxes tell of one size, and whose pixels have another."""
    hevc = encode_hevc(*coded)
    return build_heif([Item(b"hvc1", hevc.data, told)], configuration=hevc.configuration)


def build_tiles(side: int, tile_side: int) -> bytes:
    """Build a HEIF of 49 MP in a grid of so many tiles a side, which are all the same."""
    hevc = encode_hevc(tile_side, tile_side)
    tile = Item(b"hvc1", hevc.data, (tile_side, tile_side))
    return build_heif([build_grid(side, side, LARGE, [2] * side**2), tile], configuration=hevc.configuration)


def build_images(count: int) -> bytes:
    """Build a HEIF of this many pictures."""
    hevc = encode_hevc()
    return build_heif([Item(b"hvc1", hevc.data)] * count, configuration=hevc.configuration)


def build_shared_exif() -> bytes:
    """Build a HEIF with 900 blocks of EXIF for one picture, which are 10 MB and all the same."""
    hevc = encode_hevc()
    block = Item(b"Exif", bytes(4) + b"Exif\0\0" + bytes(10 * MB), refers_to=[1], reference=b"cdsc")
    return build_heif([Item(b"hvc1", hevc.data), *[block] * 900], configuration=hevc.configuration, shared=True)


def change_heif(name: bytes, offset: int, value: bytes) -> bytes:
    """Build a HEIF, and overwrite something behind the first box of this name."""
    body = encode(build_photo(64, 64), "HEIF")
    start = body.index(name) + 4 + offset
    return body[:start] + value + body[start + len(value) :]


HEIF_BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "heif of 900 MP": ("image_too_large", partial(build_single, (64, 64), (30_000, 30_000))),
    "heif of 4 billion px a side": ("image_too_large", partial(build_single, (64, 64), (2**32 - 1, 2**32 - 1))),
    "heif of 51 MP": ("image_too_large", partial(build_single, (64, 64), (8_500, 6_000))),
    "heif of no pixels": ("image_corrupt", partial(build_single, (64, 64), (0, 0))),
    "heif of 49 MP without pixels": ("image_corrupt", partial(build_single, (64, 64), LARGE)),
    "heif of 4 kpx that are 48 MP": ("image_corrupt", partial(build_single, (8000, 6000), (64, 64))),
    "heif of 48 MP": ("ok", partial(build_single, (8000, 6000), (8000, 6000))),
    "heif of 49 MP in 4 tiles": ("ok", partial(build_tiles, 2, 3584)),
    "heif of 256 tiles of 16 MP": ("image_too_complex", partial(build_tiles, 16, 4096)),
    "heif of 65,025 tiles of 16 MP": ("image_too_complex", partial(build_tiles, 255, 4096)),
    "heif of 900 pictures": ("image_corrupt", partial(build_images, 900)),
    "heif of 30 pictures": ("ok", partial(build_images, 30)),
    "heif with 900 times the same EXIF": ("image_too_complex", build_shared_exif),
    "heif of 65,535 places": ("image_corrupt", partial(change_heif, b"iloc", 6, b"\xff\xff")),
    "heif of 65,535 items": ("image_corrupt", partial(change_heif, b"iinf", 4, b"\xff\xff")),
}
