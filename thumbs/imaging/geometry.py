"""Where the picture meets the box: which part of the source is seen and how large; arithmetic only, no pixels."""

from dataclasses import dataclass

from thumbs.domain import Fit, ThumbnailSpec
from thumbs.scans import choose_scale

Size = tuple[int, int]
Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Plan:
    """The part of the source that is seen, and its size in the thumbnail; as stored, that is before orientation.

    `box` is left, upper, right, lower in px of the full picture; `scale` is the fraction 1/scale that is decoded.
    """

    box: Box
    size: Size
    scale: int

    @property
    def shrink(self) -> float:
        """Px of the source for each px of the thumbnail, on the side where they are fewer."""
        return _measure_shrink(self.box, self.size)


def make_plan(source: Size, spec: ThumbnailSpec, *, is_turned: bool, is_scalable: bool) -> Plan:
    """Plan the shrink of a source, which is stored lying on its side when `is_turned`."""
    asked = (spec.height, spec.width) if is_turned else (spec.width, spec.height)
    box, size = _place_in_box(source, asked, spec.fit)
    return Plan(box, size, choose_scale(_measure_shrink(box, size)) if is_scalable else 1)


def fit_plan(plan: Plan, full: Size, smaller: Size) -> Plan:
    """Fit the plan of a full picture to one that was decoded smaller."""
    across, down = smaller[0] / full[0], smaller[1] / full[1]
    left, upper, right, lower = plan.box
    return Plan((left * across, upper * down, right * across, lower * down), plan.size, 1)


def _place_in_box(source: Size, asked: Size, fit: Fit) -> tuple[Box, Size]:
    whole = (0.0, 0.0, float(source[0]), float(source[1]))
    if fit is Fit.FILL:
        return whole, asked
    if fit is Fit.COVER:
        return _crop_centre(source, asked), asked
    zoom = min(asked[0] / source[0], asked[1] / source[1])
    if fit is Fit.INSIDE:
        zoom = min(zoom, 1.0)
    return whole, (max(1, round(source[0] * zoom)), max(1, round(source[1] * zoom)))


def _crop_centre(source: Size, asked: Size) -> Box:
    """Cut the largest part with the asked aspect out of the middle; its edges fall between px."""
    width = min(source[0], source[1] * asked[0] / asked[1])
    height = min(source[1], source[0] * asked[1] / asked[0])
    left, upper = (source[0] - width) / 2, (source[1] - height) / 2
    return left, upper, left + width, upper + height


def _measure_shrink(box: Box, size: Size) -> float:
    return min((box[2] - box[0]) / size[0], (box[3] - box[1]) / size[1])
