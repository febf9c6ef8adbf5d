"""The rules of HTTP for what goes out: redirects, sizes, encodings, and which answer is which error.

Foreign errors of requests, urllib3 and sockets are translated here, and only here, into those of `thumbs.errors`.
"""

import functools
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException
from urllib.parse import urljoin

import requests
from requests.structures import CaseInsensitiveDict
from requests.utils import DEFAULT_CA_BUNDLE_PATH, requote_uri
from urllib3.exceptions import HTTPError, SSLError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError

from thumbs.addresses import AddressPolicy, CheckedUrl, check_url
from thumbs.domain import Answer, Caching, FetchedSource, Result
from thumbs.errors import (
    AttemptTimeout,
    ConnectionFailed,
    InvalidDestination,
    SettingsError,
    SourceEmpty,
    SourceForbidden,
    SourceHttpError,
    SourceTimeout,
    SourceTlsError,
    SourceTooLarge,
    SourceTooManyRedirects,
    SourceUnreachable,
    ThumbsError,
    TlsFailed,
    UrlNotAllowed,
)
from thumbs.outbound.call import Call, Faults, Rules
from thumbs.outbound.hosts import HostSlots
from thumbs.outbound.lookup import Lookup, Resolver, resolve_by_system
from thumbs.outbound.proxy import EgressProxy
from thumbs.outbound.transport import send
from thumbs.outbound.watchdog import Watchdog
from thumbs.retries import parse_retry_after
from thumbs.reuse import pass_on, read_caching

MAX_REDIRECTS = 3
REDIRECT_STATUSES = frozenset({301, 302, 303, 307, 308})
FETCH_LOOKUP_SECONDS = 5.0
WEBHOOK_LOOKUP_SECONDS = 3.0
MAX_ANSWER_BYTES = 4096
"""Of a receiver's body; its headers have as much again, the rest is dropped."""

BLOCK_BYTES = 64 * 1024
"""A read of a source: 20 MiB over loopback took 24 ms so, 52 ms in blocks of 16 KiB, no less in larger ones."""

ACCEPT_IMAGES = "image/avif,image/webp,image/png,image/jpeg,image/gif,image/bmp,image/*;q=0.8,*/*;q=0.5"

IsEnough = Callable[[bytearray], bool]


def _needs_all(_body: bytearray) -> bool:
    return False


FETCH_FAULTS = Faults(SourceForbidden, SourceUnreachable, SourceTimeout, SourceTlsError)
POST_FAULTS = Faults(InvalidDestination, ConnectionFailed, AttemptTimeout, TlsFailed)


