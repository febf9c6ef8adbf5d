"""Open a file with the one Pillow plugin that its magic number names, and decode it, at a fraction where it can be.

Nothing here catches anything: every exception means a damaged file, and `pipeline` says so.
"""

from io import BytesIO

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    JpegPresets,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from thumbs.imaging.geometry import Size
from thumbs.imaging.sniff import PNG, SourceFormat

PLUGINS = (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    JpegImagePlugin,
    JpegPresets,
    MpoImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
"""All that Pillow would import on its way through a picture (TIFF for EXIF, PPM by habit): the sandbox lets
nothing be opened any more by then, not even a module."""

PNG_DEPTH_OFFSET = 24
"""Where IHDR tells the bits of a sample (PNG section 11.2.1)."""


def open_header(body: bytes, source_format: SourceFormat) -> ImageFile.ImageFile:
    """Open the file as far as its header; no pixel is decoded.

    Pillow's own size limit is off: it fires at other numbers than ours, which `admit` holds.
    """
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # Several decoders share the cores; threads only add to the CPU time.
    image = Image.open(BytesIO(body), formats=[source_format.pillow_name])
    if source_format == PNG and len(body) > PNG_DEPTH_OFFSET:
        _rescale_transparency(image, body[PNG_DEPTH_OFFSET])
    return image


def load_at_scale(image: ImageFile.ImageFile, scale: int) -> None:
    """Decode the pixels of the first frame, at 1/scale."""
    if scale > 1:
        image.draft(None, _shrink_size(image.size, scale))
    image.load()


def _shrink_size(size: Size, scale: int) -> Size:
    """Tell the size for which draft() picks just this scale: it divides and rounds down."""
    return max(1, size[0] // scale), max(1, size[1] // scale)


def _rescale_transparency(image: Image.Image, depth: int) -> None:
    """Scale a PNG's transparent colour to 8 bits, as Pillow scales the pixels of 2, 4 and 48 bits but not this."""
    colour = image.info.get("transparency")
    if isinstance(colour, int) and image.mode == "L":
        highest = 2**depth - 1
        image.info["transparency"] = (colour & highest) * 255 // highest
    if isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 if depth == 16 else value & 255 for value in colour)
