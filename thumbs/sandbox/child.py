"""The child's half: give up what decoding does not need, then make the thumbnails of one image after the other.

`decoder` hands these functions to pebble, which calls them in the child.
"""

import ctypes
import fcntl
import logging
import multiprocessing
import os
import resource
import signal
from collections.abc import Set
from dataclasses import dataclass
from math import ceil
from multiprocessing import resource_tracker
from multiprocessing.connection import wait
from typing import Any

from thumbs.domain import DecodeLimits, Rendering, ThumbnailSpec
from thumbs.errors import ImageTooLarge, JobError
from thumbs.sandbox.answer import Refusal
from thumbs.sandbox.syscalls import forbid_system_calls

MIN_OPEN_FILES = 3
"""Lower than what is open already, so that nothing more can be opened, no file and no socket; poll() wants > 0."""

STANDARD_FILES = (0, 1, 2)

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""How malloc.h names them."""
KEPT_BLOCK_BYTES = 32 * 1024 * 1024
"""Blocks up to here stay with the process when they are freed, and need no new pages in the next image: a progressive
JPEG of 12 MP takes 37 ms instead of 62. Older C libraries accept no more."""
KEPT_BYTES = 64 * 1024 * 1024
"""Beyond that, what is free at the heap's end goes back to the kernel."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a child is asked."""

    body: bytes
    specs: tuple[ThumbnailSpec, ...]
    limits: DecodeLimits
    timeout_seconds: float


def enter_sandbox(memory_bytes: int, formats: Set[str]) -> None:
    """Give up what decoding these formats does not need; runs once in the child, before the first image."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()
    from thumbs.imaging import load_decoders  # noqa: PLC0415  Child process only.

    load_decoders(formats)
    logging.disable()
    _keep_freed_memory()
    _let_go_of_shared_files()
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MIN_OPEN_FILES, MIN_OPEN_FILES))
    forbid_system_calls()


def report_ready() -> None:
    """Do nothing: that it is done tells the parent that the child is up."""


def render(work: Work) -> Rendering | Refusal:
    """Render one image."""
    from thumbs.imaging import make_thumbnails  # noqa: PLC0415  Child process only.

    _limit_cpu(work.timeout_seconds)
    try:
        return make_thumbnails(work.body, work.specs, work.limits)
    except JobError as error:
        return Refusal(error.code, error.detail)
    except MemoryError:
        return Refusal(ImageTooLarge.code, "MemoryError")


def _die_with_parent() -> None:
    """Have the kernel kill this process as soon as the parent is gone, however that ended.

    The parent holds the other end of the sentinel pipe, and SIGIO's default is to terminate. A watching thread
    would have to wait for the GIL, which some decoders hold to the end of the picture.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    sentinel: Any = parent.sentinel
    signal.signal(signal.SIGIO, signal.SIG_DFL)
    fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)
    if wait([sentinel], timeout=0):
        os._exit(1)


def _keep_freed_memory() -> None:
    """Have the C library keep what was freed, up to a bound; one that cannot be told so stays as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, KEPT_BLOCK_BYTES)
        mallopt(M_TRIM_THRESHOLD, KEPT_BYTES)


def _let_go_of_shared_files() -> None:
    """Point at nothing what leads out beside the pipe: the parent's output, where log lines could be forged, and
    multiprocessing's tracker, which removes semaphores and shared memory by name for whoever asks.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for shared in (*STANDARD_FILES, resource_tracker.getfd()):
        if shared is not None:
            os.dup2(nothing, shared)
    os.close(nothing)


def _limit_cpu(timeout_seconds: float) -> None:
    """Allow this image as much CPU time as wall time: a backstop, should the parent be too busy to kill."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_seconds = ceil(usage.ru_utime + usage.ru_stime)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used_seconds + ceil(timeout_seconds) + 1, hard_limit))
