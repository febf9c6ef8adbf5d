"""The sandbox: an image may hang, crash or exhaust its process, and only that image fails.

Everything here runs against real child processes; the slow image takes about half a second to decode.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.support.images import BLUE, RED, build_photo, build_slow_png, encode, render
from thumbs.domain import DecodeLimits, Fit, OutputFormat, Picture, ThumbnailSpec
from thumbs.errors import (
    DecoderCrashed,
    DecodersBusy,
    DecoderTimeout,
    ImageCorrupt,
    ImageTooLarge,
    JobError,
    UnsupportedFormat,
    list_job_errors,
)
from thumbs.sandbox import Sandbox, _build_error, _build_exit_error, _Refusal

REPOSITORY = Path(__file__).parents[1]
MIB = 1024 * 1024
SPEC = ThumbnailSpec()
RED_PNG = encode(Image.new("RGB", (200, 200), RED), "PNG")
BLUE_PNG = encode(Image.new("RGB", (200, 200), BLUE), "PNG")
WAIT_SECONDS = 20.0


def build_sandbox(*, decoders: int = 1, timeout_seconds: float = 10.0, memory_bytes: int = 1024 * MIB) -> Sandbox:
    return Sandbox(DecodeLimits(), decoders=decoders, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes)


@pytest.fixture(scope="module")
def slow_png() -> bytes:
    return build_slow_png()


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """One sandbox for the tests that leave it as it was."""
    with build_sandbox(decoders=2) as sandbox:
        yield sandbox


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def list_decoders(parent: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(parent).children() if is_decoder(child)]


def is_decoder(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def find_new_decoder(before: list[psutil.Process]) -> psutil.Process:
    (decoder,) = [child for child in list_decoders(os.getpid()) if child not in before]
    return decoder


def start_slow_render(sandbox: Sandbox, threads: ThreadPoolExecutor, slow_png: bytes) -> "Future[Picture]":
    """Start decoding the slow image, and come back when the child is at it."""
    sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)
    before = sum(child.cpu_times().user for child in list_decoders(os.getpid()))
    future = threads.submit(sandbox.render, slow_png, SPEC, wait_seconds=WAIT_SECONDS)
    wait_until(lambda: sum(child.cpu_times().user for child in list_decoders(os.getpid())) > before + 0.05)
    return future


# ── answers ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("source", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "MPO"])
@pytest.mark.parametrize("output", list(OutputFormat))
def test_render_gives_what_imaging_gives(shared: Sandbox, source: str, output: OutputFormat) -> None:
    """Also: nothing is imported or opened while an image is decoded, since the child can open nothing any more."""
    body = encode(build_photo(), source)

    found = shared.render(body, ThumbnailSpec(format=output, fit=Fit.CONTAIN), wait_seconds=WAIT_SECONDS)

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
    before = list_decoders(os.getpid())
    with pytest.raises(error) as caught:
        shared.render(body, SPEC, wait_seconds=WAIT_SECONDS)

    assert caught.value.detail
    assert list_decoders(os.getpid()) == before, "a typed error is an answer, and costs no process"


@pytest.mark.parametrize("error", list_job_errors())
def test_every_code_travels(error: type[JobError]) -> None:
    built = _build_error(_Refusal(error.code, "why"))

    assert type(built) is error
    assert built.detail == "why"


def test_unknown_code_is_a_crash() -> None:
    assert isinstance(_build_error(_Refusal("rm -rf", "")), DecoderCrashed)


def test_images_after_one_another_are_independent(shared: Sandbox) -> None:
    def get_colour(body: bytes) -> str:
        try:
            return shared.render(body, SPEC, wait_seconds=WAIT_SECONDS).dominant_color
        except ImageCorrupt:
            return "corrupt"

    found = [get_colour(body) for body in (RED_PNG, RED_PNG[:-30], BLUE_PNG, RED_PNG)]

    assert found == ["#ff0000", "corrupt", "#0000ff", "#ff0000"]


def test_many_threads_each_get_their_own_answer(shared: Sandbox, threads: ThreadPoolExecutor) -> None:
    bodies = [RED_PNG, BLUE_PNG] * 40

    pictures = threads.map(lambda body: shared.render(body, SPEC, wait_seconds=WAIT_SECONDS), bodies)

    assert [picture.dominant_color for picture in pictures] == ["#ff0000", "#0000ff"] * 40


# ── limits ──────────────────────────────────────────────────────────────────────────────────────────────


def test_slow_image_is_killed_and_the_next_one_is_done(slow_png: bytes) -> None:
    with build_sandbox(timeout_seconds=0.2) as sandbox:
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)
        start = time.monotonic()
        with pytest.raises(DecoderTimeout):
            sandbox.render(slow_png, SPEC, wait_seconds=WAIT_SECONDS)
        assert time.monotonic() - start < 3
        assert sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS).dominant_color == "#ff0000"


def test_image_that_needs_too_much_memory_is_too_large(slow_png: bytes) -> None:
    """49 MP of RGB take 196 MB."""
    with build_sandbox(memory_bytes=160 * MIB) as sandbox:
        with pytest.raises(ImageTooLarge):
            sandbox.render(slow_png, SPEC, wait_seconds=WAIT_SECONDS)
        assert sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS).dominant_color == "#ff0000"


def test_baseline_jpeg_beyond_the_other_limits_takes_little_memory() -> None:
    """Why its limit is larger: 120 MP decode in a process that could not hold them."""
    body = encode(Image.new("L", (12_000, 10_000), 255), "JPEG")
    with build_sandbox(memory_bytes=100 * MIB) as sandbox:
        assert sandbox.render(body, SPEC, wait_seconds=WAIT_SECONDS).source_width == 12_000


def test_crash_costs_the_image_its_process_and_nobody_else(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    before = list_decoders(os.getpid())
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        find_new_decoder(before).send_signal(signal.SIGSEGV)

        with pytest.raises(DecoderCrashed):
            future.result(timeout=WAIT_SECONDS)
        assert sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS).dominant_color == "#ff0000"


def test_image_is_not_blamed_for_a_child_that_died_idle() -> None:
    """As of the kernel's out-of-memory killer: the next image gets a fresh child instead of an error."""
    before = list_decoders(os.getpid())
    with build_sandbox() as sandbox:
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)
        find_new_decoder(before).kill()

        assert sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS).dominant_color == "#ff0000"


