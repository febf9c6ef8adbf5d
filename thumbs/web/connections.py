"""gunicorn's worker, where it would not do as we promise: bad requests are problem documents, slow ones end.

`server` names it in gunicorn's configuration.
"""

import json
import logging
import socket
import time
import uuid
from contextlib import suppress
from http import HTTPStatus
from typing import Any, Final

from gunicorn.http.errors import LimitRequestHeaders, LimitRequestLine, ParseException
from gunicorn.workers.gthread import ThreadWorker

from thumbs.web.problems import CODES, PROBLEM_TYPE

STATUSES: Final = {LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG, LimitRequestHeaders: 431}
"""Everything else is a 400."""

logger = logging.getLogger(__name__)


class Worker(ThreadWorker):
    """gunicorn's worker with threads.

    A thread that reads a request waits for its caller for as long as that is silent: a few half requests would take
    every thread for ever.
    """

    read_seconds: float = 30.0
    """How long a request may take to arrive, with its body. Longer than a caller may wait for an answer."""
    total_seconds: float = 60.0
    """How long it may take with its answer, which a caller may not read at all."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun_at: dict[Any, float] = {}

    def handle(self, conn: Any) -> Any:
        """Handle a request, in a thread."""
        self._begun_at[conn] = time.monotonic()
        try:
            return super().handle(conn)
        finally:
            self._begun_at.pop(conn, None)

    def notify(self) -> None:
        """Cut those who had their time, first what they send, then all. gunicorn's main thread calls this."""
        super().notify()
        now = time.monotonic()
        for conn, begun_at in list(self._begun_at.items()):
            if now - begun_at > self.read_seconds:
                how = socket.SHUT_RDWR if now - begun_at > self.total_seconds else socket.SHUT_RD
                with suppress(OSError):  # It has just been closed.
                    conn.sock.shutdown(how)

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: Exception) -> None:
        """Answer for a request that could not be parsed; the caller closes the connection."""
        if not isinstance(exc, ParseException):
            super().handle_error(req, client, addr, exc)
            return
        request_id = uuid.uuid4().hex
        reason = type(exc).__name__  # Its text quotes what was sent: a key may be in it, or a URL's query.
        logger.info("a request could not be parsed", extra={"request_id": request_id, "reason": reason})
        with suppress(OSError):
            client.sendall(_build_answer(HTTPStatus(STATUSES.get(type(exc), 400)), request_id))


def _build_answer(status: HTTPStatus, request_id: str) -> bytes:
    """Build an answer as the app's are, as far as that can be without a request."""
    problem = {
        "type": f"/problems/{CODES[status]}",
        "title": f"{status.phrase}.",
        "status": status,
        "code": CODES[status],
        "detail": "This is not an HTTP request, or its first line or its headers are too long.",
        "request_id": request_id,
    }
    body = json.dumps(problem)
    head = (
        f"HTTP/1.1 {status} {status.phrase}",
        f"Content-Type: {PROBLEM_TYPE}",
        f"Content-Length: {len(body)}",
        f"X-Request-ID: {request_id}",
        "X-Content-Type-Options: nosniff",
        "Cache-Control: no-store",
        "Connection: close",
    )
    return "\r\n".join((*head, "", body)).encode("ascii")
