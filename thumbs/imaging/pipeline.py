"""The steps from a source's bytes to a finished thumbnail, in the order in which they run.

sniff → measure → admit → open → shrink on load → convert colour → orient → fit → flatten → encode → describe.
Where it pays, shrinking on load is done from a part of the file (`progressive`) or past Pillow (`webp`).
Each step is a function of its own module; this one only passes values on, and says which kind of failure each half
of the way ends in: the bytes are at fault while decoding, we are while rendering.
"""

import warnings
from dataclasses import dataclass

from PIL import Image

from thumbs.domain import DecodeLimits, Picture, ThumbnailSpec
from thumbs.errors import ImageCorrupt, RenderFailed
from thumbs.imaging.admit import (
    check_decoded_pixels,
    check_parts,
    check_pixels,
    check_scanned_pixels,
    get_max_pixels,
)
from thumbs.imaging.colour import convert_to_srgb
from thumbs.imaging.decode import load_at_scale, open_header
from thumbs.imaging.describe import describe
from thumbs.imaging.encode import choose_output, encode
from thumbs.imaging.fit import flatten, place
from thumbs.imaging.geometry import Plan, Size, fit_plan, make_plan
from thumbs.imaging.orient import is_turned, orient, read_orientation
from thumbs.imaging.progressive import select_scans
from thumbs.imaging.seam import translate_failures
from thumbs.imaging.shrink import shrink
from thumbs.imaging.sniff import WEBP, SourceFormat, sniff
from thumbs.imaging.structure import Header, measure
from thumbs.imaging.webp import decode_smaller


def make_thumbnail(body: bytes, spec: ThumbnailSpec, limits: DecodeLimits) -> Picture:
    """Make the thumbnail that the spec asks for; the same bytes and spec give the same thumbnail, byte for byte.

    Raises a DecodeError where the bytes are at fault and RenderFailed where resizing or encoding fails, nothing else.
    Not for several threads at once: Pillow's warnings are silenced through the `warnings` module's state.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with translate_failures(ImageCorrupt):
            source = _decode(body, spec, limits)
        with translate_failures(RenderFailed):
            return _render(source, spec)


@dataclass(frozen=True, slots=True)
class _Source:
    """A decoded source: `image` is smaller than the picture by `plan.scale`; `size` is the full one, as stored."""

    image: Image.Image
    format: SourceFormat
    size: Size
    plan: Plan


def _decode(body: bytes, spec: ThumbnailSpec, limits: DecodeLimits) -> _Source:
    source_format = sniff(body, limits.formats)
    header = measure(body, source_format)
    check_parts(body, source_format, header)
    check_pixels(header.size, header, limits)
    image = open_header(body, source_format, get_max_pixels(header, limits))
    size = image.size
    check_pixels(size, header, limits)
    check_scanned_pixels(body, header, size)
    draft = _plan(image, size, spec, header)
    check_decoded_pixels(size, draft.scale, limits)
    if source_format == WEBP and (smaller := decode_smaller(body, size, draft)):
        smaller.info = image.info
        return _Source(smaller, source_format, size, fit_plan(draft, size, smaller.size))
    load_at_scale(image, draft.scale, select_scans(body, header, draft))
    plan = _plan(image, size, spec, header)  # Again: a PNG's EXIF may stand behind its pixels.
    return _Source(image, source_format, size, plan)


def _plan(image: Image.Image, size: Size, spec: ThumbnailSpec, header: Header) -> Plan:
    turned = is_turned(read_orientation(image))
    return make_plan(size, spec, is_turned=turned, is_scalable=header.is_scalable)


def _render(source: _Source, spec: ThumbnailSpec) -> Picture:
    orientation = read_orientation(source.image)
    small = shrink(source.image, source.plan)
    small = convert_to_srgb(small, source.image.info.get("icc_profile"))
    small = orient(small, orientation)
    output = choose_output(small, spec)
    small = place(small, spec, output)
    small = flatten(small, spec, output)
    body = encode(small, spec, output)
    source_size = source.size[::-1] if is_turned(orientation) else source.size
    return describe(small, body, output, source.format.content_type, source_size)
