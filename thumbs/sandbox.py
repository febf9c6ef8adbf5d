"""Run `thumbs.imaging` in child processes that may die: of a limit, of a deadline, of the image.

The parent's half (`Sandbox`) never imports PIL and never sees a pixel; `process` calls it from many threads. The
child's half is at the end of the file. Each decoder is a pebble pool of its own with one child: children of one pool
share a lock that a killed one leaves locked for ever. Whatever ends in anything but an answer costs its decoder.
"""

import atexit
import fcntl
import logging
import multiprocessing
import os
import resource
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType, TracebackType
from typing import Any, Self

from pebble import ProcessExpired, ProcessPool

from thumbs.domain import DecodeLimits, Picture, ThumbnailSpec
from thumbs.errors import DecoderCrashed, DecodersBusy, DecoderTimeout, ImageTooLarge, JobError, list_job_errors

START_SECONDS = 30.0
"""How long a child may take to come up; 0.15 s measured, and a loaded machine takes its time."""

CLOSE_SECONDS = 5.0
"""How long close() waits for the renders that it interrupted."""

CLOSED = "the sandbox is closed"

TRIES = 2
"""A child that died idle is no fault of the image that would have been next: it gets a fresh one, once."""


class Sandbox:
    """A fixed number of decoder processes; the last one used is the next, and threads that wait are served in turn."""

    def __init__(self, limits: DecodeLimits, *, decoders: int, timeout_seconds: float, memory_bytes: int) -> None:
        """Take the limits of each image: pixels, wall time, and the address space of its process."""
        self._limits = limits
        self._decoder_count = decoders
        self._timeout_seconds = timeout_seconds
        self._memory_bytes = memory_bytes
        self._free: list[_Decoder] = []
        self._busy: set[_Decoder] = set()
        self._waiting: deque[Future[_Decoder]] = deque()
        self._is_closed = False
        self._changed = threading.Condition()

    def start(self) -> None:
        """Start the children; returns before they are ready, and render() waits for them."""
        with self._changed:
            for _ in range(self._decoder_count):
                self._offer(_Decoder(self._memory_bytes))
        atexit.register(self.close)

    def render(self, body: bytes, spec: ThumbnailSpec, *, wait_seconds: float) -> Picture:
        """Make the thumbnail in a child process; blocking, and safe to call from many threads at once.

        Raises DecodersBusy when no decoder comes free within `wait_seconds`, and when the sandbox is closed meanwhile;
        DecoderTimeout, DecoderCrashed; and whatever DecodeError or RenderError imaging raised in the child.
        """
        work = _Work(body, spec, self._limits, self._timeout_seconds)
        for _ in range(TRIES):
            with self._borrow(wait_seconds) as decoder, suppress(_NeverBegun):
                return decoder.render(work)
        raise DecoderCrashed("died before it began, twice")

    def close(self) -> None:
        """Kill the children; renders under way raise DecodersBusy. Idempotent, and done within CLOSE_SECONDS."""
        with self._changed:
            self._is_closed = True
            idle, self._free = self._free, []
            while self._waiting:
                self._waiting.popleft().set_exception(DecodersBusy(CLOSED))
            for decoder in self._busy:
                decoder.interrupt()
            self._changed.wait_for(lambda: not self._busy, timeout=CLOSE_SECONDS)
        _stop_all(idle)
        atexit.unregister(self.close)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    @contextmanager
    def _borrow(self, wait_seconds: float) -> "Iterator[_Decoder]":
        """Lend a free decoder; one that ended in anything but an answer does not come back, a fresh one does."""
        decoder = self._take(wait_seconds)
        try:
            yield decoder
        finally:
            self._give_back(decoder)

    def _take(self, wait_seconds: float) -> "_Decoder":
        place: Future[_Decoder] = Future()
        with self._changed:
            if self._is_closed:
                raise DecodersBusy(CLOSED)
            self._waiting.append(place)
            if self._free:
                self._offer(self._free.pop())
        try:
            return place.result(timeout=wait_seconds)
        except TimeoutError:
            return self._leave_line(place, wait_seconds)

    def _leave_line(self, place: "Future[_Decoder]", wait_seconds: float) -> "_Decoder":
        """Give up waiting, unless a decoder came at the last moment."""
        with self._changed:
            if place in self._waiting:
                self._waiting.remove(place)
                raise DecodersBusy(f"none came free in {wait_seconds} s")
        return place.result()

    def _give_back(self, decoder: "_Decoder") -> None:
        with self._changed:
            is_kept = decoder.is_sound and not self._is_closed
            if is_kept:
                self._busy.discard(decoder)
            if not self._is_closed:
                self._offer(decoder if is_kept else _Decoder(self._memory_bytes))
        if not is_kept:
            self._discard(decoder)

    def _discard(self, decoder: "_Decoder") -> None:
        """Stop a decoder; close() waits for this."""
        _stop_all([decoder])
        with self._changed:
            self._busy.discard(decoder)
            self._changed.notify_all()

    def _offer(self, decoder: "_Decoder") -> None:
        """Hand the decoder to whoever waits longest; it is free when nobody does. The lock is held."""
        if self._waiting:
            self._busy.add(decoder)
            self._waiting.popleft().set_result(decoder)
        else:
            self._free.append(decoder)


