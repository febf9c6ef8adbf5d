"""The events of an account as `thumbs listen` reads them: by long polls, across whatever happens to the server.

Its place is the last event that was handled: nothing is lost between two polls, however one ends. The ids of what came
are kept, because a server repeats a few seconds of events when it has forgotten the one that we ask to go on behind.
"""

import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from http.client import HTTPException
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import click
from ulid import ULID

from thumbs import __version__
from thumbs.cli.wire import connect, explain, show_text, split_target
from thumbs.errors import ThumbsError
from thumbs.retries import parse_retry_after

PAGE_EVENTS: Final = 100
WAIT_SECONDS: Final = 25
"""How long the server is asked to hold a poll: the longest that it does."""
POLL_TIMEOUT_SECONDS: Final = 35.0
MAX_PAGE_BYTES: Final = 8 * 1024 * 1024
"""Four times what 100 events can have."""
MIN_POLL_SECONDS: Final = 1.0
"""From one poll to the next, when the server has no thread to let us wait in and answers at once."""
FIRST_PAUSE_SECONDS: Final = 0.25
LONGEST_PAUSE_SECONDS: Final = 5.0
"""Between tries to reach a server that is lost; each pause is twice the one before."""
MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
SEEN_EVENTS: Final = 10_000
"""How many ids are kept: of 10 s, which is what a server repeats, at 1,000 events a second."""

PASSING_STATUSES: Final = frozenset({408, 425, 429})
"""The 4xx after which the same request may be answered otherwise."""
EVENT_ID: Final = re.compile(r"evt_[0-9A-HJKMNP-TV-Z]{26}")
EVENT_TYPE: Final = re.compile(r"[a-z][a-z0-9._]{0,63}")

Note = Callable[[str, str], None]
"""Prints a word and what there is to say."""


class ServerLost(ThumbsError):
    """The server does not answer as it should for now; `is_broken_off` when it closed a poll, as a restart does."""

    def __init__(self, reason: str, *, retry_after_seconds: float = 0.0, is_broken_off: bool = False) -> None:
        super().__init__(reason)
        self.retry_after_seconds = min(retry_after_seconds, MAX_RETRY_AFTER_SECONDS)
        self.is_broken_off = is_broken_off


class RouteMissing(ServerLost):
    """There is no /v1/events: an older server; or a router that has no server to ask, while one starts."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server, and the key that it wants."""

    base: str
    api_key: str | None = field(repr=False)
    tls: ssl.SSLContext = field(repr=False)


@dataclass(frozen=True, slots=True)
class Event:
    """An event, and the exact bytes that deliveries of it have."""

    id: str
    type: str
    happened_at: datetime
    document: dict[str, Any] = field(repr=False)

    @property
    def body(self) -> bytes:
        """Its compact ASCII JSON: the server keeps the order of the keys."""
        return json.dumps(self.document, separators=(",", ":")).encode("ascii")


@dataclass(frozen=True, slots=True)
class Page:
    """One answer: some events, oldest first, and the server's time."""

    events: list[Event]
    answered_at: datetime


class Stream:
    """An account's events, oldest first, each once; waits for more for ever. Blocking; used by one thread."""

    def __init__(self, server: Server, cursor: str | None, note: Note) -> None:
        """Take the place to begin behind; None is the start. Nothing is asked yet."""
        self.cursor = cursor
        self._server = server
        self._note = note
        self._seen: dict[str, None] = {}
        self._has_answered = False

    def open(self, *, is_from_now: bool) -> None:
        """Wait until the server answers, and skip what it has when only what comes from now on is wanted.

        Raises ClickException when it refuses.
        """
        page = self._ask(limit=1)
        if not is_from_now:
            return
        # By the server's clock: ours may be wrong. It answers from a little earlier on; that is skipped.
        self.cursor, is_more = f"evt_{ULID.from_datetime(page.answered_at)}", True
        while is_more:
            page = self._ask(limit=PAGE_EVENTS, after=self.cursor)
            for event in page.events:
                self._pass(event)
            is_more = len(page.events) == PAGE_EVENTS

    def __iter__(self) -> Iterator[Event]:
        """Go through the events; one is behind us when the next is asked for. Raises ClickException when refused."""
        while True:
            began, has_news = time.monotonic(), False
            for event in self._ask(limit=PAGE_EVENTS, after=self.cursor, wait_seconds=WAIT_SECONDS).events:
                if event.id not in self._seen:
                    has_news = True
                    yield event
                self._pass(event)
            if not has_news:
                time.sleep(max(0.0, began + MIN_POLL_SECONDS - time.monotonic()))

    def _pass(self, event: Event) -> None:
        self.cursor = event.id
        self._seen[event.id] = None
        if len(self._seen) > SEEN_EVENTS:
            del self._seen[next(iter(self._seen))]

    def _ask(self, **wishes: Any) -> Page:
        """Ask until there is an answer; tell when the server is lost, and when it is back, once each."""
        failure_count, is_told = 0, False
        while True:
            try:
                page = fetch(self._server, **wishes)
            except ServerLost as error:
                self._refuse_missing_route(error)
                if not is_told and (failure_count or not error.is_broken_off):
                    self._note("lost" if self._has_answered else "waiting", f"{self._server.base}: {error}")
                    is_told = True
                time.sleep(max(decide_pause(failure_count), error.retry_after_seconds))
                failure_count += 1
                continue
            if is_told and self._has_answered:
                self._note("back", self._server.base)
            self._has_answered = True
            return page

    def _refuse_missing_route(self, error: ServerLost) -> None:
        if isinstance(error, RouteMissing) and not self._has_answered:
            raise click.ClickException(
                f"{self._server.base} has no /v1/events (404): it is an older thumbs, or something else."
            ) from error


