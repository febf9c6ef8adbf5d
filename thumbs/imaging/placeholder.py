"""ThumbHash: some 25 bytes that decode to a blurred stand-in for the picture (https://evanw.github.io/thumbhash/).

Our own encoder, of the same format: PyPI's `thumbhash` 0.1.2 raises a TypeError on any picture with alpha, and takes
2.6 times as long. The tests hold the two against each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import cos, floor, pi
from operator import mul

NOISE = 1e-6
"""A channel that varies by less is flat: what is left is rounding, which differs between Python versions."""

OPAQUE = 255

Channel = Sequence[float]


@dataclass(frozen=True, slots=True)
class _Waves:
    """A channel as cosines: its mean, the others scaled to 0..1, and the scale."""

    mean: float
    others: list[float]
    scale: float


def encode_thumbhash(width: int, height: int, rgba: bytes) -> bytes:
    """Encode straight (not premultiplied) RGBA pixels; up to 100 x 100, and 16 x 16 is plenty."""
    lightness, yellow_blue, red_green, alpha = _split_channels(rgba)
    has_alpha = min(alpha) < 1
    limit = 5 if has_alpha else 7
    across = max(1, _round(limit * width / max(width, height)))
    down = max(1, _round(limit * height / max(width, height)))
    light = _transform(lightness, width, max(3, across), max(3, down))
    yellow = _transform(yellow_blue, width, 3, 3)
    red = _transform(red_green, width, 3, 3)
    opacity = _transform(alpha, width, 5, 5) if has_alpha else None
    is_landscape = width > height
    return b"".join(
        (
            _pack_colours(light, yellow, red, has_alpha),
            _pack_layout(down if is_landscape else across, yellow, red, is_landscape),
            bytes([_round(15 * opacity.mean) | _round(15 * opacity.scale) << 4]) if opacity else b"",
            _pack_waves(light, yellow, red, *([opacity] if opacity else [])),
        )
    )


def _split_channels(rgba: bytes) -> tuple[Channel, Channel, Channel, Channel]:
    """Split into lightness, yellow minus blue, red minus green, and alpha, over the mean visible colour."""
    opacities = rgba[3::4]
    if min(opacities) == OPAQUE:
        alpha = [1.0] * len(opacities)
        over_mean: Sequence[Channel] = [[value / OPAQUE for value in rgba[place::4]] for place in range(3)]
    else:
        alpha = [value / OPAQUE for value in opacities]
        over_mean = [_lay_over_mean(rgba[place::4], alpha) for place in range(3)]
    colours = list(zip(*over_mean, strict=True))
    lightness = [(red + green + blue) / 3 for red, green, blue in colours]
    yellow_blue = [(red + green) / 2 - blue for red, green, blue in colours]
    red_green = [red - green for red, green, _ in colours]
    return lightness, yellow_blue, red_green, alpha


def _lay_over_mean(straight: bytes, alpha: Channel) -> Channel:
    """Lay a channel over its own mean, as far as it is visible."""
    premultiplied = [value / OPAQUE * opacity for value, opacity in zip(straight, alpha, strict=True)]
    mean = sum(premultiplied) / (sum(alpha) or 1.0)
    return [value + mean * (1 - opacity) for value, opacity in zip(premultiplied, alpha, strict=True)]


def _transform(channel: Channel, width: int, across: int, down: int) -> _Waves:
    """Transform to cosines, rows first; those beyond the diagonal are left out."""
    height = len(channel) // width
    rows = [channel[start : start + width] for start in range(0, len(channel), width)]
    waves_down = [_make_wave(y, height) for y in range(down)]
    by_wave = [[sum(map(mul, row, wave)) for row in rows] for wave in (_make_wave(x, width) for x in range(across))]
    factors = [
        sum(map(mul, by_wave[x], wave)) / len(channel)
        for y, wave in enumerate(waves_down)
        for x in range(across)
        if x * down < across * (down - y)
    ]
    mean, *others = factors
    scale = max(map(abs, others))
    if scale < NOISE:
        return _Waves(mean, [0.5] * len(others), 0.0)
    return _Waves(mean, [0.5 + 0.5 / scale * factor for factor in others], scale)


@lru_cache(maxsize=256)
def _make_wave(frequency: int, length: int) -> list[float]:
    return [cos(pi / length * frequency * (position + 0.5)) for position in range(length)]


def _pack_colours(light: _Waves, yellow: _Waves, red: _Waves, has_alpha: bool) -> bytes:
    packed = _round(63 * light.mean) | _round(31.5 + 31.5 * yellow.mean) << 6 | _round(31.5 + 31.5 * red.mean) << 12
    return (packed | _round(31 * light.scale) << 18 | has_alpha << 23).to_bytes(3, "little")


def _pack_layout(shorter: int, yellow: _Waves, red: _Waves, is_landscape: bool) -> bytes:
    packed = shorter | _round(63 * yellow.scale) << 3 | _round(63 * red.scale) << 9 | is_landscape << 15
    return packed.to_bytes(2, "little")


def _pack_waves(*channels: _Waves) -> bytes:
    """Pack 4 bits each, the lower half of a byte first."""
    nibbles = [_round(15 * factor) for channel in channels for factor in channel.others]
    nibbles += [0] * (len(nibbles) % 2)
    return bytes(low | high << 4 for low, high in zip(nibbles[0::2], nibbles[1::2], strict=True))


def _round(value: float) -> int:
    """Round halves up, as the format's reference does."""
    return floor(value + 0.5)
