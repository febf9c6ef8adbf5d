"""The pipes between a child and its parent. What comes back is data only: pebble would unpickle what a child wrote.

An answer is the lengths of its two parts, a JSON object, and the thumbnails' bytes. It names neither task nor process:
a decoder has one child, which begins and answers the tasks in the order in which they were given, so all three are
counted here, and there is nothing to forge. What goes to the child is pickled; a child trusts its parent.

`spawn` hands these ends to pebble, which wants recv(), send(), fileno() and close() of them.
"""

import json
import os
import pickle
import struct
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from threading import Lock
from typing import Any

from pebble.common.types import RemoteException, Result, ResultStatus
from pebble.pool.process import Acknowledgement, TaskProblem, TaskResult, WorkerTask

from thumbs.sandbox.answer import Json, clean_text, pack_answer, parse_answer

LENGTHS = struct.Struct(">II")
"""Of the JSON and of the bytes behind it."""

MAX_JSON_BYTES = 32 * 1024
"""Nine refusals, whose 200 characters take 2,400 each when they have to be escaped; pictures and steps take less."""

MAX_BODY_BYTES = 48 * 1024 * 1024
"""More than nine of the largest thumbnails: 1,024 x 1,024 px of noise with alpha are 4.2 MB of PNG."""

READ_BYTES = 64 * 1024
"""What a pipe holds."""

Message = Acknowledgement | TaskResult | TaskProblem


class BrokenAnswer(BrokenProcessPool):
    """The child wrote something that is no answer. Being of this class, it makes pebble give up the whole pool."""


class ChildFailed(Exception):
    """The child's half raised something of its own, whose name this is."""


@dataclass(slots=True)
class Dialogue:
    """How far parent and child are: tasks given, begun and answered; pebble numbers them from 0."""

    process: BaseProcess | None = None
    given_count: int = 0
    begun_count: int = 0
    answered_count: int = 0

    @property
    def is_at_work(self) -> bool:
        """Whether the child has begun something that it has not answered."""
        return self.begun_count > self.answered_count


def open_answer_pipe(dialogue: Dialogue) -> "tuple[AnswerReader, AnswerWriter]":
    """Open the pipe back: the parent's end, and the one to be handed to the child."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    return AnswerReader(reader, dialogue), AnswerWriter(writer)


class _End:
    """A file descriptor that one thread may close while another one uses it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor
        self._lock = Lock()

    def fileno(self) -> int:
        """Tell the descriptor; raises OSError once it is closed."""
        if self._descriptor is None:
            raise OSError("this end of the pipe is closed")
        return self._descriptor

    def close(self) -> None:
        """Close it. Idempotent; waits for a read, which does not wait."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
            self._descriptor = None

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Travel to the child as an end to write on, or to close: that is all a child does with them."""
        return _rebuild_writer, (DupFd(self.fileno()),)


