"""Where the picture meets the box is arithmetic: exact sizes, centred crops, no enlarging for `inside`."""

import pytest

from thumbs.domain import Fit, ThumbnailSpec
from thumbs.imaging.geometry import Plan, make_plan


def plan(source: tuple[int, int], fit: Fit, *, turned: bool = False, width: int = 100, height: int = 100) -> Plan:
    spec = ThumbnailSpec(width=width, height=height, fit=fit)
    return make_plan(source, spec, is_turned=turned, is_scalable=True)


def test_cover_crops_the_centre() -> None:
    assert plan((300, 200), Fit.COVER) == Plan((50, 0, 250, 200), (100, 100), 1)
    assert plan((200, 300), Fit.COVER) == Plan((0, 50, 200, 250), (100, 100), 1)


def test_cover_cuts_between_pixels() -> None:
    assert plan((301, 200), Fit.COVER).box == (50.5, 0, 250.5, 200)


def test_fill_takes_all_of_it() -> None:
    assert plan((300, 200), Fit.FILL).box == (0, 0, 300, 200)
    assert plan((300, 200), Fit.FILL).size == (100, 100)


@pytest.mark.parametrize(
    ("source", "size"),
    [((300, 200), (100, 67)), ((50, 40), (50, 40)), ((30_000, 1), (100, 1)), ((1, 30_000), (1, 100))],
)
def test_inside_keeps_the_aspect_and_never_enlarges(source: tuple[int, int], size: tuple[int, int]) -> None:
    assert plan(source, Fit.INSIDE).size == size


def test_contain_enlarges_to_touch_the_box() -> None:
    assert plan((50, 40), Fit.CONTAIN).size == (100, 80)


def test_turned_source_is_planned_lying_on_its_side() -> None:
    assert plan((300, 200), Fit.COVER, turned=True, width=50, height=100).size == (100, 50)


@pytest.mark.parametrize(
    ("side", "scale"), [(100, 1), (300, 1), (301, 2), (600, 2), (601, 4), (1200, 4), (1201, 8), (9000, 8)]
)
def test_scale_leaves_more_than_one_and_a_half_times_the_thumbnail(side: int, scale: int) -> None:
    assert plan((side, side), Fit.COVER).scale == scale


def test_scale_minds_the_less_shrunk_side() -> None:
    assert plan((9000, 150), Fit.FILL).scale == 1


def test_scale_is_one_where_the_decoder_cannot() -> None:
    assert make_plan((9000, 9000), ThumbnailSpec(), is_turned=False, is_scalable=False).scale == 1
