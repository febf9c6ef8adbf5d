"""A child that an image took over can fail its own job, and nothing else: the parent runs nothing that it writes.

Each attack runs in a real child, in place of imaging. The deadline is a minute away: what ends in DecoderCrashed was
found out, and not waited for.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.decoders import RED_PNG, build_sandbox, find_new_decoder, list_decoders, render_in
from tests.support.takeover import TakeOver, build_message
from thumbs.domain import Picture
from thumbs.errors import DecoderCrashed, DecoderTimeout, ImageCorrupt
from thumbs.sandbox import Sandbox

# ruff: noqa: PLC0415  An attack is sent as text, and brings its imports along.


@pytest.fixture(scope="module")
def patient() -> Iterator[Sandbox]:
    """A sandbox whose deadline no test waits for."""
    with build_sandbox(timeout_seconds=60) as sandbox:
        yield sandbox


def write(writer: Any, message: bytes) -> None:
    """Write on the pipe what no child of ours would, and then hang."""
    import os
    import signal

    rest = memoryview(message)
    while rest:
        rest = rest[os.write(writer.fileno(), rest) :]
    while True:
        signal.pause()


def write_pickle(writer: Any, marker: str, is_framed: bool) -> None:
    """Write a pickle that makes a file where it is read: framed as multiprocessing does, or as we do."""
    import os
    import pickle
    import struct

    class Payload:
        def __reduce__(self) -> Any:
            return exec, (f"open({marker!r}, 'w').close()",)

    forged = pickle.dumps(Payload())
    os.write(writer.fileno(), struct.pack("!II", len(forged), 0) if is_framed else struct.pack("!i", len(forged)))
    os.write(writer.fileno(), forged)


def leave(writer: Any, exit_code: int) -> None:
    """End the process."""
    import os

    os._exit(exit_code)


def fault(writer: Any) -> None:
    """Read where nothing is, as a decoder's bug may."""
    import ctypes

    ctypes.string_at(0)


def abort(writer: Any) -> None:
    """Give up, as the C library does when it finds its heap in disorder."""
    import os

    os.abort()


def burn(writer: Any) -> None:
    """Use up the CPU time, of which little is left."""
    import resource

    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_seconds = int(usage.ru_utime + usage.ru_stime)
    resource.setrlimit(resource.RLIMIT_CPU, (used_seconds + 1, resource.RLIM_INFINITY))
    while True:
        pass


def lie(writer: Any, facts: dict[str, Any]) -> Any:
    """Answer with this picture."""
    from thumbs.domain import Picture, Rendering

    source = {name: facts.pop(name) for name in list(facts) if name.startswith("source_")}
    return Rendering(**source, pictures=(Picture(sha256="", **facts),))


def drip(writer: Any) -> None:
    """Announce 8 MiB, and write a byte now and then."""
    import os
    import time

    os.write(writer.fileno(), b"\0\0\0\x08\0\x80\0\0")
    while True:
        os.write(writer.fileno(), b" ")
        time.sleep(0.01)


BEGUN = build_message({"kind": "begun"})
READY = build_message({"kind": "ready"})
CORRUPT = build_message({"kind": "refusal", "code": "image_corrupt", "detail": "says the child"})
NO_ERROR = build_message({"kind": "refusal", "code": "source_forbidden", "detail": "not a decoder's to say"})

MESSAGES = {
    "garbage": b"\xde\xad\xbe\xef" * 50_000,
    "4 GiB announced": b"\0\0\0\x10\xff\xff\xff\xff",
    "4 GiB of JSON announced": b"\xff\xff\xff\xff\0\0\0\0",
    "no JSON": b"\0\0\0\0\0\0\0\1x",
    "deep JSON": b"\0\0\x0f\xff\0\0\0\0" + b"[" * 4095,
    "begun again": BEGUN,
    "begun for ever": BEGUN * 10_000,
    "no picture but that it is up": READY,
    "an error that is not a decoder's": NO_ERROR,
}


@pytest.mark.parametrize("message", MESSAGES.values(), ids=MESSAGES.keys())
def test_what_is_no_answer_costs_the_child(patient: Sandbox, message: bytes) -> None:
    """And one child only: the image is not given to a second one."""
    with pytest.raises(DecoderCrashed) as caught:
        render_in(patient, TakeOver(write, message))

    assert "twice" not in caught.value.detail
    assert render_in(patient, RED_PNG).dominant_color == "#ff0000"


