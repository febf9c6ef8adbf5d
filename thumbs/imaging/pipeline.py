"""The steps from a source's bytes to finished thumbnails, in the order in which they run.

sniff → measure → admit → open → shrink on load, once; then for each spec
average → convert colour → shrink → orient → fit → flatten → encode → describe.
Where it pays, shrinking on load is done from a part of the file (`progressive`) or past Pillow (`webp`).
Each step is a function of its own module; this one only passes values on, and says which kind of failure each half
of the way ends in: the bytes are at fault while decoding, we are while rendering.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image, ImageFile

from thumbs.domain import DecodeLimits, Picture, Rendering, ThumbnailSpec
from thumbs.errors import ImageCorrupt, ImageTooLarge, JobError, RenderFailed
from thumbs.imaging.admit import (
    check_decoded_pixels,
    check_parts,
    check_pixels,
    check_scanned_pixels,
    get_max_pixels,
)
from thumbs.imaging.colour import convert_to_srgb, needs_conversion
from thumbs.imaging.decode import load_at_scale, open_header
from thumbs.imaging.describe import describe
from thumbs.imaging.encode import choose_output, encode
from thumbs.imaging.fit import flatten, place
from thumbs.imaging.geometry import Plan, Size, fit_plan, make_plan
from thumbs.imaging.orient import is_turned, orient, read_orientation
from thumbs.imaging.progressive import select_scans
from thumbs.imaging.samples import show_samples
from thumbs.imaging.seam import translate_failures
from thumbs.imaging.shrink import average, shrink
from thumbs.imaging.sniff import TIFF, WEBP, SourceFormat, sniff
from thumbs.imaging.steps import Steps
from thumbs.imaging.structure import Header, measure
from thumbs.imaging.webp import decode_smaller


def make_thumbnails(body: bytes, specs: Sequence[ThumbnailSpec], limits: DecodeLimits) -> Rendering:
    """Make the thumbnails that the specs ask for, from one decode; the same bytes and specs give the same thumbnails.

    Raises a DecodeError where the bytes are at fault. A picture that alone cannot be made is its RenderFailed, or
    ImageTooLarge where it wants more pixels decoded than the limits or the memory allow, and the others go on; where
    the first one does, there is nothing to go on for.
    Not for several threads at once: Pillow's warnings are silenced through the `warnings` module's state.
    """
    try:
        return _make_all(body, specs, limits)
    except ImageTooLarge as error:
        largest = max(range(len(specs)), key=lambda place: specs[place].width * specs[place].height)
        if largest == 0:
            raise
        rest = make_thumbnails(body, [*specs[:largest], *specs[largest + 1 :]], limits)
        return replace(rest, pictures=(*rest.pictures[:largest], error, *rest.pictures[largest:]))


def _make_all(body: bytes, specs: Sequence[ThumbnailSpec], limits: DecodeLimits) -> Rendering:
    steps = Steps()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with translate_failures(ImageCorrupt):
            source = _decode(body, specs, limits, steps)
        pictures = tuple(
            _try_to_render(source, plan, spec, steps) for plan, spec in zip(source.plans, specs, strict=True)
        )
    width, height = source.size[::-1] if source.is_turned else source.size
    return Rendering(source.format.content_type, width, height, pictures, steps.list_all())


@dataclass(frozen=True, slots=True)
class _Source:
    """A decoded source: `image` is smaller than the picture by the plans' scale; `size` is the full one, as stored."""

    image: Image.Image
    format: SourceFormat
    size: Size
    plans: tuple[Plan, ...]
    orientation: int

    @property
    def is_turned(self) -> bool:
        return is_turned(self.orientation)


def _decode(body: bytes, specs: Sequence[ThumbnailSpec], limits: DecodeLimits, steps: Steps) -> _Source:
    source_format = sniff(body, limits.formats)
    steps.note("sniff")
    header = measure(body, source_format)
    steps.note("measure", header.size)
    check_pixels(header.size, header, limits)
    check_parts(body, source_format, header, limits)
    image = open_header(body, source_format, get_max_pixels(header, limits))
    size = image.size
    steps.note("open", size)
    check_pixels(size, header, limits)
    check_scanned_pixels(body, header, size)
    draft = _find_neediest(_plan_all(image, size, specs, header))
    check_decoded_pixels(size, draft.scale, limits)
    steps.note("admit", size)
    decoded = _load(body, image, header, draft, source_format)
    steps.note("shrink on load", decoded.size)
    plans = _plan_all(image, size, specs, header)  # Again: a PNG's EXIF may stand behind its pixels.
    if decoded is image:
        plans = [replace(plan, scale=draft.scale) for plan in plans]
    else:
        plans = [fit_plan(plan, size, decoded.size) for plan in plans]
    return _Source(decoded, source_format, size, tuple(plans), read_orientation(image))


def _load(
    body: bytes, image: ImageFile.ImageFile, header: Header, draft: Plan, source_format: SourceFormat
) -> Image.Image:
    """Decode the pixels: past Pillow where that pays, else at the fraction that its decoder can."""
    if source_format == WEBP and (smaller := decode_smaller(body, image.size, draft)):
        smaller.info = image.info
        return smaller
    load_at_scale(image, draft.scale, select_scans(body, header, draft))
    if source_format == TIFF:
        image.info["exif"] = body  # A TIFF's first directory is what EXIF is: it has the orientation.
        return show_samples(image, body)
    return image


def _plan_all(image: Image.Image, size: Size, specs: Sequence[ThumbnailSpec], header: Header) -> list[Plan]:
    turned = is_turned(read_orientation(image))
    return [make_plan(size, spec, is_turned=turned, is_scalable=header.is_scalable) for spec in specs]


def _find_neediest(plans: Sequence[Plan]) -> Plan:
    """Find the plan that the whole decode has to be large enough for."""
    return min(plans, key=lambda plan: plan.shrink)


def _try_to_render(source: _Source, plan: Plan, spec: ThumbnailSpec, steps: Steps) -> Picture | JobError:
    try:
        with translate_failures(RenderFailed):
            return _render(source, plan, spec, steps)
    except JobError as error:
        return error


def _render(source: _Source, plan: Plan, spec: ThumbnailSpec, steps: Steps) -> Picture:
    part = average(source.image, plan, is_final=not needs_conversion(source.image))
    steps.note("average", part.image.size)
    part = replace(part, image=convert_to_srgb(part.image, source.image.info.get("icc_profile")))
    steps.note("convert colour", part.image.size)
    small = shrink(part, plan.size)
    steps.note("shrink", small.size)
    small = orient(small, source.orientation)
    steps.note("orient", small.size)
    output = choose_output(small, spec)
    small = place(small, spec, output)
    steps.note("fit", small.size)
    small = flatten(small, spec, output)
    steps.note("flatten", small.size)
    body = encode(small, spec, output)
    steps.note("encode", small.size)
    picture = describe(small, body, output)
    steps.note("describe", small.size)
    return picture
