"""Colours as a browser would show them: the embedded profile converted to sRGB, on the small picture, then dropped."""

from functools import lru_cache
from io import BytesIO

from PIL import Image, ImageCms

MAX_PROFILE_BYTES = 4 * 1024 * 1024
"""Larger profiles are ignored; real ones end at about 2 MB (CMYK tables), and the cache keeps what it was asked for."""

CACHED_TRANSFORMS = 8
"""The profiles in use are few, and one of CMYK takes 25 ms to build."""

PROFILE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


def convert_to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert L, RGB, CMYK, LA or RGBA to sRGB, as RGB or RGBA, by the profile where it fits and is not broken.

    CMYK without a profile is converted by the plain formula. Pillow reads every CMYK JPEG as Adobe writes it, inverted.
    """
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image.convert({"LA": "L", "RGBA": "RGB"}[image.mode]) if alpha else image
    rgb = _apply_profile(colours, profile) if profile else None
    rgb = rgb or colours.convert("RGB")
    if alpha:
        rgb.putalpha(alpha)
    return rgb


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image | None:
    """Convert to sRGB; None where the profile is broken, too large, or for another kind of colours."""
    if len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        mode, transform = _build_transform(profile)
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        return ImageCms.applyTransform(image, transform) if image.mode == mode else None
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError, KeyError):
        return None


@lru_cache(maxsize=CACHED_TRANSFORMS)
def _build_transform(profile: bytes) -> tuple[str, ImageCms.ImageCmsTransform]:
    """Build the transform to sRGB, and tell the mode that it takes."""
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    mode = PROFILE_MODES[source.profile.xcolor_space.strip()]
    return mode, ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
