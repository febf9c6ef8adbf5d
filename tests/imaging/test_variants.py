"""Several thumbnails of one decode: each as if it were alone, and each failing alone."""

from statistics import fmean
from typing import Any

import pytest
from PIL import ImageChops, ImageStat

from tests.support.images import build_photo, encode, open_result, render
from thumbs.domain import DecodeLimits, Fit, OutputFormat, Picture, ThumbnailSpec
from thumbs.errors import ImageCorrupt, ImageTooLarge, JobError
from thumbs.imaging import make_thumbnails

SMALL, LARGE = ThumbnailSpec(), ThumbnailSpec(width=1024, height=1024)
JPEG = encode(build_photo(3000, 2000), "JPEG")
MAX_SQUARED_ERROR = 255**2 / 10**4
"""40 dB."""

LIMITS = DecodeLimits(max_pixels=2_000_000)
"""Too few for the whole of JPEG, which 1,024 px a side would want; enough for an eighth of its sides."""


def make(body: bytes, *specs: ThumbnailSpec, limits: DecodeLimits | None = None) -> tuple[Picture | JobError, ...]:
    return make_thumbnails(body, specs, limits or DecodeLimits()).pictures


def test_pictures_come_in_the_order_of_their_specs() -> None:
    specs = [
        ThumbnailSpec(width=50, height=60),
        ThumbnailSpec(width=400, height=30, format=OutputFormat.WEBP),
        ThumbnailSpec(width=10, height=10, fit=Fit.INSIDE, format=OutputFormat.PNG),
    ]
    made = [each for each in make(JPEG, *specs) if isinstance(each, Picture)]
    assert [(each.width, each.height, each.content_type) for each in made] == [
        (50, 60, "image/jpeg"),
        (400, 30, "image/webp"),
        (10, 7, "image/png"),
    ]


@pytest.mark.parametrize(
    ("image_format", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("WEBP", {}), ("PNG", {})]
)
def test_each_picture_is_as_good_as_if_it_were_alone(image_format: str, options: dict[str, Any]) -> None:
    """The decode is as large as the neediest wants: a smaller one gets no less for it."""
    body = encode(build_photo(1600, 1200), image_format, **options)
    [together, _] = make(body, SMALL, ThumbnailSpec(width=500, height=500))
    assert isinstance(together, Picture)
    difference = ImageChops.difference(open_result(together).convert("RGB"), open_result(render(body)).convert("RGB"))
    assert fmean(each**2 for each in ImageStat.Stat(difference).rms) < MAX_SQUARED_ERROR


def test_same_specs_give_the_same_bytes() -> None:
    assert make(JPEG, SMALL, LARGE) == make(JPEG, SMALL, LARGE)


@pytest.mark.parametrize("specs", [(SMALL, LARGE), (SMALL, LARGE, SMALL), (SMALL, LARGE, LARGE)])
def test_picture_that_wants_too_many_pixels_fails_alone(specs: tuple[ThumbnailSpec, ...]) -> None:
    made = make(JPEG, *specs, limits=LIMITS)
    assert [isinstance(each, ImageTooLarge) for each in made] == [spec == LARGE for spec in specs]


@pytest.mark.parametrize("specs", [(LARGE, SMALL), (LARGE, LARGE)])
def test_first_picture_that_wants_too_many_pixels_fails_the_decode(specs: tuple[ThumbnailSpec, ...]) -> None:
    """It is the one that a job cannot do without."""
    with pytest.raises(ImageTooLarge):
        make(JPEG, *specs, limits=LIMITS)


def test_source_that_is_broken_fails_for_all() -> None:
    with pytest.raises(ImageCorrupt):
        make(JPEG[: len(JPEG) // 2], SMALL, LARGE)


def test_steps_are_told_once_for_the_decode_and_again_for_each_picture() -> None:
    steps = [step.name for step in make_thumbnails(JPEG, [SMALL, LARGE], DecodeLimits()).steps]
    assert (steps.count("shrink on load"), steps.count("encode")) == (1, 2)
