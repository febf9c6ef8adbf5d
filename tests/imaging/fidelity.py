"""How close a thumbnail is to the best there could be: every pixel decoded by plain Pillow, resized in floats."""

from io import BytesIO
from math import log10

from PIL import Image, ImageDraw

from tests.support.images import build_photo, open_result, render
from thumbs.domain import OutputFormat, ThumbnailSpec
from thumbs.imaging.geometry import make_plan

MIN_FIDELITY_DB = 39.0
"""IMAGING.md's mark for every file."""


def measure_fidelity_db(
    body: bytes, side: int = 100, background: str = "white", *, whole: Image.Image | None = None
) -> float:
    """Measure how close a square thumbnail is to the float Lanczos of the whole picture; alpha on a background.

    `whole` is that picture where more has to be done than to decode it.
    """
    found = flatten(open_result(render(body, width=side, height=side, format=OutputFormat.PNG)), background)
    whole = whole or flatten(_decode(body), background)
    box = make_plan(whole.size, ThumbnailSpec(width=side, height=side), is_turned=False, is_scalable=False).box
    error = 0.0
    for band, wanted_band in zip(found.split(), whole.split(), strict=True):
        wanted = wanted_band.convert("F").resize((side, side), Image.Resampling.LANCZOS, box=box)
        pairs = zip(band.tobytes(), memoryview(wanted.tobytes()).cast("f"), strict=True)
        error += sum((a - min(255.0, max(0.0, b))) ** 2 for a, b in pairs)
    return 10 * log10(255**2 * 3 * side**2 / max(error, 1e-9))


def _decode(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    return image.convert("RGBa").convert("RGBA") if "A" in image.getbands() else image.convert("RGB")


def flatten(image: Image.Image, background: str) -> Image.Image:
    """Lay the picture on a background."""
    canvas = Image.new("RGBA", image.size, background)
    return Image.alpha_composite(canvas, image.convert("RGBA")).convert("RGB")


def build_signs(width: int = 1301, height: int = 1003) -> Image.Image:
    """Build a soft picture with sharp coloured edges, which want more of the chroma than its means."""
    image = build_photo(width, height)
    draw = ImageDraw.Draw(image)
    for place in range(0, width, 170):
        draw.rectangle((place, place // 2, place + 60, place // 2 + 45), fill=(200, 30, 40))
        draw.ellipse((place, height - 200 - place // 3, place + 70, height - 130 - place // 3), fill=(30, 60, 190))
    return image
