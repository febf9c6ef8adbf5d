"""From the decoded pixels to the thumbnail's size, in two steps and in modes in which averaging pixels is right.

Palette and 1-bit pixels cannot be averaged at all, 16-bit ones would lose what they have over 8, and pixels with alpha
have to be premultiplied or their hidden colour bleeds out. A converted copy of the whole picture would double the
memory, so such pictures are converted and averaged band by band. `pipeline` converts colours between the two steps.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, floor

from PIL import Image

from thumbs.imaging.geometry import Box, Plan, Size

REDUCING_GAP = 3.0
"""Pixels per px of the thumbnail that are left to Lanczos; above that, whole blocks are averaged first."""

LANCZOS_PX = 3
"""How far Lanczos looks, in px of the larger of picture and thumbnail: so much beyond the box is kept for its edge."""

BAND_PX = 1_000_000
"""Pixels that are converted at a time: 4 MB, which stay in the cache."""

WIDE_MODE = "F"
"""For what was of 16 bits: 0..255 with fractions, since Pillow cannot average the mode that it decodes to."""
WIDE_UNIT = 1 / 257
"""65,535 is white."""
HALF = 0.5
"""Pillow cuts fractions off; this has it round."""

DIRECT_MODES = frozenset({"L", "RGB", "CMYK"})
STRAIGHT_MODES = {"La": "LA", "RGBa": "RGBA"}


@dataclass(frozen=True, slots=True)
class Part:
    """A picture, and the box within it that is to be seen, in px and fractions."""

    image: Image.Image
    box: Box


def average(image: Image.Image, plan: Plan, *, is_final: bool = True) -> Part:
    """Average the planned part down to a few px for each px of the thumbnail; gives L, RGB, CMYK, La, RGBa or F.

    One whose colours are final comes back untouched where Pillow can average and shrink it in one call.
    """
    box = _scale_box(plan.box, plan.scale)
    mode = _choose_mode(image)
    if image.mode != mode or mode not in DIRECT_MODES:
        return _reduce_in_bands(image, box, plan.size, mode)
    if is_final and not _is_enlarged(box, plan.size):
        return Part(image, box)
    return _reduce_at_once(image, box, plan.size)


def shrink(part: Part, size: Size) -> Image.Image:
    """Cut the part out at the size by Lanczos; gives RGB or RGBA."""
    if part.image.mode == WIDE_MODE or _is_enlarged(part.box, size):
        small = _resize_in_floats(part, size)
    else:
        small = part.image.resize(size, Image.Resampling.LANCZOS, box=part.box, reducing_gap=REDUCING_GAP)
    small = small.convert(STRAIGHT_MODES.get(small.mode, small.mode))
    return small.convert("RGBA" if small.mode in ("LA", "RGBA") else "RGB")


def narrow(image: Image.Image) -> Image.Image:
    """Round a picture of mode F to 8 bits; another one comes back untouched."""
    return image.point(lambda value: value * 1 + HALF).convert("L") if image.mode == WIDE_MODE else image


def _is_enlarged(box: Box, size: Size) -> bool:
    return box[2] - box[0] < size[0] and box[3] - box[1] < size[1]


def _scale_box(box: Box, scale: int) -> Box:
    """Scale the box to the fraction that was decoded; its true size is fractional, and using it is worth 18 dB."""
    return box[0] / scale, box[1] / scale, box[2] / scale, box[3] / scale


def _choose_mode(image: Image.Image) -> str:
    """Choose the mode for averaging; La and RGBa are premultiplied."""
    has_transparency = "transparency" in image.info
    if image.mode.startswith("I") and not has_transparency:
        return WIDE_MODE
    if image.mode in ("1", "L") or image.mode.startswith("I"):
        return "La" if has_transparency else "L"
    if image.mode in ("LA", "La"):
        return "La"
    if image.mode in ("PA", "RGBA", "RGBa") or has_transparency:
        return "RGBa"
    return "CMYK" if image.mode == "CMYK" else "RGB"


def _choose_factors(box: Box, size: Size) -> tuple[int, int]:
    """Choose how many px across and down are averaged to one; at least REDUCING_GAP are left for each px."""
    across = int((box[2] - box[0]) / size[0] / REDUCING_GAP)
    down = int((box[3] - box[1]) / size[1] / REDUCING_GAP)
    return max(1, across), max(1, down)


def _reduce_at_once(image: Image.Image, box: Box, size: Size) -> Part:
    """Average the box, and what Lanczos sees beyond its edges."""
    factors = _choose_factors(box, size)
    margin_x = LANCZOS_PX * max(1.0, (box[2] - box[0]) / size[0])
    margin_y = LANCZOS_PX * max(1.0, (box[3] - box[1]) / size[1])
    left, upper = max(0, floor(box[0] - margin_x)), max(0, floor(box[1] - margin_y))
    edges = left, upper, min(image.width, ceil(box[2] + margin_x)), min(image.height, ceil(box[3] + margin_y))
    reduced = image.crop(edges) if factors == (1, 1) else image.reduce(factors, edges)
    return Part(reduced, _fit_box(box, (left, upper), factors))


def _reduce_in_bands(image: Image.Image, box: Box, size: Size, mode: str) -> Part:
    """Convert the box and average it, a band of rows at a time."""
    left, upper, right, lower = floor(box[0]), floor(box[1]), ceil(box[2]), ceil(box[3])
    factors = factor_x, factor_y = _choose_factors(box, size)
    reduced = Image.new(mode, (ceil((right - left) / factor_x), ceil((lower - upper) / factor_y)))
    band_rows = max(1, BAND_PX // (right - left) // factor_y) * factor_y
    for row in range(upper, lower, band_rows):
        band = image.crop((left, row, right, min(row + band_rows, lower)))
        reduced.paste(_convert(band, mode).reduce(factors), (0, (row - upper) // factor_y))
    return Part(reduced, _fit_box(box, (left, upper), factors))


def _fit_box(box: Box, corner: Size, factors: tuple[int, int]) -> Box:
    """Fit the box to a picture that was cut out at the corner, and averaged."""
    (left, upper), (factor_x, factor_y) = corner, factors
    return (
        (box[0] - left) / factor_x,
        (box[1] - upper) / factor_y,
        (box[2] - left) / factor_x,
        (box[3] - upper) / factor_y,
    )


def _convert(band: Image.Image, mode: str) -> Image.Image:
    if mode == WIDE_MODE:
        return band.convert(WIDE_MODE).point(lambda value: value * WIDE_UNIT + 0)
    if band.mode.startswith("I"):
        band = _narrow_transparent(band)
    if mode in STRAIGHT_MODES:
        return band.convert(STRAIGHT_MODES[mode]).convert(mode)
    return band.convert(mode)


def _narrow_transparent(band: Image.Image) -> Image.Image:
    """Scale 16-bit grey to 8 bits, where convert() clips; the transparent grey becomes alpha."""
    wide, transparent = band.convert("I"), band.info["transparency"]
    alpha = wide.point([0 if value == transparent else 255 for value in range(65_536)], "L")
    return Image.merge("LA", (wide.point(_make_narrow_table(), "L"), alpha))


@lru_cache(maxsize=1)
def _make_narrow_table() -> list[int]:
    """Make the table from 16 to 8 bits, rounded to the nearest (v / 257)."""
    return [(value + 128) // 257 for value in range(65_536)]


def _resize_in_floats(part: Part, size: Size) -> Image.Image:
    """Resize channel by channel without rounding and clipping between Lanczos's two passes.

    Edges of few px ring beyond black and white there; clipped, they cost tiny pictures that are enlarged up to 24 dB.
    """
    channels = [
        narrow(channel.convert(WIDE_MODE).resize(size, Image.Resampling.LANCZOS, box=part.box))
        for channel in part.image.split()
    ]
    mode = "L" if part.image.mode == WIDE_MODE else part.image.mode
    return Image.merge(mode, channels)