def test_exit_is_a_timeout_only_when_cpu_time_ran_out() -> None:
    assert isinstance(_build_exit_error(-signal.SIGXCPU), DecoderTimeout)
    assert isinstance(_build_exit_error(-signal.SIGKILL), DecoderCrashed)
    assert isinstance(_build_exit_error(1), DecoderCrashed)


def test_child_can_open_nothing_and_carries_no_secrets() -> None:
    """Run in a child of its own, as the limits cannot be taken back."""
    code = """
import os, resource, socket
from thumbs.sandbox import _enter_sandbox
os.environ["DATABASE_URL"] = "postgresql://user:secret@host/db"
_enter_sandbox(1 << 30)
assert not os.environ
for attempt in (lambda: open("/etc/passwd"), lambda: socket.socket(), os.pipe):
    try:
        attempt()
    except OSError:
        continue
    raise SystemExit("something could be opened")
assert resource.getrlimit(resource.RLIMIT_AS) == (1 << 30, 1 << 30)
assert resource.getrlimit(resource.RLIMIT_CORE) == (0, 0)
os.write(1, b"shut")
"""
    found = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, timeout=30, check=False)

    assert (found.stdout, found.stderr) == (b"shut", b"")


# ── busy and closed ─────────────────────────────────────────────────────────────────────────────────────


def test_busy_decoders_are_waited_for_only_so_long(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        with pytest.raises(DecodersBusy):
            sandbox.render(RED_PNG, SPEC, wait_seconds=0.05)
        assert future.result(timeout=WAIT_SECONDS).source_width == 7000


def test_threads_are_served_in_turn(threads: ThreadPoolExecutor) -> None:
    """One that renders without a pause must not take each decoder that it gives back, or the others starve."""
    with build_sandbox() as sandbox:
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)
        greedy = [threads.submit(render_many, sandbox, 200) for _ in range(2)]
        for _ in range(20):
            sandbox.render(BLUE_PNG, SPEC, wait_seconds=0.5)
        assert not any(future.done() for future in greedy)


