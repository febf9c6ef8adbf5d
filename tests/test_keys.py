"""API keys: what is shown once, what is stored, and that nothing but the right secret fits."""

import hashlib

import pytest

from thumbs.keys import build_key, hash_secret, is_secret_of, parse_key

KEY_ID = "key_01K5Z8M3V7Q2X9T4B6N8R0WYCD"
RANDOM_BYTES = bytes(range(224, 256))


def test_key_comes_back_from_its_text() -> None:
    text, secret_sha256 = build_key(KEY_ID, RANDOM_BYTES)
    presented = parse_key(text)
    assert presented is not None
    assert presented.id == KEY_ID
    assert is_secret_of(presented, secret_sha256)


def test_key_is_safe_in_a_header_and_a_shell() -> None:
    """Base64 for URLs: neither + nor / nor =."""
    text, _ = build_key(KEY_ID, RANDOM_BYTES)
    assert text.startswith(f"tk_{KEY_ID.removeprefix('key_')}_")
    assert text.replace("_", "").replace("-", "").isalnum()


def test_only_the_hash_of_the_secret_is_to_be_stored() -> None:
    text, secret_sha256 = build_key(KEY_ID, RANDOM_BYTES)
    secret = text.split("_", 2)[2]
    assert secret_sha256 == hash_secret(secret) == hashlib.sha256(secret.encode()).hexdigest()


def test_another_secret_does_not_fit() -> None:
    other, _ = build_key(KEY_ID, bytes(32))
    _, secret_sha256 = build_key(KEY_ID, RANDOM_BYTES)
    presented = parse_key(other)
    assert presented is not None
    assert not is_secret_of(presented, secret_sha256)


def test_presented_key_does_not_show_its_secret() -> None:
    text, _ = build_key(KEY_ID, RANDOM_BYTES)
    assert text.split("_", 2)[2] not in repr(parse_key(text))


GOOD = build_key(KEY_ID, RANDOM_BYTES)[0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "tk_",
        GOOD[:-1],
        GOOD + "A",
        GOOD + "\n",
        " " + GOOD,
        GOOD.upper(),
        GOOD.replace("tk_", "sk_"),
        GOOD[:-1] + "é",
    ],
)
def test_text_that_is_not_well_formed_is_no_key(text: str) -> None:
    assert parse_key(text) is None
