"""Webhooks are signed as Standard Webhooks says: our own vector, and the PyPI package as an independent verifier."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from thumbs.signing import SignatureInvalid, build_secret, parse_secret, sign, verify

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
EVENT_ID = "evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD"
BODY = (
    b'{"id":"evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD","type":"ping","timestamp":"2026-01-01T00:00:00.000Z",'
    b'"data":{"endpoint_id":"ep_01K5Z8KZZZZZZZZZZZZZZZZZZZ"}}'
)
SIGNATURE = "v1,H13ihYDaZaew1SoVcUI/tCnVk2P4avMEtSLqlRgw/L0="
TIMESTAMP = 1767225600
NOW = datetime.fromtimestamp(TIMESTAMP, UTC)
NEW_KEY, OLD_KEY = bytes(range(32)), bytes(range(32, 64))
NEW_SECRET, OLD_SECRET = build_secret(NEW_KEY), build_secret(OLD_KEY)


def _headers(signature: str, timestamp: int) -> dict[str, str]:
    return {"webhook-id": EVENT_ID, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def test_sign_gives_the_published_vector() -> None:
    """docs/webhooks.md publishes this vector; receivers test themselves against it."""
    assert sign([parse_secret(SECRET)], EVENT_ID, 1767225600, BODY) == SIGNATURE


def test_sign_puts_the_newest_key_first() -> None:
    signatures = sign([NEW_KEY, OLD_KEY], EVENT_ID, 1, BODY).split(" ")
    assert signatures == [sign([NEW_KEY], EVENT_ID, 1, BODY), sign([OLD_KEY], EVENT_ID, 1, BODY)]


@pytest.mark.parametrize("key", [NEW_KEY, OLD_KEY])
def test_signature_verifies_with_either_secret_during_a_rotation(key: bytes) -> None:
    """A receiver that still holds the old secret verifies, and so does one that has the new one already."""
    now = int(datetime.now(tz=UTC).timestamp())
    headers = _headers(sign([NEW_KEY, OLD_KEY], EVENT_ID, now, BODY), now)
    assert Webhook(build_secret(key)).verify(BODY, headers) == json.loads(BODY)


def test_signature_does_not_verify_when_a_byte_of_the_body_changed() -> None:
    now = int(datetime.now(tz=UTC).timestamp())
    headers = _headers(sign([NEW_KEY], EVENT_ID, now, BODY), now)
    with pytest.raises(WebhookVerificationError):
        Webhook(build_secret(NEW_KEY)).verify(BODY.replace(b"ping", b"pong"), headers)


def test_sign_takes_bytes_that_are_not_text() -> None:
    """The body is signed as bytes: nothing is decoded on the way."""
    assert sign([NEW_KEY], EVENT_ID, 1, b"\xff\x00").startswith("v1,")


def test_sign_refuses_to_sign_with_no_key() -> None:
    with pytest.raises(ValueError, match="at least one key"):
        sign([], EVENT_ID, 1, BODY)


@pytest.mark.parametrize("length", [24, 32, 64])
def test_secret_is_the_key_in_base64(length: int) -> None:
    key = bytes(range(length))
    assert parse_secret(build_secret(key)) == key


@pytest.mark.parametrize("length", [0, 23, 65])
def test_build_secret_refuses_keys_of_a_wrong_length(length: int) -> None:
    with pytest.raises(ValueError, match=f"24 to 64 bytes; this one has {length}"):
        build_secret(bytes(length))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "whsec_",
        "whsec_AAEC",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n",
        "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd-_8=",
        "whsec_größe",
        "WHSEC_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "whsec_" + "A" * 100,
    ],
)
def test_parse_secret_refuses_malformed_secrets(text: str) -> None:
    with pytest.raises(ValueError, match="signing"):
        parse_secret(text)


def test_parse_secret_never_repeats_the_secret_in_its_error() -> None:
    """The text of the error may reach an answer or a log."""
    with pytest.raises(ValueError, match="base64") as caught:
        parse_secret("whsec_hunter2hunter2!")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_verify_takes_the_published_vector() -> None:
    verify([SECRET], _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW)


def test_verify_takes_what_the_independent_library_signs() -> None:
    signature = Webhook(SECRET).sign(EVENT_ID, NOW, BODY.decode())
    verify([SECRET], _headers(signature, TIMESTAMP), BODY, now=NOW)


def test_verify_takes_header_names_in_any_case() -> None:
    """Flask's are in title case, WSGI's and Node's are not."""
    verify([SECRET], {name.title(): value for name, value in _headers(SIGNATURE, TIMESTAMP).items()}, BODY, now=NOW)