class Outbound:
    """Fetches sources and posts webhooks. Thread-safe, blocking; to be closed at the end."""

    def __init__(
        self,
        policy: AddressPolicy,
        *,
        user_agent: str,
        fetch_timeout_seconds: float,
        max_source_bytes: int,
        webhook_timeout_seconds: float,
        max_per_host: int,
        is_shared_cache: bool = False,
        ca_bundle: str | None = None,
        proxy_url: str | None = None,
        resolver: Resolver | None = None,
    ) -> None:
        """Take the rules; nothing is connected or started yet.

        `max_per_host` is how many fetches at once may go to one host. `is_shared_cache`: what is fetched for one
        account may be used for another, where its server does not say otherwise. `ca_bundle` is the path of a PEM file
        instead of certifi's; SettingsError when it cannot be read. `proxy_url` is that of an egress proxy. `resolver`
        stands in for the operating system's, but for the proxy's own name.
        """
        self._user_agent = user_agent
        self._fetch_timeout_seconds = fetch_timeout_seconds
        self._max_source_bytes = max_source_bytes
        self._is_shared_cache = is_shared_cache
        self._webhook_timeout_seconds = webhook_timeout_seconds
        self._watchdog = Watchdog()
        get_tls = functools.cache(lambda: _build_tls(ca_bundle))
        if ca_bundle is not None:
            get_tls()  # A file of the operator's is checked at the start; certifi's waits until it is needed.
        self._slots = HostSlots(max_per_host)
        self._rules = Rules(
            policy=policy,
            lookup=Lookup(resolver or resolve_by_system),
            watchdog=self._watchdog,
            get_tls_context=get_tls,
            proxy=EgressProxy.of_url(proxy_url) if proxy_url else None,
        )

    def fetch(self, url: str, seen: Result | None = None, is_enough: IsEnough = _needs_all) -> FetchedSource:
        """Fetch a source, or find that it is as it was `seen`.

        `is_enough` is told of all bytes so far after each block, and may end the fetch of a source whose length is
        known and of which more than a block is missing: a smaller rest is read, so that it is looked at, too.
        Raises FetchError, and SourceBusy where its host is fetched from enough already.
        """
        caching = None
        with closing(self._start_fetch()) as call:
            for _ in range(1 + MAX_REDIRECTS):
                with _exchange("GET", url, self._build_headers(url, seen), call) as response:
                    own = read_caching(url, response.headers, datetime.now(UTC), is_shared=self._is_shared_cache)
                    caching = pass_on(caching, own) if caching else own
                    location = _find_location(response)
                    if location is None:
                        return self._read(response, call, caching, seen, is_enough)
                url = _join(url, location)
        raise SourceTooManyRedirects(f"more than {MAX_REDIRECTS}")

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post a webhook; whatever status comes in time is an Answer, however its body ends. Raises AttemptError.

        `headers` may replace `User-Agent`. The names of the answer's headers are lower-case.
        """
        headers = CaseInsensitiveDict({"User-Agent": self._user_agent, "Accept": "*/*"} | dict(headers))
        with (
            closing(self._start_post()) as call,
            _exchange("POST", url, headers, call, body) as response,
        ):
            answer_body, is_truncated = _read_answer(response, call)
            return Answer(response.status_code, _list_headers(response), answer_body, is_truncated)

    def close(self) -> None:
        """Cut what is still under way, and end the watchdog; harmless when repeated."""
        self._watchdog.close()

    def _build_headers(self, url: str, seen: Result | None) -> dict[str, str]:
        """Build the headers of a fetch; an ETag means nothing but at the URL that gave it (RFC 9110 section 8.8.3)."""
        headers = {"User-Agent": self._user_agent, "Accept": ACCEPT_IMAGES}
        if seen is not None and seen.url == url:
            conditions = {"If-None-Match": seen.etag, "If-Modified-Since": seen.last_modified}
            headers |= {name: value for name, value in conditions.items() if value}
        return headers

    def _read(
        self,
        response: requests.Response,
        call: Call,
        caching: Caching,
        seen: Result | None,
        is_enough: IsEnough,
    ) -> FetchedSource:
        if response.status_code == HTTPStatus.NOT_MODIFIED and seen is not None and seen.url == caching.url:
            # What it does not say again of the version that we have stays as it was (RFC 9111 section 4.3.4).
            etag, last_modified = caching.etag or seen.etag, caching.last_modified or seen.last_modified
            return FetchedSource(b"", replace(caching, etag=etag, last_modified=last_modified), is_unchanged=True)
        body, size_bytes = _read_source(response, call, self._max_source_bytes, is_enough)
        return FetchedSource(body, caching, size_bytes)

    def _start_fetch(self) -> Call:
        return Call(
            self._rules,
            FETCH_FAULTS,
            total_seconds=self._fetch_timeout_seconds,
            lookup_seconds=FETCH_LOOKUP_SECONDS,
            slots=self._slots,
        )

    def _start_post(self) -> Call:
        return Call(
            self._rules,
            POST_FAULTS,
            total_seconds=self._webhook_timeout_seconds,
            lookup_seconds=WEBHOOK_LOOKUP_SECONDS,
        )


def _build_tls(ca_bundle: str | None) -> ssl.SSLContext:
    """Build the one TLS context: reading certifi's certificates took 40 ms, too long for every call."""
    try:
        context = ssl.create_default_context(cafile=ca_bundle or DEFAULT_CA_BUNDLE_PATH)
    except OSError as error:
        raise SettingsError(
            f"THUMBS_CA_BUNDLE={ca_bundle!r} cannot be used: expected a file of certificates in PEM form."
        ) from error
    context.set_alpn_protocols(["http/1.1"])
    return context


@contextmanager
def _exchange(
    method: str, url: str, headers: Mapping[str, str], call: Call, body: bytes | None = None
) -> Iterator[requests.Response]:
    """Exchange one request for the head of its answer; foreign errors, also of reading the body, become the call's."""
    request, target = _prepare(method, url, headers, call, body)
    try:
        with call.hold_slot(target), send(request, target, call) as response:
            call.get_left_seconds()
            yield response
    except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
        call.get_left_seconds()
        raise _name_error(error, call.faults) from error


