"""HEIF files put together box by box, good and hostile, around a picture that pillow-heif encodes (ISO 23008-12)."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from PIL import Image

from tests.support.images import encode

FTYP = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


@dataclass(frozen=True, slots=True)
class Item:
    """An item: its kind (hvc1, grid, Exif), its data, its size in px, the items that it refers to, and how."""

    kind: bytes
    data: bytes
    size: tuple[int, int] = (64, 64)
    refers_to: Sequence[int] = ()
    reference: bytes = b"dimg"
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class Coded:
    """A picture as HEVC has it: the decoder's configuration (a whole hvcC box) and the data."""

    configuration: bytes
    data: bytes


@cache
def encode_hevc(width: int = 64, height: int = 64, colour: tuple[int, int, int] = (255, 0, 0)) -> Coded:
    """Encode a picture of one colour."""
    body = encode(Image.new("RGB", (width, height), colour), "HEIF", quality=80)
    start = body.index(b"hvcC") - 4
    size = int.from_bytes(body[start : start + 4])
    return Coded(body[start : start + size], body[body.index(b"mdat") + 4 :])


def build_box(name: bytes, *content: bytes) -> bytes:
    """Build one box."""
    data = b"".join(content)
    return struct.pack(">I", 8 + len(data)) + name + data


def build_heif(items: Sequence[Item], *, configuration: bytes, shared: bool = False) -> bytes:
    """Build a file of these items, numbered from 1; the first is the primary one.

    With `shared`, all data but the first item's is stored once, and taken from the second item.
    """
    meta = _build_meta(items, configuration, 0, shared=shared)
    start = len(FTYP) + len(meta) + 8
    blobs = [item.data for item in (items[:2] if shared else items)]
    return FTYP + _build_meta(items, configuration, start, shared=shared) + build_box(b"mdat", *blobs)


def build_grid(columns: int, rows: int, size: tuple[int, int], tiles: Sequence[int]) -> Item:
    """Build the item of a grid (section 6.6.2.3.2)."""
    data = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)
    return Item(b"grid", data, size, tiles)


def _build_meta(items: Sequence[Item], configuration: bytes, start: int, *, shared: bool) -> bytes:
    handler = build_box(b"hdlr", bytes(8), b"pict", bytes(13))
    primary = build_box(b"pitm", bytes(4), struct.pack(">H", 1))
    entries = [
        build_box(b"infe", b"\2\0\0\0", struct.pack(">HH", number, 0), item.kind, b"\0")
        for number, item in enumerate(items, 1)
    ]
    information = build_box(b"iinf", bytes(4), struct.pack(">H", len(items)), *entries)
    links = [_build_reference(number, item) for number, item in enumerate(items, 1) if item.refers_to]
    return build_box(
        b"meta",
        bytes(4),
        handler,
        primary,
        information,
        build_box(b"iref", bytes(4), *links),
        _build_properties(items, configuration),
        _build_places(items, start, shared=shared),
    )


def _build_reference(number: int, item: Item) -> bytes:
    count = len(item.refers_to)
    return build_box(item.reference, struct.pack(f">HH{count}H", number, count, *item.refers_to))


def _build_places(items: Sequence[Item], start: int, *, shared: bool) -> bytes:
    content = struct.pack(">BBH", 0x44, 0, len(items))
    for place, item in enumerate(items):
        content += struct.pack(">HHHII", place + 1, 0, 1, start, len(item.data))
        if not shared or place == 0:
            start += len(item.data)
    return build_box(b"iloc", bytes(4), content)


def _build_properties(items: Sequence[Item], configuration: bytes) -> bytes:
    properties, links = [configuration], b""
    for number, item in enumerate(items, 1):
        own = [1] if item.kind == b"hvc1" else []
        for box in (build_box(b"ispe", bytes(4), struct.pack(">II", *item.size)), item.extra):
            if box and item.kind != b"Exif":
                properties.append(box)
                own.append(len(properties))
        links += struct.pack(">HB", number, len(own)) + b"".join(struct.pack(">H", each) for each in own)
    count = struct.pack(">I", len(items))
    return build_box(b"iprp", build_box(b"ipco", *properties), build_box(b"ipma", b"\0\0\0\1", count, links))
