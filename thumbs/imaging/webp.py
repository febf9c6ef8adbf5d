"""Decodes WebP at about the thumbnail's size, which Pillow cannot ask of the libwebp that it brings along.

For an opaque lossy picture that is to shrink a lot; `pipeline` leaves all else to Pillow, also what fails here. The
library is found and tried out when this module is imported: the sandbox lets nothing be opened any more after that.
"""

import ctypes
from importlib.util import find_spec
from math import ceil
from typing import Final

from PIL import Image

from thumbs.imaging.geometry import Plan, Size

MIN_SHRINK: Final = 3.0
"""Below, little is saved, and what a coarse decode leaves out could be seen."""

OVERSIZE: Final = 2.0
"""Px on each side for each px of the thumbnail, as left to Lanczos."""

DECODER_ABI: Final = 0x0210
"""WEBP_DECODER_ABI_VERSION of libwebp 1.6; the library refuses another major number than its own."""

MODE_RGB: Final = 0
STATUS_OK: Final = 0
LOSSY: Final = 1
"""An animation has no format as a whole; lossless ones take the same time either way."""

SAMPLE: Final = bytes.fromhex(
    "52494646320000005745425056503820260000005001009d012a1000100002804225a00004000000feec25fdfffff424fffe26cfffa4d9f00000"
)
"""A WebP of one colour, 16 x 16."""
SAMPLE_SIDE_PX: Final = 16
SAMPLE_COLOUR: Final = (200, 40, 90)
SAMPLE_TOLERANCE: Final = 8


class _Features(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("has_alpha", ctypes.c_int),
        ("has_animation", ctypes.c_int),
        ("format", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _RgbaBuffer(ctypes.Structure):
    _fields_ = (("pixels", ctypes.c_void_p), ("stride", ctypes.c_int), ("size", ctypes.c_size_t))


class _YuvaBuffer(ctypes.Structure):
    _fields_ = (("planes", ctypes.c_void_p * 4), ("strides", ctypes.c_int * 4), ("sizes", ctypes.c_size_t * 4))


class _Planes(ctypes.Union):
    _fields_ = (("rgba", _RgbaBuffer), ("yuva", _YuvaBuffer))


class _Output(ctypes.Structure):
    _fields_ = (
        ("colorspace", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("is_external_memory", ctypes.c_int),
        ("planes", _Planes),
        ("padding", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    )


class _Options(ctypes.Structure):
    _fields_ = (
        ("bypass_filtering", ctypes.c_int),
        ("no_fancy_upsampling", ctypes.c_int),
        ("use_cropping", ctypes.c_int),
        ("crop_box", ctypes.c_int * 4),
        ("use_scaling", ctypes.c_int),
        ("scaled_width", ctypes.c_int),
        ("scaled_height", ctypes.c_int),
        ("use_threads", ctypes.c_int),
        ("dithering_strength", ctypes.c_int),
        ("flip", ctypes.c_int),
        ("alpha_dithering_strength", ctypes.c_int),
        ("padding", ctypes.c_uint32 * 5),
    )


class _Config(ctypes.Structure):
    """struct WebPDecoderConfig (webp/decode.h)."""

    _fields_ = (("input", _Features), ("output", _Output), ("options", _Options))


def decode_smaller(body: bytes, size: Size, plan: Plan) -> Image.Image | None:
    """Decode a picture of this size at about twice the planned one, all of it; None where that is for Pillow."""
    if _library is None or plan.shrink < MIN_SHRINK:
        return None
    return _decode(_library, body, size, _choose_size(size, plan))


def _choose_size(size: Size, plan: Plan) -> Size:
    left, upper, right, lower = plan.box
    across = min(1.0, OVERSIZE * plan.size[0] / (right - left))
    down = min(1.0, OVERSIZE * plan.size[1] / (lower - upper))
    return ceil(size[0] * across), ceil(size[1] * down)


def _decode(library: ctypes.CDLL, body: bytes, size: Size, smaller: Size) -> Image.Image | None:
    """Decode one opaque lossy picture; None when it is none, or damaged, or of another size."""
    config = _Config()
    length = ctypes.c_size_t(len(body))
    if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), DECODER_ABI):
        return None
    found = config.input
    if library.WebPGetFeaturesInternal(body, length, ctypes.byref(found), DECODER_ABI) != STATUS_OK:
        return None
    if found.format != LOSSY or found.has_alpha or (found.width, found.height) != size:
        return None
    pixels = ctypes.create_string_buffer(smaller[0] * smaller[1] * 3)
    _ask_for(config, smaller, pixels)
    if library.WebPDecode(body, length, ctypes.byref(config)) != STATUS_OK:
        return None
    return Image.frombytes("RGB", smaller, pixels.raw)


def _ask_for(config: _Config, smaller: Size, pixels: "ctypes.Array[ctypes.c_char]") -> None:
    """Ask for RGB of a size, without the smoothing of edges that are averaged anyway."""
    options, output = config.options, config.output
    options.bypass_filtering = options.no_fancy_upsampling = options.use_scaling = 1
    options.scaled_width, options.scaled_height = smaller
    output.colorspace, output.is_external_memory = MODE_RGB, 1
    output.planes.rgba.pixels = ctypes.addressof(pixels)
    output.planes.rgba.stride, output.planes.rgba.size = smaller[0] * 3, len(pixels)


def _find_library() -> ctypes.CDLL | None:
    """Find libwebp through the module of Pillow's that is linked to it; None when it is not as expected."""
    module = find_spec("PIL._webp")
    if module is None or module.origin is None:
        return None
    try:
        library = ctypes.CDLL(module.origin)
        return library if _is_sound(library) else None
    except (OSError, AttributeError):
        return None


def _is_sound(library: ctypes.CDLL) -> bool:
    """Tell whether the library understands our structures: a sample comes out in its size and colour."""
    side = SAMPLE_SIDE_PX // 2
    image = _decode(library, SAMPLE, (SAMPLE_SIDE_PX, SAMPLE_SIDE_PX), (side, side))
    if image is None:
        return False
    differences = (abs(a - b) for a, b in zip(image.tobytes(), SAMPLE_COLOUR * side**2, strict=True))
    return max(differences) <= SAMPLE_TOLERANCE


_library: Final = _find_library()