def _prepare(
    method: str, url: str, headers: Mapping[str, str], call: Call, body: bytes | None
) -> tuple[requests.PreparedRequest, CheckedUrl]:
    try:
        target = check_url(url, call.policy)
        request = requests.PreparedRequest()
        request.prepare_method(method)
        request.prepare_url(url, None)
        request.prepare_headers(_fix_headers(headers))
        request.prepare_body(body, None)
    except UrlNotAllowed as error:
        raise call.faults.forbidden(error.detail) from error
    except ValueError as error:  # Of requests too: InvalidURL, InvalidHeader.
        raise call.faults.forbidden("no request can be made of this URL and these headers") from error
    return request, target


def _fix_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Fix what is not the caller's to choose; raises ValueError for what cannot be sent."""
    fixed = CaseInsensitiveDict(headers)
    fixed.pop("Host", None)
    fixed.update({"Accept-Encoding": "identity", "Connection": "close"})
    for value in fixed.values():
        value.encode("latin-1")
    return dict(fixed)


def _name_error(error: Exception, faults: Faults) -> ThumbsError:
    if isinstance(error, (requests.exceptions.SSLError, SSLError, ssl.SSLError)):
        return faults.tls("the TLS connection failed")
    if isinstance(error, (requests.Timeout, HTTPTimeoutError, TimeoutError)):
        return faults.timeout("no data in time")
    return faults.unreachable("the connection broke off, or what came over it was not HTTP")


def _find_location(response: requests.Response) -> str | None:
    if response.status_code not in REDIRECT_STATUSES:
        return None
    return response.headers.get("Location") or None


def _join(url: str, location: str) -> str:
    """Join a redirect to the URL that it came from; what is not ASCII in it is UTF-8, spaces are common there."""
    try:
        return urljoin(url, requote_uri(location.encode("latin-1").decode("utf-8")))
    except ValueError as error:
        raise SourceForbidden("the redirect's location cannot be read") from error


def _read_source(response: requests.Response, call: Call, max_bytes: int, is_enough: IsEnough) -> tuple[bytes, int]:
    """Read a source, or as much as is enough of it, and tell how long the whole is."""
    _check_head(response, max_bytes)
    body = bytearray()
    while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
        call.get_left_seconds()
        body += block
        if len(body) > max_bytes:
            raise SourceTooLarge(f"more than {max_bytes} bytes came")
        left_bytes = response.raw.length_remaining or 0
        if left_bytes > BLOCK_BYTES and is_enough(body):
            return bytes(body), len(body) + left_bytes
    # A socket that the watchdog shut looks like the end of the body.
    call.get_left_seconds()
    if not body:
        raise SourceEmpty(f"HTTP {response.status_code} without a body", source_status=response.status_code)
    return bytes(body), len(body)


def _check_head(response: requests.Response, max_bytes: int) -> None:
    """Check what the head tells before any body is read: status, encoding, length."""
    status = response.status_code
    if not 200 <= status < 300:
        retry_after_seconds = parse_retry_after(response.headers.get("Retry-After"), datetime.now(UTC))
        raise SourceHttpError(f"HTTP {status}", source_status=status, retry_after_seconds=retry_after_seconds)
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in ("", "identity"):
        raise SourceHttpError("the body is encoded, which was not asked for", source_status=status)
    length_bytes = response.raw.length_remaining
    if length_bytes is not None and length_bytes > max_bytes:
        raise SourceTooLarge(f"{length_bytes} bytes announced, {max_bytes} allowed")


def _read_answer(response: requests.Response, call: Call) -> tuple[bytes, bool]:
    """Read as much of a receiver's body as is kept, and tell whether there was, or should have been, more."""
    body = bytearray()
    try:
        while len(body) <= MAX_ANSWER_BYTES:
            block = response.raw.read1(MAX_ANSWER_BYTES + 1 - len(body), decode_content=False)
            if not block:
                return bytes(body), call.is_late()
            body += block
    except (HTTPError, HTTPException, OSError):
        return bytes(body[:MAX_ANSWER_BYTES]), True
    return bytes(body[:MAX_ANSWER_BYTES]), True


def _list_headers(response: requests.Response) -> dict[str, str]:
    """List the headers, names in lower case, as far as they are kept."""
    headers: dict[str, str] = {}
    left_bytes = MAX_ANSWER_BYTES
    for name, value in response.headers.items():
        left_bytes -= len(name) + len(value)
        if left_bytes >= 0:
            headers[name.lower()] = value
    return headers
