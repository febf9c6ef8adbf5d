"""What a thumbnail should look like, computed without haste, and how far another one is from it.

The reference decodes the whole picture, turns it upright, converts its profile there, premultiplies alpha, and shrinks
the exact crop with Lanczos in floating point. Both it and what is compared with it lie on white.
"""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import chain
from math import log10
from statistics import fmean
from typing import Final

from PIL import Image, ImageCms, ImageMath, ImageOps

from bench.peers_python import SIDE_PX

WHITE: Final = 255.0
WHITE_16_BIT: Final = 65535.0
BEST_DB: Final = 99.0
"""What is said of two pictures that are the same, whose PSNR is infinite."""

WINDOW_PX: Final = 8
STEP_PX: Final = 4
STABILISERS: Final = ((0.01 * WHITE) ** 2, (0.03 * WHITE) ** 2)
"""Of SSIM (Wang et al. 2004)."""
LUMA: Final = (0.299, 0.587, 0.114)

PROFILE_MODES: Final = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

PNG_DEPTH_OFFSET: Final = 24
"""Where IHDR tells the bits of a sample (PNG section 11.2.1)."""

Plane = Sequence[float]
Pixels = tuple[Plane, ...]
"""Red, green and blue of a thumbnail on white, 0..255, not rounded."""


@dataclass(frozen=True, slots=True)
class _Layers:
    """A picture as floating point, 0..255: red, green and blue, or grey; and alpha where it has one."""

    colours: tuple[Image.Image, ...]
    alpha: Image.Image | None


def build_reference(body: bytes) -> Pixels:
    """Build what the thumbnail of the file should be; raises what Pillow raises."""
    image = _open(body)
    layers = _split(ImageOps.exif_transpose(image), image.info.get("icc_profile"))
    if layers.alpha is None:
        return tuple(_clip(_read(_shrink(colour))) for colour in layers.colours)
    premultiplied = [_premultiply(colour, layers.alpha) for colour in layers.colours]
    alpha = _clip(_read(_shrink(layers.alpha)))
    return tuple(_lay_on_white(_read(_shrink(colour)), alpha) for colour in premultiplied)


def read_thumbnail(body: bytes) -> Pixels:
    """Read a thumbnail that an engine has made."""
    image: Image.Image = Image.open(BytesIO(body))
    layers = _split(image, profile=None)
    if layers.alpha is None:
        return tuple(_read(colour) for colour in layers.colours)
    premultiplied = [_premultiply(colour, layers.alpha) for colour in layers.colours]
    return tuple(_lay_on_white(_read(colour), _read(layers.alpha)) for colour in premultiplied)


def measure_psnr(pixels: Pixels, reference: Pixels) -> float:
    """Measure the peak signal-to-noise ratio over all three colours, in dB."""
    pairs = zip(chain(*pixels), chain(*reference), strict=True)
    error = fmean((value - wanted) ** 2 for value, wanted in pairs)
    return min(BEST_DB, 10 * log10(WHITE**2 / error)) if error else BEST_DB


def measure_ssim(pixels: Pixels, reference: Pixels) -> float:
    """Measure the structural similarity of the luma, 1 at most: the mean of windows of 8 px, 4 px apart."""
    luma, wanted = _weigh(pixels), _weigh(reference)
    starts = range(0, SIDE_PX - WINDOW_PX + 1, STEP_PX)
    corners = [row * SIDE_PX + column for row in starts for column in starts]
    return fmean(_compare(_cut(luma, corner), _cut(wanted, corner)) for corner in corners)


def _open(body: bytes) -> Image.Image:
    """Decode the first frame; the transparent colour of a PNG is scaled as Pillow scales its pixels."""
    Image.MAX_IMAGE_PIXELS = None
    image = Image.open(BytesIO(body))
    image.load()
    transparent = image.info.get("transparency")
    if image.format == "PNG" and isinstance(transparent, tuple) and body[PNG_DEPTH_OFFSET] == 16:
        image.info["transparency"] = tuple(value >> 8 for value in transparent)
    if image.format == "PNG" and isinstance(transparent, int) and image.mode == "L":
        image.info["transparency"] = transparent * 255 // (2 ** body[PNG_DEPTH_OFFSET] - 1)
    return image