@pytest.mark.parametrize("is_framed", [False, True], ids=["as multiprocessing sends it", "as an answer"])
def test_pickle_is_not_read(patient: Sandbox, tmp_path: Path, is_framed: bool) -> None:
    """Before, an image that took its child over ran code in the worker: all the secrets are there."""
    marker = tmp_path / "owned"

    with pytest.raises(DecoderCrashed):
        render_in(patient, TakeOver(write_pickle, str(marker), is_framed))

    assert render_in(patient, RED_PNG).dominant_color == "#ff0000"
    assert not marker.exists()


@pytest.mark.parametrize("end", [TakeOver(leave, 0), TakeOver(leave, 1), TakeOver(fault), TakeOver(abort)])
def test_child_that_ends_is_a_crash_however_it_ends(patient: Sandbox, end: TakeOver) -> None:
    """Also one that says that all is well: pebble would start another one, and wait for ever."""
    with pytest.raises(DecoderCrashed):
        render_in(patient, end)

    assert render_in(patient, RED_PNG).dominant_color == "#ff0000"


def test_cpu_time_that_ran_out_is_a_timeout(patient: Sandbox) -> None:
    with pytest.raises(DecoderTimeout):
        render_in(patient, TakeOver(burn))


def test_half_an_answer_is_waited_for_until_the_deadline_only() -> None:
    with build_sandbox(timeout_seconds=0.5) as sandbox:
        for attack in (TakeOver(write, b"\0\0\0\x11\0\0"), TakeOver(write, BEGUN[:-1]), TakeOver(drip)):
            with pytest.raises(DecoderTimeout):
                render_in(sandbox, attack)
        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"


def test_half_an_answer_does_not_keep_the_sandbox_from_closing() -> None:
    """The thread that reads the pipe must not be in the middle of it: the parent holds an end of it itself."""
    before = list_decoders()
    sandbox = build_sandbox(timeout_seconds=0.5)
    sandbox.start()
    with pytest.raises(DecoderTimeout):
        render_in(sandbox, TakeOver(write, BEGUN[:-1]))

    sandbox.close()

    assert list_decoders() == before


def test_child_that_answers_and_stops_listening_is_a_timeout() -> None:
    """The next image is more than a pipe holds, and nobody reads it."""
    large_png = RED_PNG + bytes(1_000_000)
    with build_sandbox(timeout_seconds=1) as sandbox:
        with pytest.raises(ImageCorrupt):
            render_in(sandbox, TakeOver(write, CORRUPT))
        with pytest.raises(DecoderTimeout):
            render_in(sandbox, large_png)
        assert render_in(sandbox, large_png).dominant_color == "#ff0000"


@pytest.mark.parametrize("more", [b"\xff" * 64, READY], ids=["garbage", "another answer"])
def test_what_comes_behind_an_answer_is_not_the_next_images_fault(patient: Sandbox, more: bytes) -> None:
    with pytest.raises(ImageCorrupt):
        render_in(patient, TakeOver(write, CORRUPT + more))

    assert render_in(patient, RED_PNG).dominant_color == "#ff0000"


TRUTH: dict[str, Any] = {
    "body": b"\xff\xd8\xff a thumbnail",
    "content_type": "image/jpeg",
    "width": 100,
    "height": 100,
    "thumbhash": "3OcRJYB4d3h/iIeHeEh3eIhw+j2w",
    "dominant_color": "#7a5c43",
    "source_content_type": "image/png",
    "source_width": 320,
    "source_height": 240,
}


def test_picture_of_the_right_form_is_all_that_can_be_forged(patient: Sandbox) -> None:
    """Its hash is the parent's own."""
    found = render_in(patient, TakeOver(lie, TRUTH))

    assert found == Picture(
        **{name: value for name, value in TRUTH.items() if "source" not in name}, sha256=found.sha256
    )
    assert len(found.sha256) == 64


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("content_type", "text/html"),
        ("width", 101),
        ("width", "100"),
        ("height", True),
        ("body", b""),
        ("body", bytes(49 * 1024 * 1024)),
        ("thumbhash", "<script>"),
        ("dominant_color", "red"),
        ("source_content_type", "image/svg+xml"),
        ("source_width", 1 << 60),
        ("source_height", 0),
    ],
)
def test_picture_of_another_form_is_a_crash(patient: Sandbox, member: str, value: Any) -> None:
    before = list_decoders()

    with pytest.raises(DecoderCrashed):
        render_in(patient, TakeOver(lie, TRUTH | {member: value}))

    assert render_in(patient, RED_PNG).dominant_color == "#ff0000"
    assert find_new_decoder([]) not in before, "who lied once is not asked again"