@dataclass(frozen=True, slots=True)
class _Work:
    """What a child is asked."""

    body: bytes
    spec: ThumbnailSpec
    limits: DecodeLimits
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A typed error as it travels from the child: as data, since what the child raises is not to be trusted."""

    code: str
    detail: str


class _NeverBegun(Exception):
    """The child was gone before it took the work."""


class _Decoder:
    """One child process behind a pool of its own, and the work that it is at. Once unsound, it is stopped."""

    def __init__(self, memory_bytes: int) -> None:
        self.is_sound = True
        self._is_interrupted = False
        self._pool = ProcessPool(
            max_workers=1, initializer=_enter_sandbox, initargs=[memory_bytes], context=_DecoderContext()
        )
        self._ready: Future[int] | None = None
        self._answer: Future[Picture | _Refusal] | None = None
        with suppress(BrokenProcessPool, RuntimeError):  # No process to be had; render() finds the pool broken.
            self._ready = self._pool.schedule(os.getpid)

    def render(self, work: _Work) -> Picture:
        """Render in the child; raises typed errors, or _NeverBegun where the work is not to blame."""
        self.is_sound = False  # Until there is an answer.
        answer = self._ask(work)
        self.is_sound = True
        if isinstance(answer, Picture):
            return answer
        raise _build_error(answer)

    def interrupt(self) -> None:
        """Make render() end at once, from another thread, with DecodersBusy."""
        self._is_interrupted = True
        for future in (self._ready, self._answer):
            if future:
                future.cancel()

    def stop(self) -> None:
        """Tell the pool to end; does not wait."""
        self._pool.stop()  # type: ignore[no-untyped-call]

    def join(self) -> None:
        """Kill the child and wait for the pool's threads, about 0.2 s after stop()."""
        self._pool.join()

    def _ask(self, work: _Work) -> Picture | _Refusal:
        self._wait_until_ready()
        try:
            self._answer = self._pool.schedule(_render, args=[work])
        except RuntimeError as error:  # How pebble says that the pool is broken.
            raise _NeverBegun from error
        if self._is_interrupted:
            self.interrupt()
        return _wait_for_answer(self._answer, work.timeout_seconds)

    def _wait_until_ready(self) -> None:
        try:
            if self._ready is None:
                raise DecodersBusy("no process could be started")
            self._ready.result(timeout=START_SECONDS)
        except CancelledError as error:
            raise DecodersBusy(CLOSED) from error
        except TimeoutError as error:
            raise DecodersBusy(f"a decoder did not start in {START_SECONDS} s") from error
        except (ProcessExpired, BrokenProcessPool) as error:
            raise _NeverBegun from error


