"""Lets requests speak over the sockets that a call dials, and over no others.

requests and urllib3 keep what they are good at, HTTP: building requests, reading heads, chunks and lengths. Names,
addresses, TLS, proxies, retries and pools of connections are taken from them. `client` is the only caller.
"""

import http.client
import socket
from typing import Any, ClassVar, cast

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool
from urllib3.connection import HTTPConnection

from thumbs.addresses import CheckedUrl
from thumbs.outbound.call import Call

INTERIM_STATUSES = range(102, 200)
"""Answers before the answer, such as 103 Early Hints; http.client itself passes over 100 Continue only."""


def send(request: PreparedRequest, target: CheckedUrl, call: Call) -> Response:
    """Send a request to a target and read the head of its answer; the response is to be closed, its body not read yet.

    The target decides over scheme, host, port and `Host`; the request's own URL only over path and query.
    """
    return _Transport(target, call).send(request, stream=True, timeout=call.get_left_seconds())


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


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPConnectionPool):
    ConnectionCls = _TlsConnection


class _Transport(HTTPAdapter):
    """The transport of one request: a pool of one connection, which is never used again."""

    def __init__(self, target: CheckedUrl, call: Call) -> None:
        super().__init__(max_retries=0)
        self._target = target
        self._call = call

    def get_connection_with_tls_context(self, *_args: Any, **_options: Any) -> Any:
        """Give a pool that dials through the call; requests' own, with its proxies, is never made."""
        pool = _TlsPool if self._target.scheme == "https" else _Pool
        return pool(self._target.host, self._target.port, call=self._call)

    def cert_verify(self, *_args: Any, **_options: Any) -> None:
        """Do nothing: the call verifies, always, with the one context that all calls share."""
