"""What a child may use, and what it can reach: less than any image could put to bad use.

Probes run in a real child, in place of imaging, and tell what they found as the detail of an error.
"""

import platform
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from PIL import Image

from tests.support.decoders import (
    MIB,
    RED_PNG,
    WAIT_SECONDS,
    build_sandbox,
    find_new_decoder,
    list_decoders,
    render_in,
    render_whole_in,
    start_slow_render,
)
from tests.support.images import EVERY_FORMAT, encode
from tests.support.takeover import TakeOver
from thumbs.domain import DecodeLimits
from thumbs.errors import DecoderCrashed, DecoderTimeout, ImageCorrupt, ImageTooLarge
from thumbs.sandbox import Sandbox
from thumbs.sandbox.syscalls import MACHINES

HAS_FILTER = platform.machine() in MACHINES
needs_filter = pytest.mark.skipif(not HAS_FILTER, reason=f"no filter of system calls for {platform.machine()}")

# ruff: noqa: PLC0415  A probe is sent as text, and brings its imports along.


def test_slow_image_is_killed_and_the_next_one_is_done(slow_png: bytes) -> None:
    with build_sandbox(timeout_seconds=0.2) as sandbox:
        render_in(sandbox, RED_PNG)
        start = time.monotonic()
        with pytest.raises(DecoderTimeout):
            render_in(sandbox, slow_png)
        assert time.monotonic() - start < 3
        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"


def test_image_that_needs_too_much_memory_is_too_large(slow_png: bytes) -> None:
    """49 MP of RGB take 196 MB."""
    with build_sandbox(memory_bytes=160 * MIB) as sandbox:
        with pytest.raises(ImageTooLarge):
            render_in(sandbox, slow_png)
        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"


def test_baseline_jpeg_beyond_the_other_limits_takes_little_memory() -> None:
    """Why its limit is larger: 120 MP decode in a process that could not hold them."""
    body = encode(Image.new("L", (12_000, 10_000), 255), "JPEG")
    with build_sandbox(memory_bytes=100 * MIB) as sandbox:
        assert render_whole_in(sandbox, body).source_width == 12_000


def test_crash_costs_the_image_its_process_and_nobody_else(threads: ThreadPoolExecutor, slow_png: bytes) -> None:
    before = list_decoders()
    with build_sandbox() as sandbox:
        future = start_slow_render(sandbox, threads, slow_png)
        find_new_decoder(before).send_signal(signal.SIGSEGV)

        with pytest.raises(DecoderCrashed):
            future.result(timeout=WAIT_SECONDS)
        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"


def ask(sandbox: Sandbox, probe: Any, *arguments: Any) -> str:
    """Run the probe in a child, and tell what it returned."""
    with pytest.raises(ImageCorrupt) as caught:
        render_in(sandbox, TakeOver(probe, *arguments))
    return caught.value.detail


def try_to_open(writer: Any, kind: str, makes_room: bool = False) -> None:
    """Open something, also in the place of what was open, and tell the error's number."""
    import os
    import socket

    from thumbs.errors import ImageCorrupt

    attempts: dict[str, Callable[[], object]] = {
        "file": lambda: os.open("/etc/passwd", os.O_RDONLY),
        "new file": lambda: os.open("/tmp/thumbs-new", os.O_CREAT | os.O_WRONLY),
        "device": lambda: os.open("/dev/null", os.O_WRONLY),
        "tcp": lambda: socket.create_connection(("127.0.0.1", 80)),
        "udp": lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
        "unix": lambda: socket.socket(socket.AF_UNIX),
        "pair": socket.socketpair,
        "pipe": os.pipe,
        "copy": lambda: os.dup(writer.fileno()),
        "memory": lambda: os.memfd_create("code"),
        "folder": lambda: os.scandir("/"),
    }
    if makes_room:
        os.close(0)
    try:
        attempts[kind]()
    except OSError as error:
        raise ImageCorrupt(f"errno {error.errno}") from None
    finally:
        os.dup2(1, 0)


BY_NAME = ["file", "new file", "device", "tcp", "udp", "unix", "pair", "memory", "folder"]
"""What the filter of system calls forbids; the limit on open files forbids it all."""


@pytest.mark.parametrize("kind", [*BY_NAME, "pipe", "copy"])
def test_child_can_open_nothing(shared: Sandbox, kind: str) -> None:
    """Not permitted, or too many open files: no file, no socket, so no network either."""
    assert ask(shared, try_to_open, kind) == ("errno 1" if kind in BY_NAME and HAS_FILTER else "errno 24")


@needs_filter
@pytest.mark.parametrize("kind", BY_NAME)
def test_child_that_closes_a_file_can_open_no_other_in_its_place(shared: Sandbox, kind: str) -> None:
    assert ask(shared, try_to_open, kind, True) == "errno 1"


