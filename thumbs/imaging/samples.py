"""The samples of a TIFF as something that can be seen: measured values become grey, and Lab becomes RGB.

Grey of 16 bits without a sign is left to `shrink`. A format of pictures says which number is white; for others that is
decided here. Works band by band: a copy of the whole in floats would take four bytes a pixel more.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial
from io import BytesIO
from math import isfinite

from PIL import Image, ImageCms

from thumbs.imaging.tiff import BYTE_ORDERS, FLOAT, SIGNED, UNSIGNED, Directory, Photometric, Tag, read_directory

BAND_PX = 1_000_000
LOOK_PX = 256
"""The side of the grid of pixels by which the range of values is judged; single hot pixels mostly fall through it."""

WHITE = 255
FLOAT_FORMS = {
    (12, UNSIGNED): "F;16",
    (16, UNSIGNED): "F;16",
    (16, SIGNED): "F;16S",
    (32, UNSIGNED): "F;32",
    (32, SIGNED): "F;32S",
    (32, FLOAT): "F;32F",
}
"""How Pillow reads samples as floats from memory, in the byte order of nearly all machines."""

SAMPLE = b"".join(
    (
        b"MM\0*\0\0\0\x08\0\x08",
        bytes.fromhex("010000030000000100010000 010100030000000100010000 010200030000000100200000"),
        bytes.fromhex("010300030000000100010000 010600030000000100010000 01110004000000010000006e"),
        bytes.fromhex("011700030000000100040000 015300030000000100030000 00000000 3f800000"),
    )
)
"""A big-endian TIFF of one pixel: a float, 1.0."""

Range = tuple[float, float]


def show_samples(image: Image.Image, body: bytes) -> Image.Image:
    """Make grey or RGB of 8 bits of what only looks like a picture; all else comes back as it is.

    `image` was decoded from the trimmed `body`. 12 bits and inverted 16 bits have a known white. Numbers with a sign,
    of 32 bits and floats do not: floats between 0 and 1 are taken at their word, as photo editors write them; else the
    lowest value becomes black and the highest white, as programs for measurements show them.
    """
    directory = read_directory(body)
    if directory.get_number(Tag.PHOTOMETRIC) == Photometric.LAB:
        return _convert_in_bands(image, "RGB", _convert_lab)
    kind = directory.get_number(Tag.BITS), directory.get_number(Tag.SAMPLE_FORMAT)
    is_inverted = directory.get_number(Tag.PHOTOMETRIC) == Photometric.WHITE_IS_ZERO
    if not image.mode.startswith(("I", "F")) or (kind == (16, UNSIGNED) and not is_inverted):
        return image
    form = _choose_form(image, directory)
    black, white = _find_range(image, form, kind)
    shown = (white, black) if is_inverted else (black, white)
    return _convert_in_bands(image, "L", partial(_convert_floats, form=form, shown=shown))


def _choose_form(image: Image.Image, directory: Directory) -> str:
    """Choose how the samples are read from memory, where some have the order of bytes that the file has."""
    form = FLOAT_FORMS[directory.get_number(Tag.BITS), directory.get_number(Tag.SAMPLE_FORMAT)]
    is_swapped = directory.order == BYTE_ORDERS[b"MM"] and _are_large_ones_swapped()
    if image.mode == "I;16B" or (image.mode in ("I", "F") and is_swapped):
        return form.replace(";16", ";16B").replace(";32", ";32B")
    return form


@cache
def _are_large_ones_swapped() -> bool:
    """Tell whether Pillow swaps big-endian samples of 32 bits that libtiff has swapped before, as Pillow 13 does."""
    image = Image.open(BytesIO(SAMPLE), formats=["TIFF"])
    image.load()
    return memoryview(image.tobytes()).cast("f")[0] != 1.0


def _find_range(image: Image.Image, form: str, kind: tuple[int, int]) -> Range:
    """Find the values that become black and white."""
    if kind[1] == UNSIGNED and kind[0] < 32:
        return 0.0, 2.0 ** kind[0] - 1
    some = image.resize((min(LOOK_PX, image.width), min(LOOK_PX, image.height)), Image.Resampling.NEAREST)
    values = [value for value in memoryview(_read_floats(some, form).tobytes()).cast("f") if isfinite(value)]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if kind[1] == FLOAT and low >= 0 and high <= 1:
        return 0.0, 1.0
    return (low, high) if low < high else (low, low + max(1.0, abs(low)))


def _convert_floats(band: Image.Image, *, form: str, shown: Range) -> Image.Image:
    """Spread the range over 0 to 255, which convert() clips to; what is not a number becomes black."""
    black, white = shown
    scale = WHITE / (white - black)
    return _read_floats(band, form).point(lambda value: value * scale + (0.5 - black * scale)).convert("L")


def _read_floats(band: Image.Image, form: str) -> Image.Image:
    return Image.frombytes("F", band.size, band.tobytes(), "raw", form)


def _convert_lab(band: Image.Image) -> Image.Image:
    lab = ImageCms.buildTransform(ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB")
    rgb = ImageCms.applyTransform(band, lab)
    assert rgb is not None
    return rgb


def _convert_in_bands(image: Image.Image, mode: str, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    shown = Image.new(mode, image.size)
    for upper, lower in _list_bands(image):
        shown.paste(convert(image.crop((0, upper, image.width, lower))), (0, upper))
    shown.info = image.info
    return shown


def _list_bands(image: Image.Image) -> Iterator[tuple[int, int]]:
    rows = max(1, BAND_PX // image.width)
    return ((upper, min(upper + rows, image.height)) for upper in range(0, image.height, rows))