def _stop_all(decoders: list[_Decoder]) -> None:
    for decoder in decoders:
        decoder.stop()
    for decoder in decoders:
        decoder.join()


def _wait_for_answer(future: "Future[Picture | _Refusal]", timeout_seconds: float) -> Picture | _Refusal:
    """Wait for the child; our own clock is the authority (pebble's is time.time(), in steps of 0.1 s)."""
    try:
        return future.result(timeout=timeout_seconds)
    except CancelledError as error:
        raise DecodersBusy(CLOSED) from error
    except TimeoutError as error:
        raise DecoderTimeout(f"killed after {timeout_seconds} s") from error
    except ProcessExpired as error:
        raise _build_exit_error(error.exitcode) from error
    except BrokenProcessPool as error:
        raise _NeverBegun from error
    except Exception as error:  # A bug in the child's half, or an answer that cannot be read.
        raise DecoderCrashed(f"{type(error).__name__} in the child") from error


def _build_exit_error(exit_code: int) -> JobError:
    """Build the error for a child that died at work, by the signal that ended it."""
    if exit_code == -signal.SIGXCPU:
        return DecoderTimeout("out of CPU time")
    return DecoderCrashed(f"exit code {exit_code}")


def _build_error(refusal: _Refusal) -> JobError:
    """Build the error that the child names; a code that is none of ours is a crash."""
    for error in list_job_errors():
        if error.code == refusal.code:
            return error(refusal.detail)
    return DecoderCrashed("the child named no error of ours")


# ── how a child is started ──────────────────────────────────────────────────────────────────────────────

_MAIN_HIDING = threading.Lock()


class _DecoderProcess(SpawnProcess):
    """A spawned process that does not run the parent's main script again, and dies when told to.

    Spawn imports the parent's `__main__` in the child: for huey_consumer 0.2 s and 20 MB, for `thumbs` the whole
    application, for a script without a guard the script itself. The child needs none of it.
    """

    def start(self) -> None:
        """Start the process, without the main script."""
        with _hide_main():
            super().start()

    def terminate(self) -> None:
        """Kill: the child ignores SIGTERM, so that one to the whole group lets renders under way finish."""
        self.kill()


class _DecoderContext(SpawnContext):
    """What pebble takes its processes from."""

    Process = _DecoderProcess


@contextmanager
def _hide_main() -> Iterator[None]:
    """Let multiprocessing see an empty `__main__`, for the 5 ms that starting a process takes."""
    with _MAIN_HIDING:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


# ── the child's half ────────────────────────────────────────────────────────────────────────────────────

MIN_OPEN_FILES = 3
"""Lower than what is open already, so that nothing more can be opened, no file and no socket; poll() wants > 0."""


def _enter_sandbox(memory_bytes: int) -> None:
    """Give up what decoding does not need; runs once in the child, before the first image."""
    _die_with_parent()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.environ.clear()
    import thumbs.imaging  # noqa: F401, PLC0415  Child process only.

    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (MIN_OPEN_FILES, MIN_OPEN_FILES))
    logging.disable()


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


def _render(work: _Work) -> Picture | _Refusal:
    """Render one image in the child."""
    from thumbs.imaging import make_thumbnail  # noqa: PLC0415  Child process only.

    _limit_cpu(work.timeout_seconds)
    try:
        return make_thumbnail(work.body, work.spec, work.limits)
    except JobError as error:
        return _Refusal(error.code, error.detail)
    except MemoryError:
        return _Refusal(ImageTooLarge.code, "MemoryError")


def _limit_cpu(timeout_seconds: float) -> None:
    """Allow this image as much CPU time as wall time: a backstop, should the parent be too busy to kill."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    used_seconds = ceil(usage.ru_utime + usage.ru_stime)
    _, hard_limit = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (used_seconds + ceil(timeout_seconds) + 1, hard_limit))
