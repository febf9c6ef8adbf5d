"""Open a file with the one Pillow plugin that its magic number names, and decode it, at a fraction where it can be.

Nothing here catches anything: an exception means a damaged file, and `pipeline` says so; ours is for one that takes
too many steps to read.
"""

from collections.abc import Mapping, Set
from io import BytesIO
from math import ceil

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

from thumbs.errors import ImageTooComplex
from thumbs.imaging.geometry import Size
from thumbs.imaging.heif import drop_orientation, load_heif
from thumbs.imaging.sniff import HEIF, PNG, TIFF, SourceFormat
from thumbs.imaging.tiff import trim_tiff

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

MAX_READS = 1_000_000
"""Pillow reads headers and runs by the byte, in Python: 20 MiB of JPEG fill bytes took 15 s. An honest file takes a few
hundred reads, one of 50,000 PNG chunks 150,000, a BMP two for each run."""

TRANSPARENCIES: Mapping[str, tuple[type, ...]] = {"1": (int,), "L": (int,), "I;16": (int,), "I": (int,)} | {
    "P": (int, bytes),
    "RGB": (tuple,),
}
"""What Pillow calls transparent in each mode: a grey, an entry of the palette or the alpha of all, a colour."""

PNG_DEPTH_OFFSET = 24
"""Where IHDR tells the bits of a sample (PNG section 11.2.1)."""


class _CountedBytes(BytesIO):
    """The bytes of a file, to be read in so many steps."""

    _read_count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on; raises ImageTooComplex at the step that is one too many."""
        self._read_count += 1
        if self._read_count > MAX_READS:
            raise ImageTooComplex(f"more than {MAX_READS} reads")
        return super().read(size)


def load_decoders(formats: Set[str]) -> None:
    """Load what decoding these formats takes beside Pillow; all the rest was imported with this module."""
    if HEIF.name in formats:
        load_heif()


def open_header(body: bytes, source_format: SourceFormat, max_pixels: int) -> ImageFile.ImageFile:
    """Open the file as far as its header; no pixel is decoded.

    Pillow's own limit, which it raises at twice, is ours: a GIF that clears its first frame takes the memory for it
    while it is opened. `admit` holds the limit to the pixel.
    """
    Image.MAX_IMAGE_PIXELS = ceil(max_pixels / 2)
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # Several decoders share the cores; threads only add to the CPU time.
    TiffImagePlugin.READ_LIBTIFF = True  # Pillow's own reading of uncompressed ones takes 16-bit planes for 8-bit ones.
    if source_format == HEIF:
        load_heif()
    file = _CountedBytes(trim_tiff(body) if source_format == TIFF else body)
    image = Image.open(file, formats=[source_format.pillow_name])
    if source_format == PNG and len(body) > PNG_DEPTH_OFFSET:
        _rescale_transparency(image, body[PNG_DEPTH_OFFSET])
    if source_format == HEIF:
        drop_orientation(image)
    return image


def load_at_scale(image: ImageFile.ImageFile, scale: int, scans: bytes | None) -> None:
    """Decode the pixels of the first frame, at 1/scale, out of the selected scans where there are such."""
    if scans:
        image.fp = BytesIO(scans)
    if scale > 1:
        image.draft(None, _shrink_size(image.size, scale))
    image.load()
    _drop_misfit_transparency(image)


def _shrink_size(size: Size, scale: int) -> Size:
    """Tell the size for which draft() picks just this scale: it divides and rounds down."""
    return max(1, size[0] // scale), max(1, size[1] // scale)


def _drop_misfit_transparency(image: Image.Image) -> None:
    """Drop a transparent colour of another mode than the picture's, as a PNG with two headers can have."""
    fitting = TRANSPARENCIES.get(image.mode, ())
    if not isinstance(image.info.get("transparency"), fitting):
        image.info.pop("transparency", None)


def _rescale_transparency(image: Image.Image, depth: int) -> None:
    """Scale a PNG's transparent colour to 8 bits, as Pillow scales the pixels of 2, 4 and 48 bits but not this."""
    colour = image.info.get("transparency")
    if isinstance(colour, int) and image.mode == "L":
        highest = 2**depth - 1
        image.info["transparency"] = (colour & highest) * 255 // highest
    if isinstance(colour, tuple):
        image.info["transparency"] = tuple(value >> 8 if depth == 16 else value & 255 for value in colour)
