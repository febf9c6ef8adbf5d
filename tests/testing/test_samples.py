"""Samples are what we send: shapes, headers and signatures, verified by the independent library."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from thumbs.domain import EventType
from thumbs.signing import build_secret
from thumbs.testing import SAMPLE_SECRET, SampleEvent, ThumbsServer, WebhookReceiver, sample_event

TYPES = [str(kind) for kind in EventType]
MAX_BODY_BYTES = 20 * 1024


@pytest.mark.parametrize("type", TYPES)
def test_sample_of_every_type_verifies_with_the_independent_library(type: str) -> None:
    sample = sample_event(type)
    event = Webhook(SAMPLE_SECRET).verify(sample.body, dict(sample.headers))
    assert event == sample.event
    assert (event["id"], event["type"]) == (sample.headers["webhook-id"], type)
    assert list(event) == ["id", "type", "timestamp", "data"]


@pytest.mark.parametrize("type", TYPES)
def test_tampered_sample_verifies_no_more(type: str) -> None:
    """It is still an event, so that nothing but the signature tells."""
    sample = sample_event(type).tamper()
    assert sample.event["data"]["tampered"] is True
    with pytest.raises(WebhookVerificationError):
        Webhook(SAMPLE_SECRET).verify(sample.body, dict(sample.headers))


@pytest.mark.parametrize("type", TYPES)
def test_body_is_compact_ascii_json_of_limited_size(type: str) -> None:
    body = sample_event(type).body
    assert body == json.dumps(json.loads(body), separators=(",", ":")).encode("ascii")
    assert len(body) < MAX_BODY_BYTES


def test_sample_is_signed_with_the_secret_that_is_asked_for() -> None:
    secret = build_secret(bytes(range(1, 33)))
    sample = sample_event("ping", secret=secret)
    assert Webhook(secret).verify(sample.body, dict(sample.headers))


def test_sample_is_of_the_moment_that_is_asked_for() -> None:
    """A recorded webhook that is played again is to be refused."""
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    sample = sample_event("ping", signed_at=moment, attempt=4)
    assert sample.event["timestamp"] == "2026-01-01T00:00:00.000Z"
    assert (sample.headers["webhook-timestamp"], sample.headers["thumbs-attempt"]) == ("1767225600", "4")


def test_every_sample_has_an_id_of_its_own() -> None:
    assert len({sample_event("ping").id for _ in range(100)}) == 100


CHANGES: list[tuple[str, dict[str, Any], Callable[[Any], Any]]] = [
    ("job.succeeded", {"metadata": {"order": "4711"}}, lambda data: data["job"]["metadata"]),
    ("job.failed", {"error": {"code": "worker_lost"}}, lambda data: data["job"]["error"]),
    ("batch.finished", {"id": "bat_1"}, lambda data: data["batch"]["id"]),
    ("ping", {"endpoint_id": "ep_1"}, lambda data: data["endpoint_id"]),
    ("endpoint.failing", {"failing_since": "then"}, lambda data: data["failing_since"]),
    ("endpoint.disabled", {"description": "ours"}, lambda data: data["endpoint"]["description"]),
]


@pytest.mark.parametrize(("type", "changes", "read"), CHANGES, ids=[each[0] for each in CHANGES])
def test_changes_replace_what_the_event_is_about_and_are_signed(
    type: str, changes: dict[str, Any], read: Callable[[Any], Any]
) -> None:
    sample = sample_event(type, **changes)
    event = Webhook(SAMPLE_SECRET).verify(sample.body, dict(sample.headers))
    assert read(event["data"]) == next(iter(changes.values()))


def test_change_of_what_there_is_not_is_refused_with_what_there_is() -> None:
    """A test with a misspelt name would prove nothing."""
    with pytest.raises(ValueError, match=r"job\.failed has no 'metdata'; it has .*error, .*metadata"):
        sample_event("job.failed", metdata={})


def test_unknown_type_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"no events of type 'job\.done'; there are job\.succeeded, job\.failed, "):
        sample_event("job.done")


def test_fixture_signs_with_the_secret_of_the_test(webhook_sample: Callable[..., SampleEvent]) -> None:
    sample = webhook_sample("ping")
    assert Webhook(SAMPLE_SECRET).verify(sample.body, dict(sample.headers))


def test_sample_looks_like_a_real_delivery(thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver) -> None:
    """The same headers, and the same members at every level."""
    thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    [real] = webhook_receiver.wait_for()
    sample = sample_event("job.succeeded", signed_at=datetime.now(UTC) - timedelta(seconds=1))
    transport = {"host", "accept", "accept-encoding", "content-length", "connection"}
    assert set(sample.headers) == set(real.headers) - transport
    assert list_members(sample.event) == list_members(real.event)


def test_sample_of_a_ping_looks_like_a_real_one(thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver) -> None:
    registration = {"url": webhook_receiver.url, "secret": webhook_receiver.secret}
    endpoint = thumbs_server.request("POST", "/v1/endpoints", json=registration).json()
    [real] = webhook_receiver.wait_for(type="ping")
    assert thumbs_server.request("DELETE", f"/v1/endpoints/{endpoint['id']}").status == 204
    assert list_members(sample_event("ping", endpoint_id=endpoint["id"]).event) == list_members(real.event)


def list_members(value: Any, path: str = "") -> set[str]:
    """List the path of every member of a document, those of free-form objects left out."""
    if not isinstance(value, dict) or path.endswith(("metadata", "timings_ms")):
        return {path}
    return {path, *(deeper for name, each in value.items() for deeper in list_members(each, f"{path}.{name}"))}
