"""Encrypts the few secrets that must be readable again (callback secrets) before they are stored."""

import base64
import hashlib
from functools import lru_cache
from typing import Final

from cryptography.fernet import Fernet, InvalidToken

from thumbs.errors import SettingsError

REMEMBERED: Final = 1024
"""Secrets that are kept readable in memory: each attempt needs one, and decrypting takes a fifth of a millisecond."""


class Cipher:
    """Encrypts with a key derived from THUMBS_SECRET_KEY (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, secret_key: str) -> None:
        key = hashlib.sha256(b"thumbs.cipher.1:" + secret_key.encode()).digest()
        self._fernet = Fernet(base64.urlsafe_b64encode(key))
        self._remembered = lru_cache(REMEMBERED)(self._decrypt)

    def encrypt(self, text: str) -> str:
        """Encrypt; the same text gives another result each time."""
        return self._fernet.encrypt(text.encode()).decode("ascii")

    def decrypt(self, token: str) -> str:
        """Decrypt; raises SettingsError when it was encrypted with another key."""
        return self._remembered(token)

    def _decrypt(self, token: str) -> str:
        try:
            return self._fernet.decrypt(token).decode()
        except InvalidToken as error:
            raise SettingsError(
                "THUMBS_SECRET_KEY=(secret) cannot be used: the ledger's secrets were encrypted with another one."
            ) from error
