"""Which format the bytes are in, by their magic numbers; no decoder sees bytes that did not pass here."""

from collections.abc import Set
from dataclasses import dataclass

from thumbs.errors import UnsupportedFormat

MAX_FTYP_BYTES = 256
"""How far an ISO media file's brands are read; real ones need 32 to 64 bytes."""

AVIF_BRANDS = frozenset({b"avif", b"avis"})
HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})
"""HEVC in HEIF (ISO 23008-12 annex B), and HEIF in general: an AVIF has these, too, so it is looked for first."""


@dataclass(frozen=True, slots=True)
class SourceFormat:
    """A format by its name in THUMBS_FORMATS, by Pillow's name for it, and its content type."""

    name: str
    pillow_name: str
    content_type: str


JPEG = SourceFormat("jpeg", "JPEG", "image/jpeg")  # Pillow opens a multi-picture JPEG (MPO) under this name, too.
PNG = SourceFormat("png", "PNG", "image/png")
GIF = SourceFormat("gif", "GIF", "image/gif")
BMP = SourceFormat("bmp", "BMP", "image/bmp")
WEBP = SourceFormat("webp", "WEBP", "image/webp")
AVIF = SourceFormat("avif", "AVIF", "image/avif")
TIFF = SourceFormat("tiff", "TIFF", "image/tiff")
HEIF = SourceFormat("heif", "HEIF", "image/heif")

SIGNATURES = (
    (b"\xff\xd8\xff", JPEG),
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"GIF87a", GIF),
    (b"GIF89a", GIF),
    (b"BM", BMP),
    (b"II*\0", TIFF),
    (b"MM\0*", TIFF),
)
"""BigTIFF (II+, MM+) is none: it is for files of more than 4 GiB."""


def sniff(body: bytes, accepted: Set[str]) -> SourceFormat:
    """Tell the format of the bytes; raises UnsupportedFormat when it is none, or none of the accepted names."""
    found = _find_format(body)
    if found is None:
        raise UnsupportedFormat("no known signature" if body else "no bytes")
    if found.name not in accepted:
        raise UnsupportedFormat(f"{found.name} is not accepted")
    return found


def _find_format(body: bytes) -> SourceFormat | None:
    for signature, source_format in SIGNATURES:
        if body.startswith(signature):
            return source_format
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return WEBP
    return _find_iso_format(body) if body[4:8] == b"ftyp" else None


def _find_iso_format(body: bytes) -> SourceFormat | None:
    brands = _list_brands(body)
    if brands & AVIF_BRANDS:
        return AVIF
    return HEIF if brands & HEIF_BRANDS else None


def _list_brands(body: bytes) -> set[bytes]:
    """List the major and the compatible brands of an ISO media file (ISO 14496-12 section 4.3)."""
    end = min(int.from_bytes(body[:4]), MAX_FTYP_BYTES)
    return {body[8:12]} | {body[start : start + 4] for start in range(16, end, 4)}