def decide_pause(failure_count: int) -> float:
    """Decide for how many seconds to leave a server alone after so many failures before this one."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failure_count, 16), LONGEST_PAUSE_SECONDS))


def fetch(server: Server, *, limit: int, after: str | None = None, wait_seconds: int = 0) -> Page:
    """Fetch one page. Raises ServerLost, and ClickException for what trying again does not help."""
    query = urlencode({"limit": limit} | ({"after": after} if after else {}))
    headers = {"Accept": "application/json", "User-Agent": f"thumbs-listen/{__version__}", "Connection": "close"}
    if wait_seconds:
        headers["Prefer"] = f"wait={wait_seconds}"
    if server.api_key:
        headers["Authorization"] = f"Bearer {server.api_key}"
    try:
        status, told, body = _get(server, f"{server.base}/v1/events?{query}", headers)
    except (OSError, HTTPException) as error:
        raise ServerLost(explain(error), is_broken_off=isinstance(error, ConnectionResetError)) from error
    if status != HTTPStatus.OK:
        _refuse(server, status, told, body)
    return Page(_parse_events(body), _find_date(told))


def _get(server: Server, url: str, headers: dict[str, str]) -> tuple[int, Message, bytes]:
    with closing(connect(url, POLL_TIMEOUT_SECONDS, server.tls)) as connection:
        connection.request("GET", split_target(url).target, headers=headers)
        with connection.getresponse() as response:
            return response.status, response.headers, response.read(MAX_PAGE_BYTES)


def _refuse(server: Server, status: int, told: Message, body: bytes) -> None:
    """Raise what an answer other than 200 means."""
    if status == HTTPStatus.NOT_FOUND:
        raise RouteMissing("it answers 404")
    if status in PASSING_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        seconds = parse_retry_after(told.get("Retry-After"), datetime.now(UTC))
        wish = f", and asks to wait {seconds:.0f} s" if seconds else ""
        raise ServerLost(f"it answers {status}{wish}", retry_after_seconds=seconds or 0.0)
    if status == HTTPStatus.UNAUTHORIZED:
        fault = "does not know this API key" if server.api_key else "wants an API key"
        remedy = "`thumbs keys create NAME` on the server makes one, for --api-key or $THUMBS_API_KEY"
        raise click.ClickException(f"{server.base} {fault} (401): {remedy}.")
    raise click.ClickException(f"{server.base} refuses, with {status}: {_find_reason(status, told, body)}")


def _find_reason(status: int, told: Message, body: bytes) -> str:
    if 300 <= status < 400:
        parts = urlsplit(told.get("Location", ""))
        return f"it leads to {show_text(f'{parts.scheme}://{parts.netloc}')}; is that the --server to name?"
    try:
        return show_text(str(json.loads(body)["detail"]))
    except (ValueError, KeyError, TypeError):
        return "it does not say why."


def _parse_events(body: bytes) -> list[Event]:
    try:
        return [_parse_event(document) for document in json.loads(body)["items"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ServerLost("what it answers is not a page of events") from error


def _parse_event(document: dict[str, Any]) -> Event:
    """Parse an event; ValueError, KeyError and TypeError for what is none."""
    event_id, kind = document["id"], document["type"]
    if not EVENT_ID.fullmatch(event_id) or not EVENT_TYPE.fullmatch(kind):
        raise ValueError("an event's id or type has another form")
    return Event(event_id, kind, datetime.fromisoformat(document["timestamp"]), document)


def _find_date(told: Message) -> datetime:
    """Find the server's time, to the second; ours when it does not tell."""
    try:
        moment = parsedate_to_datetime(told.get("Date", ""))
    except (ValueError, OverflowError):
        return datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
