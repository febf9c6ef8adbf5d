"""Sandboxes for tests, and a look at their children from outside."""

import os
import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import psutil
from PIL import Image

from tests.support.images import BLUE, RED, encode, take_only
from thumbs.domain import DecodeLimits, Picture, Rendering, ThumbnailSpec
from thumbs.errors import JobError
from thumbs.sandbox import Sandbox

MIB = 1024 * 1024
SPEC = ThumbnailSpec()
WAIT_SECONDS = 20.0
RED_PNG = encode(Image.new("RGB", (200, 200), RED), "PNG")
BLUE_PNG = encode(Image.new("RGB", (200, 200), BLUE), "PNG")


def build_sandbox(
    limits: DecodeLimits | None = None,
    *,
    decoders: int = 1,
    timeout_seconds: float = 10.0,
    memory_bytes: int = 1024 * MIB,
) -> Sandbox:
    """Build one, with the limits of the settings."""
    return Sandbox(
        limits or DecodeLimits(), decoders=decoders, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes
    )


def render_in(sandbox: Sandbox, body: bytes, spec: ThumbnailSpec = SPEC) -> Picture:
    """Render by a child."""
    return take_only(render_whole_in(sandbox, body, spec))


def render_whole_in(sandbox: Sandbox, body: bytes, *specs: ThumbnailSpec) -> Rendering:
    """Render by a child, for each spec, and tell about the source too."""
    return sandbox.render(body, specs or [SPEC], wait_seconds=WAIT_SECONDS)


def tell_code(sandbox: Sandbox, body: bytes) -> str:
    """Render, and tell the error's code, or ok."""
    try:
        render_in(sandbox, body)
    except JobError as error:
        return error.code
    return "ok"


def check_bomb(sandbox: Sandbox, body: bytes, code: str, *, max_mib: int) -> None:
    """Check that a bomb ends with its code and in little memory, and that its child goes on."""
    render_in(sandbox, RED_PNG)
    before = list_decoders()

    assert tell_code(sandbox, body) == code

    assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"
    assert list_decoders() == before, "no child died of it"
    assert all(_read_peak_mib(child.pid) < max_mib for child in before)


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to come to pass."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def list_decoders(parent: int | None = None) -> list[psutil.Process]:
    """List the decoder children of a process, or of this one."""
    return [child for child in psutil.Process(parent or os.getpid()).children() if _is_decoder(child)]


def find_new_decoder(before: list[psutil.Process]) -> psutil.Process:
    """Find the one decoder that is not among those."""
    (decoder,) = [child for child in list_decoders() if child not in before]
    return decoder


def start_slow_render(sandbox: Sandbox, threads: ThreadPoolExecutor, slow_png: bytes) -> "Future[Rendering]":
    """Start decoding the slow image, and come back when the child is at it."""
    render_in(sandbox, RED_PNG)
    before = sum(child.cpu_times().user for child in list_decoders())
    future = threads.submit(render_whole_in, sandbox, slow_png)
    wait_until(lambda: sum(child.cpu_times().user for child in list_decoders()) > before + 0.05)
    return future


def _read_peak_mib(pid: int) -> int:
    """Read the most memory that a process ever had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) // 1024


def _is_decoder(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
