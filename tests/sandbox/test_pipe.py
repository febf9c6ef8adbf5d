"""The pipe back carries data only, in bounds and in order; whatever else is on it is no answer.

Here both ends are in one process, and the test writes what a child would; tests/sandbox/test_takeover.py has real ones.
"""

import os
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import current_process
from typing import Any

import pytest
from pebble.common.types import RemoteException, Result, ResultStatus
from pebble.pool.process import Acknowledgement, TaskProblem, TaskResult

from tests.support.images import build_photo, encode, render_whole
from tests.support.takeover import build_message
from thumbs.sandbox.answer import MAX_DETAIL_CHARS, Refusal, pack_answer
from thumbs.sandbox.pipe import (
    LENGTHS,
    MAX_BODY_BYTES,
    MAX_JSON_BYTES,
    AnswerReader,
    AnswerWriter,
    BrokenAnswer,
    ChildFailed,
    Dialogue,
    open_answer_pipe,
)

Ends = tuple[AnswerReader, AnswerWriter]
RENDERING = render_whole(encode(build_photo(), "PNG"))
SECRET = KeyError("secret")
BEGUN = build_message({"kind": "begun"})
READY = build_message({"kind": "ready"})


@pytest.fixture
def dialogue() -> Dialogue:
    """A dialogue in which two tasks were given."""
    return Dialogue(process=current_process(), given_count=2)


@pytest.fixture
def ends(dialogue: Dialogue) -> Iterator[Ends]:
    """The parent's end and the child's."""
    reader, writer = open_answer_pipe(dialogue)
    with closing(reader), closing(writer):
        yield reader, writer


def read_message(reader: AnswerReader) -> Any:
    """Read on until there is a message, as pebble does."""
    return next(message for message in iter(reader.recv, object()) if message is not None)


def write(ends: Ends, *messages: bytes) -> AnswerReader:
    """Write what stands for itself, and give the end to read it from."""
    for message in messages:
        os.write(ends[1].fileno(), message)
    return ends[0]


@pytest.mark.parametrize(
    "answer", [RENDERING, Refusal("image_corrupt", "cut short"), None], ids=["rendering", "no", "up"]
)
def test_answer_comes_back_as_it_was_sent(ends: Ends, answer: Any) -> None:
    reader, writer = ends
    for number in range(2):
        writer.send(Acknowledgement(os.getpid(), number))
        writer.send(TaskResult(number, Result(ResultStatus.SUCCESS, answer)))

        assert read_message(reader) == Acknowledgement(os.getpid(), number)
        assert read_message(reader) == TaskResult(number, Result(ResultStatus.SUCCESS, answer))


@pytest.mark.parametrize(
    "message",
    [
        TaskResult(0, Result(ResultStatus.FAILURE, RemoteException(SECRET, "Traceback with a secret"))),  # type: ignore[no-untyped-call]
        TaskProblem(0, SECRET),
    ],
    ids=["raised", "could not be sent"],
)
def test_failure_of_the_childs_half_is_told_by_name_only(ends: Ends, message: Any) -> None:
    reader = write(ends, BEGUN)
    read_message(reader)
    ends[1].send(message)

    found = read_message(reader)

    assert found.result.status == ResultStatus.FAILURE
    assert type(found.result.value) is ChildFailed
    assert "secret" not in str(found.result.value)


def test_text_of_a_child_is_made_fit_for_a_log_line(ends: Ends) -> None:
    """No control characters, no halves of characters, not more than a line of it."""
    text = "\0\x1b[31m\n\ud800" + "é" * 300
    reader = write(ends, BEGUN, build_message({"kind": "refusal", "code": "image_corrupt", "detail": text}))

    read_message(reader)

    assert read_message(reader).result.value.detail == ("??[31m??" + "é" * 300)[:MAX_DETAIL_CHARS]


FACTS, BODY = pack_answer(RENDERING)
PICTURE, STEP = FACTS["pictures"][0], FACTS["steps"][0]