class AnswerReader(_End):
    """The parent's end: never waits for the rest of a message, and never holds more than one."""

    def __init__(self, descriptor: int, dialogue: Dialogue) -> None:
        super().__init__(descriptor)
        self._dialogue = dialogue
        self._start_message()

    def recv(self) -> Message | None:
        """Read on; returns None, which pebble ignores, until a message is complete.

        Raises BrokenAnswer for what is no message, and OSError when the pipe is closed at either end.
        """
        self._buffer += self._read()
        if len(self._buffer) < self._wanted_bytes:
            return None
        if self._wanted_bytes == LENGTHS.size:
            self._wanted_bytes += self._read_lengths()
            return None
        message, json_bytes = bytes(self._buffer), self._json_bytes
        self._start_message()
        return self._build_message(message[LENGTHS.size :][:json_bytes], message[LENGTHS.size + json_bytes :])

    def _start_message(self) -> None:
        self._buffer = bytearray()
        self._wanted_bytes = LENGTHS.size
        self._json_bytes = 0

    def _read(self) -> bytes:
        """Read no more than belongs to this message: pebble looks at the pipe to see whether there is another one."""
        missing_bytes = self._wanted_bytes - len(self._buffer)
        with self._lock:
            try:
                found = os.read(self.fileno(), min(missing_bytes, READ_BYTES))
            except BlockingIOError:
                return b""
        if not found:
            raise OSError("the other end of the pipe is closed")
        return found

    def _read_lengths(self) -> int:
        """Read what is to come; the parent takes memory for it only as it comes."""
        body_bytes: int
        self._json_bytes, body_bytes = LENGTHS.unpack(self._buffer)
        if not 0 < self._json_bytes <= MAX_JSON_BYTES or body_bytes > MAX_BODY_BYTES:
            raise BrokenAnswer(f"an answer of {self._json_bytes} and {body_bytes} bytes")
        return self._json_bytes + body_bytes

    def _build_message(self, text: bytes, body: bytes) -> Message:
        """Build the message that pebble waits for; its numbers are ours."""
        try:
            kind, members = _parse_json(text)
            if kind == "begun" and not members and not body:
                return self._begin()
            return self._answer(_build_result(kind, members, body))
        except (ValueError, RecursionError) as error:
            raise BrokenAnswer(f"{type(error).__name__} in an answer: {error}") from error

    def _begin(self) -> Message:
        dialogue = self._dialogue
        if dialogue.is_at_work or dialogue.begun_count == dialogue.given_count or dialogue.process is None:
            raise ValueError("nothing was given to begin")
        dialogue.begun_count += 1
        return Acknowledgement(dialogue.process.pid or 0, dialogue.begun_count - 1)

    def _answer(self, result: "Result[Any]") -> Message:
        dialogue = self._dialogue
        if not dialogue.is_at_work:
            raise ValueError("nothing was begun")
        dialogue.answered_count += 1
        return TaskResult(dialogue.answered_count - 1, result)


class TaskWriter:
    """The parent's end of the pipe to the child, which counts what goes through."""

    def __init__(self, connection: "Connection[WorkerTask, Any]", dialogue: Dialogue) -> None:
        self._connection = connection
        self._dialogue = dialogue

    def send(self, task: WorkerTask) -> None:
        """Write a task; blocking. Pickled to bytes: a Connection's own buffer complains, where the child is gone."""
        self._dialogue.given_count += 1
        self._connection.send_bytes(pickle.dumps(task))

    def close(self) -> None:
        """Close it. Idempotent."""
        self._connection.close()

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Travel to the child, which closes it."""
        return _rebuild_writer, (DupFd(self._connection.fileno()),)


class AnswerWriter(_End):
    """The child's end: writes down pebble's messages, as far as there are any."""

    def send(self, message: Message) -> None:
        """Write the message; blocking."""
        members, body = _pack_message(message)
        text = json.dumps(members).encode()
        rest = memoryview(LENGTHS.pack(len(text), len(body)) + text + body)
        while rest:
            rest = rest[os.write(self.fileno(), rest) :]


def _rebuild_writer(descriptor: Any) -> AnswerWriter:
    return AnswerWriter(descriptor.detach())


def _pack_message(message: Message) -> tuple[Json, bytes]:
    if isinstance(message, Acknowledgement):
        return {"kind": "begun"}, b""
    result = message.result if isinstance(message, TaskResult) else None
    if isinstance(result, Result) and result.status == ResultStatus.SUCCESS:
        return pack_answer(result.value)
    raised = result.value.exception if result and isinstance(result.value, RemoteException) else None
    return {"kind": "failure", "name": type(raised).__name__}, b""


def _parse_json(text: bytes) -> tuple[str, Json]:
    """Split a message into its kind and its other members; raises ValueError, and RecursionError for a deep one."""
    members = json.loads(text)
    kind = members.pop("kind", None) if isinstance(members, dict) else None
    if not isinstance(kind, str):
        raise ValueError("a message without a kind")
    return kind, members


def _build_result(kind: str, members: Json, body: bytes) -> "Result[Any]":
    if kind == "failure":
        return Result(ResultStatus.FAILURE, ChildFailed(clean_text(str(members.get("name")))))
    return Result(ResultStatus.SUCCESS, parse_answer(kind, members, body))
