"""Whatever a library raises leaves imaging as one of our errors."""

import struct

import pytest
from PIL import Image

from thumbs.errors import ImageCorrupt, ImageTooComplex, ImageTooLarge, RenderFailed
from thumbs.imaging.seam import MAX_DETAIL_CHARS, translate_failures


@pytest.mark.parametrize("raised", [OSError, SyntaxError, struct.error, IndexError, RecursionError, ZeroDivisionError])
def test_any_exception_becomes_the_failure_of_its_half(raised: type[Exception]) -> None:
    for failure in (ImageCorrupt, RenderFailed):
        with pytest.raises(failure, match=raised.__name__), translate_failures(failure):
            raise raised("why")


@pytest.mark.parametrize("raised", [MemoryError, Image.DecompressionBombError])
def test_want_of_memory_means_too_large(raised: type[Exception]) -> None:
    with pytest.raises(ImageTooLarge), translate_failures(ImageCorrupt):
        raise raised


def test_our_own_errors_pass() -> None:
    with pytest.raises(ImageTooComplex), translate_failures(ImageCorrupt):
        raise ImageTooComplex("scans")


def test_detail_is_cut() -> None:
    with pytest.raises(ImageCorrupt) as caught, translate_failures(ImageCorrupt):
        raise ValueError("x" * 10_000)
    assert len(caught.value.detail) == MAX_DETAIL_CHARS
