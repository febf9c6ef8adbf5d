"""A small app for gunicorn with our worker, which gives each request half a second to arrive.

gunicorn --worker-class tests.support.impatient.ImpatientWorker tests.support.impatient:app
"""

from collections.abc import Iterable
from typing import Any

from thumbs.web.connections import Worker


class ImpatientWorker(Worker):
    """Our worker with little time."""

    read_seconds = 0.5
    total_seconds = 1.5


def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """Answer with the number of bytes of the body."""
    length = len(environ["wsgi.input"].read())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(str(length))))])
    return [str(length).encode("ascii")]
