"""A small app for gunicorn with our worker, which gives each request half a second to arrive, and one more to end.

gunicorn --worker-class tests.support.impatient.ImpatientWorker tests.support.impatient:app
"""

from collections.abc import Iterable
from itertools import repeat
from typing import Any, Final

from thumbs.web.connections import Worker

BLOCK: Final = bytes(65_536)
HUGE_BLOCKS: Final = 4_096
"""256 MiB: more than the buffers of a connection hold, so that a caller must read it."""


class ImpatientWorker(Worker):
    """Our worker with little time."""

    read_seconds = 0.5
    total_seconds = 1.5


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the number of bytes of the body, and with many bytes at /huge."""
    length = len(environ["wsgi.input"].read())
    if environ["PATH_INFO"] == "/huge":
        start_response("200 OK", [("Content-Length", str(HUGE_BLOCKS * len(BLOCK)))])
        return repeat(BLOCK, HUGE_BLOCKS)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(str(length))))])
    return [str(length).encode("ascii")]
