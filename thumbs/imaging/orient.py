"""Which way up the picture is: EXIF orientation read from the block's bytes, and applied to the small picture.

A reader of our own, since Pillow's warns, raises six kinds of exception on broken blocks and also obeys XMP, which
browsers do not.
"""

import struct

from PIL import Image

UPRIGHT = 1
ORIENTATION_TAG = 0x0112
ENTRY_BYTES = 12
BYTE_ORDERS = {b"II": "<", b"MM": ">"}
SHORT, LONG = 3, 4

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What makes each orientation upright (EXIF 2.32 section 4.6.4)."""


def read_orientation(image: Image.Image) -> int:
    """Read the orientation from the EXIF that the file brought; 1 (upright) without one or when it is broken."""
    block = image.info.get("exif")
    if not isinstance(block, bytes):
        return UPRIGHT
    try:
        found = _find_orientation(block.removeprefix(b"Exif\0\0"))
    except struct.error:  # The block ends before what it announces.
        return UPRIGHT
    return found if found in TURNS else UPRIGHT


def is_turned(orientation: int) -> bool:
    """Tell whether width and height change places."""
    return orientation >= 5


def orient(image: Image.Image, orientation: int) -> Image.Image:
    """Turn the picture upright."""
    return image.transpose(TURNS[orientation]) if orientation in TURNS else image


def _find_orientation(tiff: bytes) -> int:
    order = BYTE_ORDERS.get(tiff[:2])
    if order is None:
        return UPRIGHT
    (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
    (entry_count,) = struct.unpack_from(f"{order}H", tiff, directory)
    for number in range(entry_count):
        entry = directory + 2 + number * ENTRY_BYTES
        tag, kind = struct.unpack_from(f"{order}HH", tiff, entry)
        if tag == ORIENTATION_TAG and kind in (SHORT, LONG):
            (value,) = struct.unpack_from(f"{order}{'H' if kind == SHORT else 'I'}", tiff, entry + 8)
            return int(value)
    return UPRIGHT
