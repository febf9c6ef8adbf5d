"""Which jobs ask for the same, and for how long what one has found answers the next: the rules of not working twice.

Pure. What a source's server says of its answer is read as a private cache has to (RFC 9111), and as a shared one where
accounts share. There is no guessing: without a word about freshness the server is asked every time, and for an answer
that no cache may store, nothing is remembered.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final
from urllib.request import parse_http_list

from thumbs import __version__
from thumbs.domain import Caching, ThumbnailSpec
from thumbs.errors import DecodeError, DecoderCrashed, DecoderTimeout, FetchError, ImageTooLarge, JobError

MAX_FRESH_SECONDS: Final = 31_536_000.0
"""A year: RFC 9111 has no limit, datetime has."""
UPLOADED: Final = Caching(url="", fresh_seconds=MAX_FRESH_SECONDS)
"""Of a source that came along: its bytes name it, so it never changes."""

LAST_MODIFIED_UNIT: Final = timedelta(seconds=1)
MAX_ETAG_CHARS: Final = 1_024
_ETAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e]*"')
"""RFC 9110 section 8.8.3, in ASCII: others could not be sent back as they came."""


def name_source(scope: str, source_url: str) -> str:
    """Name a source, for those who share it: the scope is their account, or nothing where all do."""
    return _hash([scope, source_url])


def name_work(scope: str, source: str, spec: ThumbnailSpec, variants: Mapping[str, ThumbnailSpec]) -> str:
    """Name what is asked for; jobs with the same name lead to the same thumbnails.

    `source` is its URL, or the hash of one that came along. Another release may make other thumbnails.
    """
    asked = {name: asdict(each) for name, each in variants.items()}
    return _hash([__version__, scope, source, asdict(spec), asked])


def is_lasting(error: JobError) -> bool:
    """Tell whether a source that failed so is likely to fail again; one that kills decoders is, though retried."""
    return isinstance(error, DecoderCrashed) or (isinstance(error, (FetchError, DecodeError)) and not error.retryable)


def depends_on_work(error: JobError) -> bool:
    """Tell whether another spec might fare better: what takes too much memory or time depends on it."""
    return isinstance(error, (DecoderCrashed, DecoderTimeout, ImageTooLarge))


def read_caching(url: str, headers: Mapping[str, str], now: datetime, *, is_shared: bool) -> Caching:
    """Read what an answer says of its use by caches; `headers` are looked up in any case, as requests' are."""
    directives = _parse_directives(headers.get("Cache-Control", ""))
    may_keep = not ("no-store" in directives or headers.get("Vary", "").strip() == "*")
    is_private = is_shared and "private" in directives
    lifetime_seconds = _read_lifetime(directives, headers, is_shared=is_shared)
    return Caching(
        url=url,
        may_keep=may_keep and not is_private,
        is_private=is_private,
        fresh_seconds=max(0.0, lifetime_seconds - _read_age(headers, now)),
        etag=_read_etag(headers.get("ETag")),
        last_modified=_read_modified(headers, now),
    )


def pass_on(redirect: Caching, target: Caching) -> Caching:
    """Tell what holds for a source behind a redirect: it is as fresh as the older of the two."""
    return replace(
        target,
        may_keep=redirect.may_keep and target.may_keep,
        is_private=redirect.is_private or target.is_private,
        fresh_seconds=min(redirect.fresh_seconds, target.fresh_seconds),
    )


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _parse_directives(text: str) -> dict[str, str]:
    """Parse Cache-Control (RFC 9111 section 5.2); of a directive that is there twice, the first one counts."""
    directives: dict[str, str] = {}
    for part in parse_http_list(text):
        name, _, value = part.partition("=")
        directives.setdefault(name.strip().lower(), value.strip().strip('"'))
    return directives


def _read_lifetime(directives: Mapping[str, str], headers: Mapping[str, str], *, is_shared: bool) -> float:
    """Read for how many seconds an answer is fresh from its making (RFC 9111 section 4.2.1)."""
    if "no-cache" in directives:
        return 0.0
    for name in ("s-maxage", "max-age") if is_shared else ("max-age",):
        if name in directives:
            return _parse_seconds(directives[name])
    expires, made = _parse_date(headers.get("Expires")), _parse_date(headers.get("Date"))
    if expires is None or made is None:
        return 0.0
    return min((expires - made).total_seconds(), MAX_FRESH_SECONDS)


def _read_age(headers: Mapping[str, str], now: datetime) -> float:
    """Read how old an answer was when it came (RFC 9111 section 4.2.3); a clock that is ahead makes it no younger."""
    made = _parse_date(headers.get("Date"))
    apparent_seconds = (now - made).total_seconds() if made else 0.0
    return max(0.0, apparent_seconds, _parse_seconds(headers.get("Age", "")))


def _parse_seconds(text: str) -> float:
    """Parse delta-seconds (RFC 9111 section 1.2.2); what is none is 0: stale."""
    text = text.strip()
    return min(float(text), MAX_FRESH_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _parse_date(text: str | None) -> datetime | None:
    try:
        moment = parsedate_to_datetime(text or "")
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=moment.tzinfo or UTC)


def _read_modified(headers: Mapping[str, str], now: datetime) -> str | None:
    """Read Last-Modified, as a date that can be sent back: a parser of dates forgives whatever stands behind one.

    One of the second in which the answer was made says nothing: the source may have changed once more within it
    (RFC 9110 section 8.8.2.2).
    """
    modified, made = _parse_date(headers.get("Last-Modified")), _parse_date(headers.get("Date")) or now
    if modified is None or made - modified < LAST_MODIFIED_UNIT:
        return None
    return format_datetime(modified.astimezone(UTC), usegmt=True)


def _read_etag(text: str | None) -> str | None:
    return text if text and len(text) <= MAX_ETAG_CHARS and _ETAG.fullmatch(text) else None
