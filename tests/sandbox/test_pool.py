"""The pool: whoever asks gets the answer to his own image, in turn, and nobody waits for ever.

Everything here runs against real child processes; the slow image takes about half a second to decode.
"""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from tests.support.decoders import (
    BLUE_PNG,
    RED_PNG,
    SPEC,
    WAIT_SECONDS,
    build_sandbox,
    find_new_decoder,
    list_decoders,
    render_in,
    start_slow_render,
)
from tests.support.images import build_photo, encode, render
from thumbs.domain import Fit, OutputFormat, ThumbnailSpec
from thumbs.errors import DecodersBusy, ImageCorrupt, ImageTooLarge, JobError, UnsupportedFormat
from thumbs.sandbox import Sandbox


@pytest.mark.parametrize("source", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "MPO"])
@pytest.mark.parametrize("output", list(OutputFormat))
def test_render_gives_what_imaging_gives(shared: Sandbox, source: str, output: OutputFormat) -> None:
    """Also: nothing is imported or opened while an image is decoded, since the child can open nothing any more."""
    body = encode(build_photo(), source)

    found = render_in(shared, body, ThumbnailSpec(format=output, fit=Fit.CONTAIN))

    assert found == render(body, format=output, fit=Fit.CONTAIN)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"<html>", UnsupportedFormat),
        (RED_PNG[:-30], ImageCorrupt),
        (encode(Image.new("1", (30_001, 1)), "PNG"), ImageTooLarge),
    ],
    ids=["unsupported", "corrupt", "too large"],
)
def test_error_of_the_child_arrives_as_its_class(shared: Sandbox, body: bytes, error: type[JobError]) -> None:
    before = list_decoders()
    with pytest.raises(error) as caught:
        render_in(shared, body)

    assert caught.value.detail
    assert list_decoders() == before, "a typed error is an answer, and costs no process"


def test_images_after_one_another_are_independent(shared: Sandbox) -> None:
    def get_colour(body: bytes) -> str:
        try:
            return render_in(shared, body).dominant_color
        except ImageCorrupt:
            return "corrupt"

    found = [get_colour(body) for body in (RED_PNG, RED_PNG[:-30], BLUE_PNG, RED_PNG)]

    assert found == ["#ff0000", "corrupt", "#0000ff", "#ff0000"]


def test_many_threads_each_get_their_own_answer(shared: Sandbox, threads: ThreadPoolExecutor) -> None:
    bodies = [RED_PNG, BLUE_PNG] * 40

    pictures = threads.map(lambda body: render_in(shared, body), bodies)

    assert [picture.dominant_color for picture in pictures] == ["#ff0000", "#0000ff"] * 40


def test_image_is_not_blamed_for_a_child_that_died_idle() -> None:
    """As of the kernel's out-of-memory killer: the next image gets a fresh child instead of an error."""
    before = list_decoders()
    with build_sandbox() as sandbox:
        render_in(sandbox, RED_PNG)
        find_new_decoder(before).kill()

        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"


def test_busy_decoders_are_waited_for_only_so_long(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        with pytest.raises(DecodersBusy):
            sandbox.render(RED_PNG, [SPEC], wait_seconds=0.05)
        assert future.result(timeout=WAIT_SECONDS).source_width == 7000


def test_threads_are_served_in_turn(threads: ThreadPoolExecutor) -> None:
    """One that renders without a pause must not take each decoder that it gives back, or the others starve."""
    with build_sandbox() as sandbox:
        render_in(sandbox, RED_PNG)
        greedy = [threads.submit(render_many, sandbox, 200) for _ in range(2)]
        for _ in range(20):
            sandbox.render(BLUE_PNG, [SPEC], wait_seconds=0.5)
        assert not any(future.done() for future in greedy)


def render_many(sandbox: Sandbox, count: int) -> None:
    for _ in range(count):
        render_in(sandbox, RED_PNG)


def test_close_ends_a_render_under_way(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    sandbox = build_sandbox(decoders=2)
    sandbox.start()
    future = start_slow_render(sandbox, threads, slow_png)
    start = time.monotonic()

    sandbox.close()

    with pytest.raises(DecodersBusy):
        future.result(timeout=0)
    assert time.monotonic() - start < 3


def test_close_ends_who_waits_for_a_decoder(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    sandbox = build_sandbox()
    sandbox.start()
    under_way = start_slow_render(sandbox, threads, slow_png)
    waiting = [threads.submit(sandbox.render, RED_PNG, [SPEC], wait_seconds=60) for _ in range(3)]

    sandbox.close()

    for future in [under_way, *waiting]:
        with pytest.raises(DecodersBusy):
            future.result(timeout=5)


def test_close_while_children_start_leaves_none() -> None:
    before = list_decoders()
    sandbox = build_sandbox(decoders=3)
    sandbox.start()

    sandbox.close()
    sandbox.close()

    assert list_decoders() == before
    with pytest.raises(DecodersBusy):
        render_in(sandbox, RED_PNG)


def test_close_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with build_sandbox(decoders=2) as sandbox:
        render_in(sandbox, RED_PNG)

    assert threading.active_count() == before
