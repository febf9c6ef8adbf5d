"""The facts about a thumbnail that callers get beside its URL: hash, placeholder, colour."""

from base64 import b64encode
from collections import defaultdict
from hashlib import sha256

from PIL import Image

from thumbs.domain import OutputFormat, Picture
from thumbs.imaging.placeholder import encode_thumbhash

SAMPLE_SIDE_PX = 16
"""The longer side of what thumbhash and colour look at: thumbhash keeps 7 cosines a side."""

VISIBLE_ALPHA = 128
DROPPED_BITS = 5
"""Colours count as alike when the upper 3 bits of red, green and blue agree: 512 groups."""

Colour = tuple[int, int, int]


def describe(image: Image.Image, body: bytes, output: OutputFormat) -> Picture:
    """Describe the finished thumbnail; `image` is what `body` encodes."""
    sample = _take_sample(image)
    return Picture(
        body=body,
        content_type=f"image/{output}",
        width=image.width,
        height=image.height,
        sha256=sha256(body).hexdigest(),
        thumbhash=b64encode(encode_thumbhash(*sample.size, sample.tobytes())).decode(),
        dominant_color=_find_dominant_color(sample),
    )


def _take_sample(image: Image.Image) -> Image.Image:
    """Average it down; an opaque picture gets its alpha afterwards, since Pillow premultiplies what has one."""
    sample = image.copy()
    sample.thumbnail((SAMPLE_SIDE_PX, SAMPLE_SIDE_PX), Image.Resampling.BOX)
    return sample.convert("RGBA")


def _find_dominant_color(sample: Image.Image) -> str:
    """Find the mean colour of the largest group of alike visible pixels, as `#rrggbb`; white when none is visible."""
    groups: dict[tuple[int, int, int], list[Colour]] = defaultdict(list)
    values = iter(sample.tobytes())
    for red, green, blue, alpha in zip(values, values, values, values, strict=True):
        if alpha >= VISIBLE_ALPHA:
            groups[red >> DROPPED_BITS, green >> DROPPED_BITS, blue >> DROPPED_BITS].append((red, green, blue))
    if not groups:
        return "#ffffff"
    largest = max(groups.values(), key=len)
    means = [round(sum(channel) / len(largest)) for channel in zip(*largest, strict=True)]
    return f"#{bytes(means).hex()}"
