"""Secrets at rest: readable with the same THUMBS_SECRET_KEY, and with no other."""

import pytest

from thumbs.cipher import Cipher
from thumbs.errors import SettingsError

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


def test_secret_comes_back_with_the_same_key() -> None:
    assert Cipher("one key").decrypt(Cipher("one key").encrypt(SECRET)) == SECRET


def test_same_secret_looks_different_each_time() -> None:
    """Two accounts with the same secret cannot be told from the database."""
    cipher = Cipher("one key")
    assert cipher.encrypt(SECRET) != cipher.encrypt(SECRET)


def test_another_key_is_told_in_one_line_that_names_the_setting() -> None:
    token = Cipher("one key").encrypt(SECRET)
    with pytest.raises(SettingsError, match="THUMBS_SECRET_KEY") as caught:
        Cipher("another key").decrypt(token)
    assert "another key" not in str(caught.value)


@pytest.mark.parametrize("token", ["", "not encrypted", "gAAAAA"])
def test_text_that_was_not_encrypted_is_refused(token: str) -> None:
    with pytest.raises(SettingsError):
        Cipher("one key").decrypt(token)


def test_tampered_token_is_refused() -> None:
    token = Cipher("one key").encrypt(SECRET)
    flipped = token[:-10] + ("A" if token[-10] != "A" else "B") + token[-9:]
    with pytest.raises(SettingsError):
        Cipher("one key").decrypt(flipped)
