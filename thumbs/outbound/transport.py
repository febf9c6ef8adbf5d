"""Sends requests over the sockets that a call dials, and over no others.

requests and urllib3 do what they are good at, HTTP: building requests, reading heads, chunks and lengths. Names,
addresses, TLS, proxies, retries and pools of connections are not asked of them: each exchange has one connection of
its own. requests' adapter and urllib3's pool around it were half of what a webhook costs. `client` is the only caller.
"""

import http.client
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, ClassVar, cast

from requests import PreparedRequest, Response
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection

from thumbs.addresses import CheckedUrl
from thumbs.outbound.call import Call

INTERIM_STATUSES = range(102, 200)
"""Answers before the answer, such as 103 Early Hints; http.client itself passes over 100 Continue only."""


@contextmanager
def send(request: PreparedRequest, target: CheckedUrl, call: Call) -> Iterator[Response]:
    """Send a request to a target and yield the head of its answer, whose body is not read yet.

    The target decides over scheme, host, port and `Host`; the request's own URL only over path and query.
    """
    kind = _TlsConnection if target.scheme == "https" else _Connection
    connection = kind(target.host, target.port, timeout=call.get_left_seconds(), call=call)
    try:
        _write(connection, request)
        raw = connection.getresponse()
        try:
            yield _build_response(raw)
        finally:
            raw.close()
    finally:
        connection.close()


def _write(connection: "_Connection", request: PreparedRequest) -> None:
    """Dial and write the request; who stops reading it early may have answered, which is what counts."""
    connection.connect()
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.request(
            request.method or "",
            request.path_url,
            body=request.body,
            headers=request.headers,
            preload_content=False,
            decode_content=False,
        )


def _build_response(raw: Any) -> Response:
    response = Response()
    response.status_code = raw.status
    response.headers = CaseInsensitiveDict(raw.headers)
    response.raw = raw
    return response


class _HeadReader:
    """Reads the lines of a head and remembers the last one."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.last_line = b""

    def readline(self, limit: int = -1) -> bytes:
        self.last_line = self.file.readline(limit)
        return self.last_line

    def close(self) -> None:
        self.file.close()


class _WholeHeadResponse(http.client.HTTPResponse):
    """An answer whose head must be whole: http.client takes the end of the stream for the end of the head."""

    fp: Any

    def begin(self) -> None:
        reader = _HeadReader(self.fp)
        self.fp = reader
        try:
            super().begin()
            while self.status in INTERIM_STATUSES:
                self.headers = self.msg = cast(Any, None)  # begin() does nothing where headers have been read.
                super().begin()
        finally:
            self.fp = self.fp and reader.file  # None where a broken head has closed it.
        if reader.last_line not in (b"\r\n", b"\n"):
            raise http.client.RemoteDisconnected("the answer's head broke off")


class _Connection(HTTPConnection):
    """A connection whose socket the call dials."""

    response_class = _WholeHeadResponse
    is_tls = False

    def __init__(self, *args: Any, call: Call, **options: Any) -> None:
        super().__init__(*args, **options)
        self._call = call

    def _new_conn(self) -> socket.socket:
        return self._call.dial(self._dns_host, self.port, is_tls=self.is_tls)


class _TlsConnection(_Connection):
    """The same over TLS, which the call has already made: for urllib3 it is a plain connection to port 443."""

    default_port: ClassVar[int] = 443  # type: ignore[misc]
    is_tls = True
