"""Mutated images: small ones of each format, damaged as bad luck or bad will would; the same for the same seed.

A mutation knows nothing of what it damages, apart from those that look for lengths, segments and chunks.
"""

import random
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from tests.support.images import PNG_SIGNATURE, build_exif, build_photo, build_rgb_profile, encode

MAX_RUN_BYTES = 64
INTERESTING = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)

Mutation = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]


def build_seeds() -> list[bytes]:
    """Build one or more small images of each format: still, animated, indexed, transparent, with profile and EXIF."""
    photo, clear = build_photo(40, 30), Image.new("RGBA", (40, 30), (200, 30, 90, 128))
    frames = [build_photo(24, 24).rotate(angle) for angle in (0, 90, 180)]
    extras: dict[str, Any] = {"exif": build_exif(6), "icc_profile": build_rgb_profile()}
    several: dict[str, Any] = {"save_all": True, "append_images": frames[1:], "duration": 50}
    return [
        *(encode(photo, name, **extras) for name in ("JPEG", "PNG", "WEBP", "AVIF")),
        *(encode(clear, name) for name in ("PNG", "WEBP", "AVIF")),
        *(encode(frames[0], name, **several) for name in ("GIF", "PNG", "WEBP", "AVIF")),
        *(encode(photo.convert(mode), "BMP") for mode in ("1", "L", "RGB")),
        encode(photo, "JPEG", progressive=True),
        encode(photo.convert("CMYK"), "JPEG"),
        encode(frames[0], "MPO", save_all=True, append_images=frames[1:]),
        encode(photo.convert("L").convert("I;16"), "PNG"),
        encode(photo.quantize(16), "PNG", transparency=3),
        encode(photo, "WEBP", lossless=True),
        *(encode(photo, "TIFF", compression=name, exif=build_exif(6)) for name in (None, "tiff_lzw", "jpeg")),
        *(encode(photo.convert(mode), "TIFF", compression="packbits") for mode in ("1", "CMYK", "F")),
        *(encode(image, "HEIF", **extras) for image in (photo, clear)),
    ]


def mutate(seeds: Sequence[bytes], *, seed: int, count: int) -> Iterator[bytes]:
    """Yield this many damaged images, each by one to three mutations."""
    chance = random.Random(seed)
    for _ in range(count):
        body = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 3)):
            body = chance.choice(MUTATIONS)(chance, body or bytearray(b"\0"), seeds)
        yield bytes(body)


def flip_bits(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Flip some bits, behind the signature for the most part."""
    for _ in range(chance.randint(1, 16)):
        body[chance.randrange(len(body))] ^= 1 << chance.randrange(8)
    return body


def write_run(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Overwrite a run with one value, or with noise."""
    start, size = chance.randrange(len(body)), chance.randint(1, MAX_RUN_BYTES)
    value = chance.choice((b"\0" * size, b"\xff" * size, chance.randbytes(size)))
    body[start : start + size] = value[: len(body) - start]
    return body


def cut(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Cut the end off."""
    return body[: chance.randint(1, len(body))]


def drop(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Leave a part out."""
    start = chance.randrange(len(body))
    return body[:start] + body[start + chance.randint(1, MAX_RUN_BYTES) :]


def repeat(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Repeat a part, up to 20 times."""
    start = chance.randrange(len(body))
    end = min(len(body), start + chance.randint(1, 400))
    return body[:end] + body[start:end] * chance.randint(1, 20) + body[end:]


def splice(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Go on with another file in the middle."""
    other = chance.choice(seeds)
    return body[: chance.randrange(len(body))] + other[chance.randrange(len(other)) :]


def lie(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Write a number that is a limit of something, in either byte order: lengths, counts and sizes are among them."""
    value, form = chance.choice(INTERESTING), chance.choice((">I", "<I", ">H", "<H"))
    size = struct.calcsize(form)
    start = chance.randrange(min(len(body), 600))
    body[start : start + size] = struct.pack(form, value & (256**size - 1))
    return body


def shuffle_parts(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Repeat, drop or exchange whole chunks or segments, so that all the checksums are right."""
    parts = split_parts(bytes(body))
    if len(parts) < 3:
        return body
    first, second = chance.randrange(1, len(parts)), chance.randrange(1, len(parts))
    match chance.randrange(3):
        case 0:
            parts[first], parts[second] = parts[second], parts[first]
        case 1:
            parts.insert(first, parts[second])
        case _:
            del parts[first]
    return bytearray(b"".join(parts))


def mend_checksums(chance: random.Random, body: bytearray, seeds: Sequence[bytes]) -> bytearray:
    """Damage a chunk of a PNG, and make its checksum right again: what is in it gets read."""
    parts = split_parts(bytes(body))
    place = chance.randrange(len(parts))
    part = bytearray(parts[place])
    if not body.startswith(PNG_SIGNATURE) or place == 0 or len(part) < 12:
        return flip_bits(chance, body, seeds)
    for _ in range(chance.randint(1, 4)):
        part[chance.randrange(4, len(part))] ^= 1 << chance.randrange(8)
    parts[place] = bytes(part[:-4]) + struct.pack(">I", zlib.crc32(part[4:-4]))
    return bytearray(b"".join(parts))


def split_parts(body: bytes) -> list[bytes]:
    """Split a JPEG at its markers; a PNG, RIFF or ISO file into its head and its outer chunks."""
    if body.startswith(b"\xff\xd8"):
        first, *others = body.split(b"\xff")
        return [first, *(b"\xff" + other for other in others)]
    layout = next((layout for layout in LAYOUTS if body[layout.mark_at :].startswith(layout.mark)), None)
    if layout is None:
        return [body]
    parts, position = [body[: layout.start]], layout.start
    while position + 8 <= len(body):
        length = body[position + layout.length_at :][:4]
        end = position + max(8, layout.extra_bytes + int.from_bytes(length, layout.byte_order))
        parts.append(body[position:end])
        position = end
    return [part for part in (*parts, body[position:]) if part]


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a format is made of chunks: where they begin, where a chunk's length stands, and what it leaves out."""

    mark: bytes
    mark_at: int
    start: int
    length_at: int
    byte_order: Literal["little", "big"]
    extra_bytes: int


LAYOUTS = (
    _Layout(PNG_SIGNATURE, 0, len(PNG_SIGNATURE), 0, "big", 12),
    _Layout(b"WEBP", 8, 12, 4, "little", 8),
    _Layout(b"ftyp", 4, 0, 0, "big", 0),
)

MUTATIONS: tuple[Mutation, ...] = (
    flip_bits,
    write_run,
    cut,
    drop,
    repeat,
    splice,
    lie,
    lie,
    shuffle_parts,
    shuffle_parts,
    mend_checksums,
)
"""The ones that keep a file readable count twice."""
