"""What any engine has to do at the least: a format's cheapest decode to a size from which 100x100 can still be made.

JPEG by libjpeg at the fraction that is needed; WebP by libwebp, which scales while it decodes; AVIF by one thread; of
PNG only the inflating, below which nothing can go; GIF and BMP as Pillow has them. No colour, no resize, no encoder.
"""

import ctypes
import zlib
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, Final

import PIL
from PIL import AvifImagePlugin, Image

from bench.peers_python import SIDE_PX

DRAFT_PX: Final = SIDE_PX * 3 // 2
SCALED_PX: Final = SIDE_PX * 2
"""The short side to decode to: 1.5 px for each of the thumbnail, or 2 where the decoder averages whole blocks."""
DECODER_ABI: Final = 0x0210
"""WEBP_DECODER_ABI_VERSION of libwebp 1.3 to 1.6; only its upper byte has to agree."""
MODE_RGB: Final = 0


def decode_bare(body: bytes) -> None:
    """Decode the picture's pixels, and drop them."""
    if body[8:12] == b"WEBP":
        _decode_webp(body)
        return
    if body.startswith(b"\x89PNG"):
        zlib.decompress(_join_idat(body))
        return
    Image.MAX_IMAGE_PIXELS = None
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    image = Image.open(BytesIO(body))
    image.draft(None, (DRAFT_PX, DRAFT_PX))
    image.load()


def _join_idat(body: bytes) -> bytes:
    position, parts = 8, []
    while position < len(body):
        length = int.from_bytes(body[position : position + 4])
        if body[position + 4 : position + 8] == b"IDAT":
            parts.append(body[position + 8 : position + 8 + length])
        position += 12 + length
    return b"".join(parts)


class _Input(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, ctypes.c_int) for name in ("width", "height", "has_alpha", "has_animation", "format")],
        ("padding", ctypes.c_uint32 * 5),
    ]


class _Output(ctypes.Structure):
    """WebPDecBuffer; the union of planes in it is seen as RGBA and left 0 beyond that."""

    _fields_: ClassVar = [
        *[(name, ctypes.c_int) for name in ("colorspace", "width", "height", "is_external_memory")],
        ("planes", ctypes.c_void_p * 10),
        ("padding", ctypes.c_uint32 * 4),
        ("private_memory", ctypes.c_void_p),
    ]


class _Options(ctypes.Structure):
    _fields_: ClassVar = [
        *[(name, ctypes.c_int) for name in ("bypass_filtering", "no_fancy_upsampling", "use_cropping")],
        *[(name, ctypes.c_int) for name in ("crop_left", "crop_top", "crop_width", "crop_height")],
        *[(name, ctypes.c_int) for name in ("use_scaling", "scaled_width", "scaled_height", "use_threads")],
        *[(name, ctypes.c_int) for name in ("dithering_strength", "flip", "alpha_dithering_strength")],
        ("padding", ctypes.c_uint32 * 5),
    ]


class _Config(ctypes.Structure):
    _fields_: ClassVar = [("input", _Input), ("output", _Output), ("options", _Options)]


def _decode_webp(body: bytes) -> None:
    library, config = _load_libwebp(), _Config()
    length = ctypes.c_size_t(len(body))
    if not library.WebPInitDecoderConfigInternal(ctypes.byref(config), DECODER_ABI):
        raise OSError("another libwebp than the one that this knows")
    library.WebPGetFeaturesInternal(body, length, ctypes.byref(config.input), DECODER_ABI)
    zoom = min(1.0, SCALED_PX / min(config.input.width, config.input.height))
    options, config.output.colorspace = config.options, MODE_RGB + config.input.has_alpha
    options.bypass_filtering = options.no_fancy_upsampling = options.use_scaling = 1
    options.scaled_width, options.scaled_height = round(config.input.width * zoom), round(config.input.height * zoom)
    status = library.WebPDecode(body, length, ctypes.byref(config))
    library.WebPFreeDecBuffer(ctypes.byref(config.output))
    if status:
        raise OSError(f"WebPDecode answers {status}")


@cache
def _load_libwebp() -> Any:
    """Load the libwebp that Pillow's wheel carries, or the system's."""
    found = (Path(PIL.__file__).parents[1] / "pillow.libs").glob("libwebp-*.so*")
    return ctypes.CDLL(str(next(found, "libwebp.so.7")))