def _split(image: Image.Image, profile: bytes | None) -> _Layers:
    if image.mode.startswith("I"):
        return _split_16_bit(image)
    alpha = image.convert("RGBA").getchannel("A").convert("F") if image.has_transparency_data else None
    if image.mode in ("1", "LA"):
        image = image.convert("L")
    if image.mode in ("P", "PA", "RGBA"):
        image = image.convert("RGBA").convert("RGB")
    colours = _convert_profile(image, profile).convert("RGB").split()
    return _Layers(tuple(colour.convert("F") for colour in colours), alpha)


def _split_16_bit(image: Image.Image) -> _Layers:
    """Split 16-bit grey, of which no bit is dropped."""
    wide, transparent = image.convert("I"), image.info.get("transparency")
    grey = ImageMath.lambda_eval(lambda of: of["grey"] * (WHITE / WHITE_16_BIT), grey=wide.convert("F"))
    if transparent is None:
        return _Layers((grey, grey, grey), None)
    alpha = ImageMath.lambda_eval(lambda of: of["float"]((of["grey"] != transparent) * 255), grey=wide)
    return _Layers((grey, grey, grey), alpha)


def _convert_profile(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert every pixel to sRGB; as it is without a profile, or with one that is broken or for other colours."""
    if not profile:
        return image
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = PROFILE_MODES.get(source.profile.xcolor_space.strip())
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if mode != image.mode:
            return image
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):
        return image
    return converted or image


def _shrink(plane: Image.Image) -> Image.Image:
    """Shrink the largest centred square, whose edges may fall between px."""
    side = min(plane.size)
    left, upper = (plane.width - side) / 2, (plane.height - side) / 2
    box = (left, upper, left + side, upper + side)
    return plane.resize((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS, box=box)


def _premultiply(colour: Image.Image, alpha: Image.Image) -> Image.Image:
    made: Image.Image = ImageMath.lambda_eval(lambda of: of["colour"] * of["alpha"] / WHITE, colour=colour, alpha=alpha)
    return made


def _read(plane: Image.Image) -> Plane:
    return array("f", plane.tobytes())


def _clip(values: Plane) -> Plane:
    """Clip to what there is: Lanczos overshoots at edges, and no display does."""
    return [min(WHITE, max(0.0, value)) for value in values]


def _lay_on_white(colour: Plane, alpha: Plane) -> Plane:
    """Lay a premultiplied colour, which is never more than its alpha, on white."""
    pairs = zip(colour, alpha, strict=True)
    return [min(opacity, max(0.0, value)) + WHITE - opacity for value, opacity in pairs]


def _weigh(pixels: Pixels) -> Plane:
    return [sum(map(float.__mul__, LUMA, values)) for values in zip(*pixels, strict=True)]


def _cut(plane: Plane, corner: int) -> list[float]:
    rows = range(corner, corner + WINDOW_PX * SIDE_PX, SIDE_PX)
    return [value for start in rows for value in plane[start : start + WINDOW_PX]]


def _compare(window: Sequence[float], wanted: Sequence[float]) -> float:
    mean, wanted_mean = fmean(window), fmean(wanted)
    variance = fmean((value - mean) ** 2 for value in window)
    wanted_variance = fmean((value - wanted_mean) ** 2 for value in wanted)
    covariance = fmean((a - mean) * (b - wanted_mean) for a, b in zip(window, wanted, strict=True))
    luminance, contrast = STABILISERS
    same = (2 * mean * wanted_mean + luminance) * (2 * covariance + contrast)
    return same / ((mean**2 + wanted_mean**2 + luminance) * (variance + wanted_variance + contrast))
