"""From the decoded pixels to the thumbnail's size in one resize, in a mode in which averaging pixels is right.

Palette and 1-bit pixels cannot be averaged at all, 16-bit ones have to be scaled, and pixels with alpha have to be
premultiplied or their hidden colour bleeds out. A converted copy of the whole picture would double the memory, so
such pictures are converted and reduced band by band.
"""

from functools import lru_cache
from math import ceil, floor

from PIL import Image

from thumbs.imaging.geometry import Box, Plan, Size

REDUCING_GAP = 3.0
"""Pixels per px of the thumbnail that are left to Lanczos; above that, whole blocks are averaged first."""

BAND_PX = 1_000_000
"""Pixels that are converted at a time: 4 MB, which stay in the cache."""

DIRECT_MODES = frozenset({"L", "RGB", "CMYK"})
STRAIGHT_MODES = {"La": "LA", "RGBa": "RGBA"}


def shrink(image: Image.Image, plan: Plan) -> Image.Image:
    """Cut the planned part out of the decoded picture at the planned size; gives L, RGB, CMYK, LA or RGBA."""
    box = _scale_box(plan.box, plan.scale)
    mode = _choose_mode(image)
    if image.mode == mode and mode in DIRECT_MODES:
        return image.resize(plan.size, Image.Resampling.LANCZOS, box=box, reducing_gap=REDUCING_GAP)
    reduced, box = _reduce_in_bands(image, box, plan.size, mode)
    small = reduced.resize(plan.size, Image.Resampling.LANCZOS, box=box)
    return small.convert(STRAIGHT_MODES[mode]) if mode in STRAIGHT_MODES else small


def _scale_box(box: Box, scale: int) -> Box:
    """Scale the box to the fraction that was decoded; its true size is fractional, and using it is worth 18 dB."""
    return box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale


def _choose_mode(image: Image.Image) -> str:
    """Choose the mode for averaging; La and RGBa are premultiplied."""
    has_transparency = "transparency" in image.info
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        return "La" if has_transparency else "L"
    if image.mode in ("LA", "La"):
        return "La"
    if image.mode in ("PA", "RGBA", "RGBa") or has_transparency:
        return "RGBa"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def _reduce_in_bands(image: Image.Image, box: Box, size: Size, mode: str) -> tuple[Image.Image, Box]:
    """Convert the box and average it down to about REDUCING_GAP times the size; gives it and the box within it."""
    left, upper, right, lower = floor(box[0]), floor(box[1]), ceil(box[2]), ceil(box[3])
    factor_x = max(1, int((box[2] - box[0]) / size[0] / REDUCING_GAP))
    factor_y = max(1, int((box[3] - box[1]) / size[1] / REDUCING_GAP))
    reduced = Image.new(mode, (ceil((right - left) / factor_x), ceil((lower - upper) / factor_y)))
    band_rows = max(1, BAND_PX // (right - left) // factor_y) * factor_y
    for row in range(upper, lower, band_rows):
        band = image.crop((left, row, right, min(row + band_rows, lower)))
        reduced.paste(_convert(band, mode).reduce((factor_x, factor_y)), (0, (row - upper) // factor_y))
    return reduced, (
        (box[0] - left) / factor_x,
        (box[1] - upper) / factor_y,
        (box[2] - left) / factor_x,
        (box[3] - upper) / factor_y,
    )


def _convert(band: Image.Image, mode: str) -> Image.Image:
    if band.mode.startswith("I"):
        band = _narrow(band)
    if mode in STRAIGHT_MODES:
        return band.convert(STRAIGHT_MODES[mode]).convert(mode)
    return band.convert(mode)


def _narrow(band: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where convert() clips; a transparent grey becomes alpha."""
    wide = band.convert("I")
    grey = wide.point(_make_narrow_table(), "L")
    transparent = band.info.get("transparency")
    if transparent is None:
        return grey
    alpha = wide.point([0 if value == transparent else 255 for value in range(65_536)], "L")
    return Image.merge("LA", (grey, alpha))


@lru_cache(maxsize=1)
def _make_narrow_table() -> list[int]:
    """Make the table from 16 to 8 bits: 65,535 is white, rounded to the nearest (v / 257)."""
    return [(value + 128) // 257 for value in range(65_536)]