def try_to_reach(writer: Any, kind: str) -> None:
    """Do something to processes or files, and tell the error's number."""
    import ctypes
    import fcntl
    import os
    import resource
    from pathlib import Path

    from thumbs.errors import ImageCorrupt

    def trace() -> None:
        if ctypes.CDLL(None, use_errno=True).ptrace(16, os.getppid(), 0, 0) != 0:  # PTRACE_ATTACH
            raise OSError(ctypes.get_errno(), "refused")

    reader, parent = 0, os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "owner": lambda: fcntl.fcntl(reader, fcntl.F_SETOWN, parent),
        "signal of a pipe": lambda: fcntl.fcntl(reader, 10, 9),  # F_SETSIG
        "limit": lambda: resource.prlimit(parent, resource.RLIMIT_CPU, (1, 1)),
        "cores": lambda: os.sched_setaffinity(parent, {0}),
        "priority": lambda: os.setpriority(os.PRIO_PROCESS, parent, 19),
        "time": lambda: os.utime("/tmp"),
        "fork": os.fork,
        "program": lambda: os.execv("/bin/true", ["true"]),
        "signal": lambda: os.kill(os.getppid(), 0),
        "trace": trace,
        "watch": lambda: os.pidfd_open(os.getppid()),
        "delete": Path("/tmp/thumbs-none").unlink,
        "rename": lambda: Path("/tmp/thumbs-none").rename("/tmp/thumbs-new"),
        "mode": lambda: Path("/tmp").chmod(0o777),
        "folder": Path("/tmp/thumbs-new").mkdir,
    }
    try:
        attempts[kind]()
    except OSError as error:
        raise ImageCorrupt(f"errno {error.errno}") from None


@needs_filter
@pytest.mark.parametrize("kind", ["fork", "program", "signal", "trace", "watch", "delete", "rename", "mode", "folder"])
def test_child_can_do_nothing_to_processes_and_files(shared: Sandbox, kind: str) -> None:
    """Also as root, whom the kernel would let."""
    assert ask(shared, try_to_reach, kind) == "errno 1"


def find_module(writer: Any, name: str) -> None:
    """Tell whether a module is loaded."""
    import sys

    from thumbs.errors import ImageCorrupt

    raise ImageCorrupt(str(name in sys.modules))


@pytest.mark.parametrize(("limits", "found"), [(DecodeLimits(), "False"), (EVERY_FORMAT, "True")])
def test_child_loads_libheif_only_where_the_setting_names_it(limits: DecodeLimits, found: str) -> None:
    with build_sandbox(limits) as sandbox:
        assert ask(sandbox, find_module, "pillow_heif") == found


def start_thread(writer: Any) -> None:
    """Start a thread, as AVIF's decoder does."""
    import threading

    from thumbs.errors import ImageCorrupt

    done: list[str] = []
    thread = threading.Thread(target=done.append, args=["done"])
    thread.start()
    thread.join()
    raise ImageCorrupt(done[0])


def test_child_can_start_threads(shared: Sandbox) -> None:
    assert ask(shared, start_thread) == "done"


def list_open_files(writer: Any) -> None:
    """List what is open, by kind: the pipes to read from and to write on, and what is neither."""
    import fcntl
    import os
    import stat
    from collections import Counter

    from thumbs.errors import ImageCorrupt

    kinds: Counter[str] = Counter()
    for descriptor in range(1024):
        try:
            status = os.fstat(descriptor)
        except OSError:
            continue
        is_written = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if stat.S_ISFIFO(status.st_mode):
            kinds["written" if is_written else "read"] += 1
        elif (os.major(status.st_rdev), os.minor(status.st_rdev)) != (1, 3):
            kinds["else"] += 1
    raise ImageCorrupt(f"{kinds['written']} written, {kinds['read']} read, {kinds['else']} else")


def test_child_has_nothing_open_but_its_pipes(shared: Sandbox) -> None:
    """Answers and the child's life are written, work and the parent's life are read; output goes to /dev/null."""
    assert ask(shared, list_open_files) == "2 written, 2 read, 0 else"


def tell_environment(writer: Any) -> None:
    """Tell the environment, and where it could be read from."""
    import os

    from thumbs.errors import ImageCorrupt

    raise ImageCorrupt(f"{dict(os.environ)} {os.getenv('PATH')}")


def test_environment_of_the_child_is_empty(shared: Sandbox) -> None:
    """Database URL and keys come by the environment."""
    assert ask(shared, tell_environment) == "{} None"


def tell_limits(writer: Any) -> None:
    """Tell the limits."""
    import resource

    from thumbs.errors import ImageCorrupt

    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = resource.getrlimit(resource.RLIMIT_CPU)[0] - usage.ru_utime - usage.ru_stime
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE)
    limits = [resource.getrlimit(kind) for kind in kinds]
    raise ImageCorrupt(f"{limits} {10 < cpu_seconds <= 12}")


def test_limits_of_the_child_hold_softly_and_hard(shared: Sandbox) -> None:
    """CPU time is set anew for each image: as much as wall time, and up to 2 s by rounding up."""
    gib = 1024 * MIB
    wanted = f"{[(gib, gib), (0, 0), (0, 0), (3, 3)]} True"

    assert [ask(shared, tell_limits) for _ in range(3)] == [wanted] * 3


def take_memory(writer: Any) -> None:
    """Take memory until there is none, and die of it."""
    hoard = []
    while True:
        hoard.append(bytearray(16 * 1024 * 1024))


def test_memory_ends_at_the_limit_and_comes_back() -> None:
    with build_sandbox(memory_bytes=300 * MIB) as sandbox:
        with pytest.raises(ImageTooLarge):
            render_in(sandbox, TakeOver(take_memory))
        before = list_decoders()
        assert render_in(sandbox, RED_PNG).dominant_color == "#ff0000"
        assert all(child.memory_info().rss < 150 * MIB for child in before)


def count_faults(writer: Any) -> None:
    """Tell how many new pages a block of 16 MiB takes that was freed just before."""
    import resource

    from thumbs.errors import ImageCorrupt

    def use() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        block = b"x" * (16 * 1024 * 1024)
        del block
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    use()
    raise ImageCorrupt(str(use()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_child_keeps_freed_memory_for_the_next_image(shared: Sandbox) -> None:
    """The kernel gives pages of 4 KiB: 4,096 of them, were it asked again."""
    assert int(ask(shared, count_faults)) < 1000
