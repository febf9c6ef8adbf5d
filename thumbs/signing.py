"""Signs webhooks as Standard Webhooks v1 says: base64(HMAC-SHA256(key, id + "." + timestamp + "." + body)).

It owns the form of secrets (`whsec_` and the key in base64) and of the `webhook-signature` header. It never draws
chance, stores a secret or sends anything. `intake` and the CLI build secrets, `deliver` signs with them.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

SECRET_PREFIX = "whsec_"
KEY_BYTES = 32
"""The length of the keys that we draw ourselves."""

MIN_KEY_BYTES = 24
MAX_KEY_BYTES = 64
"""Standard Webhooks, "Signature scheme": between 24 and 64 bytes (192 and 512 bits)."""


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


def _sign_once(key: bytes, message: bytes) -> str:
    digest = hmac.new(key, message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode("ascii")


def _check_key_length(key: bytes) -> None:
    if not MIN_KEY_BYTES <= len(key) <= MAX_KEY_BYTES:
        raise ValueError(f"A signing key has {MIN_KEY_BYTES} to {MAX_KEY_BYTES} bytes; this one has {len(key)}.")
