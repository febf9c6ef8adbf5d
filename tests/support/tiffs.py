"""TIFFs put together tag by tag, good and hostile (TIFF 6.0): Pillow writes few of the layouts that there are."""

import struct
from collections.abc import Mapping, Sequence

from thumbs.imaging.tiff import Photometric, Tag

Values = int | bytes | Sequence[int]

ORIENTATION = 274
XMP = 700
EXIF = 34665
UNCOMPRESSED, LZW, JPEG, DEFLATE, PACK_BITS, LZMA, OLD_JPEG = 1, 5, 7, 8, 32773, 34925, 6

SHORT, LONG, UNDEFINED = 3, 4, 7
GREY: dict[int, Values] = {Tag.BITS: 8, Tag.PHOTOMETRIC: Photometric.BLACK_IS_ZERO, Tag.SAMPLES: 1}
RGB: dict[int, Values] = {Tag.BITS: (8, 8, 8), Tag.PHOTOMETRIC: Photometric.RGB, Tag.SAMPLES: 3}


def build_tiff(
    size: tuple[int, int],
    parts: Sequence[bytes],
    tags: Mapping[int, Values],
    *,
    order: str = "<",
    next_directory: int = 0,
) -> bytes:
    """Build a TIFF of one page from its strips, or its tiles where `tags` have a tile's width.

    One strip unless `tags` say how many rows a strip has. `tags` win over what is built here.
    """
    offsets, counts = [], []
    data = b""
    for part in parts:
        offsets.append(8 + len(data))
        counts.append(len(part))
        data += part + bytes(len(part) % 2)
    places, lengths = (
        (Tag.TILE_OFFSETS, Tag.TILE_BYTES) if Tag.TILE_WIDTH in tags else (Tag.STRIP_OFFSETS, Tag.STRIP_BYTES)
    )
    own: dict[int, Values] = {Tag.WIDTH: size[0], Tag.LENGTH: size[1], Tag.COMPRESSION: 1}
    own |= {places: offsets, lengths: counts} | ({} if Tag.TILE_WIDTH in tags else {Tag.ROWS_PER_STRIP: size[1]})
    return write_directory(data, own | dict(tags), order=order, next_directory=next_directory)


def write_directory(data: bytes, tags: Mapping[int, Values], *, order: str, next_directory: int = 0) -> bytes:
    """Write a header, the data from byte 8 on, and the directory behind them."""
    start = 8 + len(data)
    entries, overflow = b"", b""
    behind = start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        kind, count, packed = _pack_values(values, order)
        if len(packed) > 4:
            place = behind + len(overflow)
            overflow += packed + bytes(len(packed) % 2)
            packed = struct.pack(f"{order}I", place)
        entries += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
    mark = b"II*\0" if order == "<" else b"MM\0*"
    head = mark + struct.pack(f"{order}I", start)
    table = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", next_directory)
    return head + data + table + overflow


def _pack_values(values: Values, order: str) -> tuple[int, int, bytes]:
    if isinstance(values, bytes):
        return UNDEFINED, len(values), values
    numbers = [values] if isinstance(values, int) else list(values)
    kind, form = (SHORT, "H") if max(numbers) <= 0xFFFF else (LONG, "I")
    return kind, len(numbers), struct.pack(f"{order}{len(numbers)}{form}", *numbers)
