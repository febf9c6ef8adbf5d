"""From the text of an environment variable to its value: ValueError says what would be right, never what was given.

`settings` names one of these parsers for each setting. Pure.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

MIN_SECRET_KEY_CHARS: Final = 32
MAX_RATE: Final = 10**9

_PUBLIC_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
_PROXY_URL = re.compile(
    r"http://([^\s/:@]+(:[^\s/:@]*)?@)?([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?/?"
)
_RATE = re.compile(r"([0-9]{1,10})\s*(?:/|\bper\b)\s*(second|minute|hour|day)")
Parser = Callable[[str], Any]


def integer_from(low: int, high: int, unit: str = "") -> Parser:
    """Build the parser of a whole number within bounds, both allowed."""
    return _number(int, low, high, f"expected a whole number from {low} to {high}{unit}")


def seconds_from(low: float, high: float) -> Parser:
    """Build the parser of a number of seconds within bounds, both allowed."""
    return _number(float, low, high, f"expected a number of seconds from {low:g} to {high:g}")


def choice_of(*allowed: str) -> Parser:
    """Build the parser of one word of several."""

    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return parse


def choices_of(*allowed: str) -> Parser:
    """Build the parser of some words of several, separated by commas."""

    def parse(text: str) -> frozenset[str]:
        chosen = frozenset(part.strip() for part in text.split(",") if part.strip())
        if not chosen or chosen - set(allowed):
            raise ValueError(f"expected some of {', '.join(allowed)}, separated by commas")
        return chosen

    return parse


def parse_schedule(text: str) -> tuple[float, ...]:
    """Parse delays in seconds, separated by commas."""
    expected = "expected 1 to 20 numbers of seconds from 0.1 to 604800, separated by commas"
    try:
        delays = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(expected) from None
    if not 1 <= len(delays) <= 20 or not all(0.1 <= delay <= 604_800 for delay in delays):
        raise ValueError(expected)
    return delays


def parse_public_url(text: str) -> str:
    """Parse the base of URLs; a slash at its end is dropped."""
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError("expected a URL such as https://thumbs.example or http://10.0.0.1:8000/thumbs")
    return text.rstrip("/")


def parse_proxy_url(text: str) -> str:
    """Parse the URL of an HTTP proxy."""
    match = _PROXY_URL.fullmatch(text)
    if match is None or int(match["port"] or 80) > 65535:
        raise ValueError("expected a URL such as http://proxy.example:3128 or http://user:password@10.0.0.1:3128")
    return text


def parse_folder(text: str) -> Path:
    """Parse a folder's path."""
    if "?" in text:  # The URL of a SQLite file would end there.
        raise ValueError("expected a path without a question mark")
    return Path(text)


def url_with(*prefixes: str) -> Parser:
    """Build the parser of a URL that begins with one of the prefixes."""

    def parse(text: str) -> str:
        if not text.startswith(prefixes):
            raise ValueError(f"expected a URL that begins with {', '.join(prefixes)}")
        return text

    return parse


def parse_redis_url(text: str) -> str:
    """Parse Redis' URL; a self-signed certificate, as Heroku's Redis has, is fine unless it says what to require."""
    url: str = url_with("redis://", "rediss://")(text)
    if url.startswith("redis://") or "ssl_cert_reqs" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=none&ssl_check_hostname=false"


def parse_rate_limit(text: str) -> str:
    """Parse how many requests may come in a time, or several such limits; returned in one spelling."""
    limits = [_RATE.fullmatch(part.strip()) for part in text.split(";")]
    if not all(limit and 1 <= int(limit[1]) <= MAX_RATE for limit in limits):
        raise ValueError("expected a limit such as 600/minute, or several: 20/second;600/minute (or hour, or day)")
    return ";".join(f"{int(limit[1])}/{limit[2]}" for limit in limits if limit)


def parse_secret_key(text: str) -> str:
    """Parse a secret; only its length is looked at."""
    if len(text) < MIN_SECRET_KEY_CHARS:
        raise ValueError(f"expected at least {MIN_SECRET_KEY_CHARS} characters, best random ones")
    return text


def _number(convert: Callable[[str], float], low: float, high: float, expected: str) -> Parser:
    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return parse