def render_many(sandbox: Sandbox, count: int) -> None:
    for _ in range(count):
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)


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
    waiting = [threads.submit(sandbox.render, RED_PNG, SPEC, wait_seconds=60) for _ in range(3)]

    sandbox.close()

    for future in [under_way, *waiting]:
        with pytest.raises(DecodersBusy):
            future.result(timeout=5)


def test_close_while_children_start_leaves_none() -> None:
    before = list_decoders(os.getpid())
    sandbox = build_sandbox(decoders=3)
    sandbox.start()

    sandbox.close()
    sandbox.close()

    assert list_decoders(os.getpid()) == before
    with pytest.raises(DecodersBusy):
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)


def test_close_leaves_no_thread_behind() -> None:
    before = threading.active_count()
    with build_sandbox(decoders=2) as sandbox:
        sandbox.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)

    assert threading.active_count() == before


# ── the parent ──────────────────────────────────────────────────────────────────────────────────────────

PARENT = """
# No guard against being imported: a child that ran its parent's main script would start children of its own.
import sys, threading
from pathlib import Path
from thumbs.domain import DecodeLimits, ThumbnailSpec
from thumbs.sandbox import Sandbox

body = Path(sys.argv[1]).read_bytes()
sandbox = Sandbox(DecodeLimits(), decoders=2, timeout_seconds=10, memory_bytes=1 << 30)
sandbox.start()
sandbox.render(Path(sys.argv[2]).read_bytes(), ThumbnailSpec(), wait_seconds=20)
assert not [name for name in sys.modules if name == "PIL" or name.startswith("thumbs.imaging")]
print("ready", flush=True)

def render_for_ever():
    while True:
        sandbox.render(body, ThumbnailSpec(), wait_seconds=20)

if len(sys.argv) > 3:
    threading.Thread(target=render_for_ever, daemon=True).start()
    sys.stdin.read()
"""


def start_parent(tmp_path: Path, body: bytes, *arguments: str) -> "subprocess.Popen[bytes]":
    script, slow, quick = tmp_path / "parent.py", tmp_path / "slow", tmp_path / "quick"
    script.write_text(PARENT)
    slow.write_bytes(body)
    quick.write_bytes(RED_PNG)
    command = [sys.executable, str(script), str(slow), str(quick), *arguments]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)


def test_parent_that_is_killed_leaves_no_orphans(tmp_path: Path, slow_png: bytes) -> None:
    """Nor does one that decodes: the kernel kills it, without its interpreter's help."""
    with start_parent(tmp_path, slow_png, "for ever") as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        children = list_decoders(parent.pid)
        wait_until(lambda: any(child.cpu_percent() > 0 for child in children))

        parent.kill()

        _, alive = psutil.wait_procs(children, timeout=2)
        assert len(children) == 2
        assert not alive


def test_main_script_is_not_run_again_in_the_child(tmp_path: Path) -> None:
    """It also ends by itself, without close(), and without a word on stderr."""
    with start_parent(tmp_path, RED_PNG) as parent:
        stdout, stderr = parent.communicate(timeout=30)

    assert (stdout, stderr, parent.returncode) == (b"ready\n", b"", 0)


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_render_under_way_outlives_a_signal_to_the_whole_group(
    threads: ThreadPoolExecutor, slow_png: bytes, signal_number: int
) -> None:
    """systemd and Ctrl-C signal every process of the group; the parent decides what that means."""
    before = list_decoders(os.getpid())
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        find_new_decoder(before).send_signal(signal_number)

        assert future.result(timeout=WAIT_SECONDS).source_width == 7000


def test_idle_children_are_small(shared: Sandbox) -> None:
    shared.render(RED_PNG, SPEC, wait_seconds=WAIT_SECONDS)

    assert all(child.memory_info().rss < 80 * MIB for child in list_decoders(os.getpid()))