BAD_MESSAGES = {
    "no JSON": b"{",
    "no object": [],
    "no kind": {},
    "a kind that is no text": {"kind": ["rendering"]},
    "an unknown kind": {"kind": "pickle"},
    "no UTF-8": b'{"kind": "\xff"}',
    "deep JSON": b"[" * MAX_JSON_BYTES,
    "an endless number": b'{"kind": "ready", "x": ' + b"9" * 4000 + b"}",
    "a beginning of a task of its own": {"kind": "begun", "task": 7},
    "more members": FACTS | {"sha256": "00"},
    "a member missing": {name: value for name, value in FACTS.items() if name != "source_width"},
    "a width of text": FACTS | {"source_width": "100"},
    "pictures in an object": FACTS | {"pictures": {"0": PICTURE}},
    "a picture that is a text": FACTS | {"pictures": ["code"]},
    "more members of a picture": FACTS | {"pictures": [PICTURE | {"sha256": "00"}]},
    "a picture's width of truth": FACTS | {"pictures": [PICTURE | {"width": True}]},
    "a picture's width of 100.0": FACTS | {"pictures": [PICTURE | {"width": 100.0}]},
    "no width of a picture": FACTS | {"pictures": [PICTURE | {"width": None}]},
    "a step that is a text": FACTS | {"steps": ["decode"]},
    "a step without a name": FACTS | {"steps": [STEP | {"name": None}]},
    "a step of no time": FACTS | {"steps": [STEP | {"ms": None}]},
    "a code that is no text": {"kind": "refusal", "code": 1, "detail": ""},
}


@pytest.mark.parametrize("message", BAD_MESSAGES.values(), ids=BAD_MESSAGES.keys())
def test_what_is_no_message_is_refused(ends: Ends, message: Any) -> None:
    reader = write(
        ends, BEGUN, build_message(message, BODY if isinstance(message, dict) and message.get("pictures") else b"")
    )
    read_message(reader)

    with pytest.raises(BrokenAnswer):
        read_message(reader)


def test_bytes_belong_to_a_picture_only(ends: Ends) -> None:
    for message in ({"kind": "begun"}, {"kind": "ready"}, {"kind": "refusal", "code": "image_corrupt", "detail": ""}):
        reader = write(ends, build_message(message, b"more"))
        with pytest.raises(BrokenAnswer):
            read_message(reader)


@pytest.mark.parametrize(
    "lengths", [(0, 0), (0, 1), (MAX_JSON_BYTES + 1, 0), (1, MAX_BODY_BYTES + 1), (2**32 - 1, 2**32 - 1)]
)
def test_lengths_out_of_bounds_are_refused_before_anything_is_read(ends: Ends, lengths: tuple[int, int]) -> None:
    reader = write(ends, LENGTHS.pack(*lengths))

    with pytest.raises(BrokenAnswer):
        read_message(reader)


@pytest.mark.parametrize(
    ("given_count", "messages"),
    [
        (0, [BEGUN]),
        (1, [READY]),
        (1, [BEGUN, BEGUN]),
        (1, [BEGUN, READY, READY]),
        (1, [BEGUN, READY, BEGUN]),
    ],
    ids=["begun unasked", "answered unbegun", "begun twice", "answered twice", "begun ahead"],
)
def test_messages_out_of_turn_are_refused(
    ends: Ends, dialogue: Dialogue, given_count: int, messages: list[bytes]
) -> None:
    dialogue.given_count = given_count
    reader = write(ends, *messages)
    for _ in messages[1:]:
        read_message(reader)

    with pytest.raises(BrokenAnswer):
        read_message(reader)


def test_dialogue_tells_whether_the_child_is_at_work(ends: Ends, dialogue: Dialogue) -> None:
    reader = write(ends, BEGUN, READY)
    found = [dialogue.is_at_work]
    for _ in range(2):
        read_message(reader)
        found.append(dialogue.is_at_work)

    assert found == [False, True, False]


def test_reading_does_not_wait_for_the_rest_of_a_message(ends: Ends) -> None:
    """Else half a message would hold the thread that reads, and with it stop() and join()."""
    reader = ends[0]
    found = [reader.recv()]
    for place in range(len(BEGUN)):
        write(ends, BEGUN[place : place + 1])
        found += [reader.recv(), reader.recv()]

    assert [message for message in found if message is not None] == [Acknowledgement(os.getpid(), 0)]


def test_next_message_stays_in_the_pipe(ends: Ends) -> None:
    """pebble looks at the pipe to see whether there is more to read, and not at what was read already."""
    reader = write(ends, BEGUN, READY)

    read_message(reader)

    assert os.read(reader.fileno(), 100) == READY


def test_closed_end_is_not_read_even_when_its_number_is_in_use_again(ends: Ends) -> None:
    """pebble closes this end while another thread reads from it; another file may get its number at once."""
    reader, _ = ends
    number = reader.fileno()
    reader.close()
    reader.close()
    other, its_writer = os.pipe()
    os.write(its_writer, b"another decoder's")

    with pytest.raises(OSError, match="closed"):
        reader.recv()

    assert other == number
    assert os.read(other, 100) == b"another decoder's"
    os.close(other)
    os.close(its_writer)


def test_end_of_the_pipe_is_no_message(ends: Ends) -> None:
    """Nothing can come any more; to look again and again would take a whole core."""
    ends[1].close()

    with pytest.raises(OSError, match="closed"):
        ends[0].recv()
