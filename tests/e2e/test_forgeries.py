"""Writing to the queue is not running code: messages are pickles, and what we have not signed is never opened.

The services are real, and so is what is put on their queues beside them, as somebody would who can write there.
"""

import os
import pickle
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from huey.serializer import SignedSerializer
from huey.storage import BaseStorage, PriorityRedisStorage, SqliteStorage

from tests.support.images import build_photo, encode
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Stack, wait_until

STRANGERS_KEY = "a key of somebody else, of at least 32 characters"
REPEATS = 10
"""More than the worker has threads."""
PNG = encode(build_photo(), "PNG")


class Payload:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self._path),)


def forge(path: Path) -> list[bytes]:
    """Forge messages that would make the folder: unsigned, signed by somebody else, or with a signature cut short."""
    bare, signed = pickle.dumps(Payload(path)), SignedSerializer(secret=STRANGERS_KEY).serialize(Payload(path))
    return [bare, signed, signed[:-1], bare + b":", b":" + bare, b"", b":", b"not a message at all"]


def open_storage(stack: Stack, name: str) -> BaseStorage:
    """Open a queue beside the service."""
    if "REDIS_URL" in stack.environ:
        return PriorityRedisStorage(f"thumbs-{name}", url=stack.environ["REDIS_URL"])
    return SqliteStorage(f"thumbs-{name}", filename=str(stack.data_dir / f"{name}.db"))


def test_payload_works(tmp_path: Path) -> None:
    """Else the test below would hold for any queue."""
    pickle.loads(forge(tmp_path / "made")[0])  # noqa: S301  Its own.
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize("name", ["images", "webhooks"])
def test_forged_message_is_neither_run_nor_in_the_way(
    stack: Stack, source: SourceServer, receiver: Receiver, tmp_path: Path, name: str
) -> None:
    """Jobs and webhooks behind it are done; it is taken off, and makes no noise to speak of."""
    storage, noise = open_storage(stack, name), "Error reading"
    before, past = stack.read_log().count(noise), datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
    for data in forge(tmp_path / "made") * REPEATS:
        storage.enqueue(data)
        storage.add_to_schedule(data, past)
    job = stack.submit(source_url=source.serve("/photo", PNG), callback_url=receiver.url())
    assert stack.wait_for_callback(job["id"], "delivered")["status"] == "succeeded"
    wait_until(lambda: storage.queue_size() + storage.schedule_size() == 0, 20)
    storage.close()
    assert not (tmp_path / "made").exists()
    assert 0 < stack.read_log().count(noise) - before < len(forge(tmp_path))
