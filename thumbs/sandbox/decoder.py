"""One child process behind a pebble pool of its own, the work that it is at, and what its end means.

Each decoder has its own pool: children of one pool share a lock that a killed one leaves locked for ever. `pool` lends
decoders out, and stops those that ended in anything but an answer.
"""

import signal
import time
from collections.abc import Set
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress

from pebble import ProcessExpired, ProcessPool

from thumbs.domain import Rendering
from thumbs.errors import DecoderCrashed, DecodersBusy, DecoderTimeout, JobError
from thumbs.sandbox.answer import Answer, Refusal, build_error, check_rendering
from thumbs.sandbox.child import Work, enter_sandbox, render, report_ready
from thumbs.sandbox.pipe import ChildFailed
from thumbs.sandbox.spawn import DecoderContext

START_SECONDS = 30.0
"""How long a child may take to come up; 0.15 s measured, and a loaded machine takes its time."""

LOOK_SECONDS = 0.5
"""How often a wait looks whether the pool still runs: one that breaks while it is given work may forget it."""

CLOSED = "the sandbox is closed"


class NeverBegun(Exception):
    """The child was gone before it took the work."""


class Decoder:
    """One child process. Once it is not sound any more, it is to be stopped."""

    def __init__(self, memory_bytes: int, formats: Set[str]) -> None:
        """Start the child, for images of these formats; returns before it is up."""
        self.is_sound = True
        self._is_interrupted = False
        context = DecoderContext()
        self._dialogue = context.dialogue
        self._pool = ProcessPool(
            max_workers=1, initializer=enter_sandbox, initargs=[memory_bytes, formats], context=context
        )
        self._ready: Future[None] | None = None
        self._answer: Future[Answer] | None = None
        with suppress(BrokenProcessPool, RuntimeError):  # No process to be had; render() finds the pool broken.
            self._ready = self._pool.schedule(report_ready)

    def render(self, work: Work) -> Rendering:
        """Render in the child; raises typed errors, or NeverBegun where the work is not to blame."""
        self.is_sound = False  # Until there is an answer that can be believed.
        outcome = _judge(self._ask(work), work)
        self.is_sound = True
        if isinstance(outcome, JobError):
            raise outcome
        return outcome

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

    def _ask(self, work: Work) -> Answer:
        self._wait_until_ready()
        try:
            self._answer = self._pool.schedule(render, args=[work])
        except RuntimeError as error:  # How pebble says that the pool is broken.
            raise NeverBegun from error
        if self._is_interrupted:
            self.interrupt()
        return self._wait_for_answer(self._answer, work.timeout_seconds)

    def _wait_until_ready(self) -> None:
        try:
            if self._ready is None:
                raise DecodersBusy("no process could be started")
            self._ready.result(timeout=START_SECONDS)
        except CancelledError as error:
            raise DecodersBusy(CLOSED) from error
        except TimeoutError as error:
            raise DecodersBusy(f"a decoder did not start in {START_SECONDS} s") from error
        except (ProcessExpired, BrokenProcessPool, ChildFailed) as error:
            raise NeverBegun from error

    def _wait_for_answer(self, future: "Future[Answer]", timeout_seconds: float) -> Answer:
        try:
            return self._look_for_answer(future, timeout_seconds)
        except CancelledError as error:
            raise DecodersBusy(CLOSED) from error
        except ProcessExpired as error:
            raise _build_exit_error(error.exitcode) from error
        except ChildFailed as error:  # A bug in the child's half.
            raise DecoderCrashed(f"{error} in the child") from error
        except BrokenProcessPool as error:
            if self._dialogue.is_at_work:
                raise DecoderCrashed(f"no answer: {error}") from error
            raise NeverBegun from error

    def _look_for_answer(self, future: "Future[Answer]", timeout_seconds: float) -> Answer:
        """Wait for the child; our own clock is the authority (pebble's is time.time(), in steps of 0.1 s)."""
        deadline = time.monotonic() + timeout_seconds
        while True:
            left_seconds = max(0.0, deadline - time.monotonic())
            with suppress(TimeoutError):
                return future.result(timeout=min(left_seconds, LOOK_SECONDS))
            if not left_seconds:
                raise DecoderTimeout(f"killed after {timeout_seconds} s")
            if not self._pool.active:
                raise BrokenProcessPool("the pool ended")


def _judge(answer: Answer, work: Work) -> Rendering | JobError:
    """Tell what the answer comes to; raises DecoderCrashed for one that the child's half would not give."""
    try:
        if isinstance(answer, Refusal):
            return build_error(answer)
        if isinstance(answer, Rendering):
            check_rendering(answer, work.specs, work.limits)
            return answer
    except ValueError as error:
        raise DecoderCrashed(str(error)) from error
    raise DecoderCrashed("the child told no more than that it is up")


def _build_exit_error(exit_code: int) -> JobError:
    """Build the error for a child that died at work, by the signal that ended it."""
    if exit_code == -signal.SIGXCPU:
        return DecoderTimeout("out of CPU time")
    return DecoderCrashed(f"exit code {exit_code}")
