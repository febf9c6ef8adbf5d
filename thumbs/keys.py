"""API keys: `tk_<id>_<secret>`. Only a hash of the secret is stored; with 256 random bits a plain SHA-256 is enough.

Pure. The CLI makes keys, `web/auth` checks them.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

KEY_SECRET_BYTES: Final = 32
_KEY = re.compile(r"tk_(?P<id>[0-9A-HJKMNP-TV-Z]{26})_(?P<secret>[A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class PresentedKey:
    """A key as somebody presents it, well-formed but not checked yet."""

    id: str
    secret: str = field(repr=False)


def build_key(key_id: str, random_bytes: bytes) -> tuple[str, str]:
    """Build the text of a key, to be shown once, and the hash of its secret, to be stored."""
    secret = base64.urlsafe_b64encode(random_bytes).rstrip(b"=").decode("ascii")
    return f"tk_{key_id.removeprefix('key_')}_{secret}", hash_secret(secret)


def parse_key(text: str) -> PresentedKey | None:
    """Parse the text of a key; None when it is not well-formed."""
    match = _KEY.fullmatch(text)
    return PresentedKey(f"key_{match['id']}", match["secret"]) if match else None


def hash_secret(secret: str) -> str:
    """Hash a key's secret for storing: SHA-256, hexadecimal."""
    return hashlib.sha256(secret.encode("ascii")).hexdigest()


def is_secret_of(presented: PresentedKey, secret_sha256: str) -> bool:
    """Tell, in constant time, whether the presented secret is the stored one."""
    return hmac.compare_digest(hash_secret(presented.secret), secret_sha256)