@pytest.mark.parametrize("secrets", [[NEW_SECRET], [OLD_SECRET], [OLD_SECRET, NEW_SECRET]])
def test_verify_takes_either_secret_during_a_rotation(secrets: list[str]) -> None:
    """One matching pair is enough, whoever of the two has both."""
    verify(secrets, _headers(sign([NEW_KEY, OLD_KEY], EVENT_ID, TIMESTAMP, BODY), TIMESTAMP), BODY, now=NOW)
    verify([OLD_SECRET, NEW_SECRET], _headers(sign([OLD_KEY], EVENT_ID, TIMESTAMP, BODY), TIMESTAMP), BODY, now=NOW)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("value", [None, "", "1767225601", "v1,", "v1", "v2,abc ,", "\udcff", "évé"])
def test_verify_refuses_any_other_header(name: str, value: str | None) -> None:
    """Missing, empty, of another attempt, malformed: nothing else than SignatureInvalid is raised."""
    headers = {key: text for key, text in _headers(SIGNATURE, TIMESTAMP).items() if key != name}
    with pytest.raises(SignatureInvalid):
        verify([SECRET], headers if value is None else headers | {name: value}, BODY, now=NOW)


@pytest.mark.parametrize("timestamp", ["-1", "+1767225600", " 1767225600", "1_767_225_600", "1e9", "9" * 5000, "١"])
def test_verify_refuses_a_timestamp_that_is_no_number_of_seconds(timestamp: str) -> None:
    headers = _headers(SIGNATURE, TIMESTAMP) | {"webhook-timestamp": timestamp}
    with pytest.raises(SignatureInvalid, match="Unix seconds"):
        verify([SECRET], headers, BODY, now=NOW)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_verify_takes_a_timestamp_of_five_minutes_either_way(seconds: int) -> None:
    verify([SECRET], _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW + timedelta(seconds=seconds))


@pytest.mark.parametrize(("seconds", "told"), [(-301, "301 s from now; 300 s"), (301, "301 s ago; 300 s")])
def test_verify_refuses_a_timestamp_that_is_further_off(seconds: int, told: str) -> None:
    """A webhook that was recorded by somebody cannot be played again later."""
    with pytest.raises(SignatureInvalid, match=told):
        verify([SECRET], _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW + timedelta(seconds=seconds))


def test_verify_takes_another_tolerance() -> None:
    verify([SECRET], _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW + timedelta(hours=1), tolerance_seconds=3600)


@pytest.mark.parametrize("body", [b"", BODY.replace(b"ping", b"pong"), BODY + b"\n", b"\xff"])
def test_verify_refuses_any_other_body(body: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="No signature"):
        verify([SECRET], _headers(SIGNATURE, TIMESTAMP), body, now=NOW)


def test_verify_refuses_another_secret_and_never_tells_it() -> None:
    with pytest.raises(SignatureInvalid, match="No signature") as caught:
        verify([OLD_SECRET], _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW)
    assert OLD_SECRET not in str(caught.value)


@pytest.mark.parametrize("secrets", [[], ["whsec_AAEC"]])
def test_verify_with_no_secret_or_a_bad_one_is_the_programs_mistake(secrets: list[str]) -> None:
    """It must not look like a webhook that was refused."""
    with pytest.raises(ValueError, match=r"secret|key"):
        verify(secrets, _headers(SIGNATURE, TIMESTAMP), BODY, now=NOW)
