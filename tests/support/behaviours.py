"""How a source answers by its path: well, slowly, hugely, brokenly. Waiting ones end when their server stops."""

from collections.abc import Mapping
from typing import Final

from tests.support.exchanges import DRIP_SECONDS, Behaviour, Exchange, Reply

HUGE_BYTES: Final = 500 * 1024 * 1024


def answer_not_found(exchange: Exchange) -> None:
    """Answer 404."""
    exchange.reply(Reply(404, b"nothing here"))


def _answer_status(exchange: Exchange) -> None:
    """`/status/503?retry_after=2` answers 503 with `Retry-After: 2`."""
    wish = exchange.request.query("retry_after")
    status = int(exchange.request.path.rpartition("/")[2])
    exchange.reply(Reply(status, b"" if status == 204 else b"as told", {"Retry-After": wish} if wish else {}))


def _redirect(exchange: Exchange) -> None:
    """`/redirect?to=URL&status=307` redirects there."""
    request = exchange.request
    exchange.reply(Reply(int(request.query("status", "302")), b"moved", {"Location": request.query("to")}))


def _redirect_loop(exchange: Exchange) -> None:
    exchange.reply(Reply(302, b"moved", {"Location": exchange.request.path}))


def _redirect_with_huge_body(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 302 Found\r\nLocation: /status/410\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode())
    exchange.repeat(bytes(65536))


def _answer_slowly(exchange: Exchange) -> None:
    """`/slow?seconds=2` answers after that time."""
    exchange.wait(float(exchange.request.query("seconds", "1")))
    exchange.reply(Reply(200, b"late"))


def _drip_status(exchange: Exchange) -> None:
    exchange.drip(b"HTTP/1.1 200 " + b"O" * 10_000)


def drip_head(exchange: Exchange) -> None:
    """Send a head, byte by byte, for ever."""
    exchange.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        exchange.drip(b"X-Filler: 1\r\n")


def _drip_body(exchange: Exchange) -> None:
    """No length is told, so that a cut looks like the end."""
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
    while True:
        exchange.drip(b"0123456789")


def _hang_in_body(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
    exchange.wait()


def _continue_for_ever(exchange: Exchange) -> None:
    exchange.repeat(b"HTTP/1.1 100 Continue\r\n\r\n", DRIP_SECONDS)


def _hint_for_ever(exchange: Exchange) -> None:
    exchange.repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", DRIP_SECONDS)


def _hint_once(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n")
    exchange.reply(Reply(200, b"after the hint"))


def _send_huge(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nConnection: close\r\n\r\n")
    exchange.repeat(bytes(65536))


def _announce_huge(exchange: Exchange) -> None:
    exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {HUGE_BYTES}\r\n\r\n".encode())
    exchange.repeat(bytes(65536))


def _send_huge_chunks(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    exchange.repeat(b"10000\r\n" + bytes(65536) + b"\r\n")


def _extend_chunk_for_ever(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;")
    exchange.repeat(b"x", DRIP_SECONDS)


def _send_trailers_for_ever(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
    exchange.repeat(b"X-Trailer: 1\r\n", DRIP_SECONDS)


def _send_chunks(exchange: Exchange) -> None:
    body = b"".join(b"%x;name=value\r\n%b\r\n" % (len(part), part) for part in (b"one ", b"two ", b"three"))
    exchange.reply(Reply(200, body + b"0\r\nX-Trailer: 1\r\n\r\n", {"Transfer-Encoding": "chunked"}))


def _cut_chunks(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"5\r\nhello\r\n5\r\nhe", {"Transfer-Encoding": "chunked"}))


def _cut_head(exchange: Exchange) -> None:
    exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: image/jp")


def _cut_body(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"short", {"Content-Length": "1000"}))


def _reset_in_body(exchange: Exchange) -> None:
    exchange.reply(Reply(200, b"short", {"Content-Length": "1000"}))
    exchange.reset()


def _send_nonsense(exchange: Exchange) -> None:
    exchange.send(b"\x00\xffSSH-2.0-not-http\r\n\r\n")


BEHAVIOURS: Final[Mapping[str, Behaviour]] = {
    "/status": _answer_status,
    "/redirect": _redirect,
    "/redirect-loop": _redirect_loop,
    "/redirect-huge": _redirect_with_huge_body,
    "/slow": _answer_slowly,
    "/drip/status": _drip_status,
    "/drip/head": drip_head,
    "/drip/body": _drip_body,
    "/hang": Exchange.wait,
    "/hang/body": _hang_in_body,
    "/continue": _continue_for_ever,
    "/hints": _hint_for_ever,
    "/hint": _hint_once,
    "/huge": _send_huge,
    "/huge/announced": _announce_huge,
    "/huge/chunks": _send_huge_chunks,
    "/chunks": _send_chunks,
    "/chunks/extension": _extend_chunk_for_ever,
    "/chunks/trailers": _send_trailers_for_ever,
    "/chunks/cut": _cut_chunks,
    "/short": _cut_body,
    "/short/head": _cut_head,
    "/short/reset": _reset_in_body,
    "/reset": Exchange.reset,
    "/nonsense": _send_nonsense,
}
"""What a SourceServer does on these paths; the first part of a path is enough where nothing longer fits."""
