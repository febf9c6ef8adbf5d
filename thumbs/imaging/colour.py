"""Colours as a browser would show them: the embedded profile converted to sRGB, then dropped.

A mean of colours is another one when they are converted afterwards, so that is done before Lanczos takes its means;
but after most of the averaging, of neighbours that are alike: every pixel of 2.5 MP would take 258 ms.
"""

from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from itertools import chain, product

from PIL import Image, ImageCms

from thumbs.imaging.shrink import STRAIGHT_MODES, narrow

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Larger profiles are ignored; real ones end at about 2 MB (CMYK tables), and the cache keeps what it was asked for."""

CACHED_TRANSFORMS = 8
"""The profiles in use are few, and one of CMYK takes 25 ms to build."""

PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}

PROBED_LEVELS = range(0, 256, 51)
"""Of red, green and blue in each combination, by which profiles of sRGB itself are told from others."""
ROUNDING = 1
"""How far apart two profiles of the same colours come out: the usual ones of sRGB differ so in 0.4 % of values."""


@dataclass(frozen=True, slots=True)
class _Transform:
    """A profile's way to sRGB, and the mode that it takes."""

    mode: str
    cms: ImageCms.ImageCmsTransform


def needs_conversion(image: Image.Image) -> bool:
    """Tell whether the decoded picture's colours are to be converted before they are shrunk."""
    profile = image.info.get("icc_profile")
    return image.mode == "CMYK" or bool(profile and _find_transform(profile))


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert what `average` gives to sRGB, by the profile where it fits and is not broken; alpha stays as it is.

    CMYK without a profile is converted by the plain formula. Pillow reads every CMYK JPEG as Adobe writes it, inverted.
    """
    transform = _find_transform(profile) if profile else None
    if transform is None:
        return image.convert("RGB") if image.mode == "CMYK" else image
    if image.mode in STRAIGHT_MODES:
        return _convert_under_alpha(image, transform)
    return _apply(transform, narrow(image))


def _convert_under_alpha(image: Image.Image, transform: _Transform) -> Image.Image:
    """Convert premultiplied colours, which have to be straight for it."""
    straight = image.convert(STRAIGHT_MODES[image.mode])
    converted = _apply(transform, straight.convert("L" if image.mode == "La" else "RGB")).convert("RGB")
    converted.putalpha(straight.getchannel("A"))
    return converted.convert("RGBa")


def _apply(transform: _Transform, image: Image.Image) -> Image.Image:
    """Convert a picture without alpha; one of other colours than the profile is for stays as it is, but not CMYK."""
    if transform.mode == "RGB" and image.mode == "L":
        image = image.convert("RGB")
    if image.mode == transform.mode:
        return ImageCms.applyTransform(image, transform.cms) or image
    return image.convert("RGB") if image.mode == "CMYK" else image


@lru_cache(maxsize=CACHED_TRANSFORMS)
def _find_transform(profile: bytes) -> _Transform | None:
    """Find the way to sRGB; None where the profile is broken, too large, or that of sRGB."""
    if len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        mode = PROFILE_MODES[source.profile.xcolor_space.strip()]
        transform = _Transform(mode, ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB"))
        return None if mode == "RGB" and _changes_nothing(transform) else transform
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, KeyError):
        return None


def _changes_nothing(transform: _Transform) -> bool:
    """Tell whether what comes out is what goes in, but for rounding."""
    colours = bytes(chain.from_iterable(product(PROBED_LEVELS, repeat=3)))
    probe = Image.frombytes("RGB", (len(colours) // 3, 1), colours)
    pairs = zip(_apply(transform, probe).tobytes(), colours, strict=True)
    return all(abs(found - level) <= ROUNDING for found, level in pairs)
