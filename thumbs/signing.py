"""Signs webhooks as Standard Webhooks v1 says: base64(HMAC-SHA256(key, id + "." + timestamp + "." + body)).

It owns the form of secrets (`whsec_` and the key in base64) and of the `webhook-signature` header. It never draws
chance, stores a secret or sends anything. `intake` and the CLI build secrets, `deliver` signs with them; receivers in
Python may `verify` with it.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from datetime import datetime

from thumbs.errors import ThumbsError

SECRET_PREFIX = "whsec_"
KEY_BYTES = 32
"""The length of the keys that we draw ourselves."""

MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
"""Standard Webhooks, "Signature scheme": between 24 and 64 bytes (192 and 512 bits)."""

TOLERANCE_SECONDS = 300
"""How old or early a timestamp may be: what the libraries of Standard Webhooks take, each of them."""

_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class SignatureInvalid(ThumbsError):
    """A webhook is not from us, was changed, or is too old; the text says which, and never holds a secret."""


def build_secret(random_bytes: bytes) -> str:
    """Build the secret that a receiver is given from 24-64 bytes of chance (KEY_BYTES of them is usual)."""
    _check_key_length(random_bytes)
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode("ascii")


def parse_secret(text: str) -> bytes:
    """Parse a secret into its key; ValueError says what is wrong and never repeats the secret."""
    if not text.startswith(SECRET_PREFIX):
        raise ValueError(f"A signing secret starts with {SECRET_PREFIX!r}, followed by the key in base64.")
    try:
        key = base64.b64decode(text.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        # `from None`: the text of the cause may hold parts of the secret.
        raise ValueError(f"What follows {SECRET_PREFIX!r} in a signing secret must be standard base64.") from None
    _check_key_length(key)
    return key


def sign(keys: Sequence[bytes], event_id: str, timestamp: int, body: bytes) -> str:
    """Sign one attempt with every key, newest first: the value of `webhook-signature`, such as `v1,… v1,…`.

    `timestamp` is the start of the attempt in whole Unix seconds; `body` the exact bytes that are sent.
    """
    if not keys:
        raise ValueError("Signing a webhook needs at least one key.")
    message = f"{event_id}.{timestamp}.".encode("ascii") + body
    return " ".join(_sign_once(key, message) for key in keys)


def verify(
    secrets: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> None:
    """Verify that a webhook was signed with one of the secrets, at most `tolerance_seconds` from now.

    The names of `headers` may be in any case; `body` is the raw bytes. Raises SignatureInvalid, and ValueError for a
    secret that is none. Compares in constant time.
    """
    if not secrets:
        raise ValueError("Verifying a webhook needs at least one secret.")
    told = {name.lower(): value for name, value in headers.items()}
    event_id, timestamp, signatures = (_get_header(told, name) for name in _HEADERS)
    _check_timestamp(timestamp, now, tolerance_seconds)
    # The timestamp as it was sent: it is that text that was signed.
    message = f"{event_id}.{timestamp}.".encode(errors="replace") + body
    right = [_sign_once(parse_secret(secret), message).encode() for secret in secrets]
    sent = signatures.encode(errors="replace").split(b" ")
    if not any(hmac.compare_digest(each, one) for each in sent for one in right):
        raise SignatureInvalid("No signature in webhook-signature is of this body, made with this secret.")


def _get_header(headers: Mapping[str, str], name: str) -> str:
    if not headers.get(name):
        raise SignatureInvalid(f"The header {name} is missing.")
    return headers[name]


def _check_timestamp(timestamp: str, now: datetime, tolerance_seconds: float) -> None:
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureInvalid("The header webhook-timestamp is no whole number of Unix seconds.")
    age_seconds = now.timestamp() - int(timestamp)
    if abs(age_seconds) > tolerance_seconds:
        direction = "ago" if age_seconds > 0 else "from now"
        raise SignatureInvalid(
            f"The webhook was signed {abs(age_seconds):.0f} s {direction}; {tolerance_seconds:g} s are allowed."
        )


def _sign_once(key: bytes, message: bytes) -> str:
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def _check_key_length(key: bytes) -> None:
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"A signing key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; this one has {len(key)}.")
