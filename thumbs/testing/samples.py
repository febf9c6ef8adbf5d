"""Webhooks as we send them, of every type, made up and rightly signed: what a receiver's own tests POST to it."""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from ulid import ULID

from thumbs.announcements import announce_endpoint, announce_ping, conclude, conclude_batch
from thumbs.domain import (
    Batch,
    DisabledReason,
    Endpoint,
    EndpointStatus,
    Event,
    EventType,
    Failure,
    Health,
    Job,
    JobStatus,
    Outcome,
    Source,
    Thumbnail,
    ThumbnailSpec,
)
from thumbs.errors import SourceHttpError
from thumbs.signing import parse_secret, sign

SAMPLE_SECRET: Final = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
"""What samples are signed with by default: the secret of the published vector, and no secret at all."""
SEND_TIMEOUT_SECONDS: Final = 20.0
"""Longer than a real attempt takes."""

CALLBACK_URL: Final = "https://app.example/hooks"


@dataclass(frozen=True, slots=True)
class SampleEvent:
    """One attempt of a made-up event, ready to be POSTed: `body` as it is, with `headers`."""

    id: str
    type: str
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def event(self) -> dict[str, Any]:
        """The body, parsed."""
        event: dict[str, Any] = json.loads(self.body)
        return event

    def tamper(self) -> "SampleEvent":
        """Return it with a body that was changed after it was signed: receivers are to refuse it."""
        return replace(self, body=self.body.replace(b'"data":{', b'"data":{"tampered":true,', 1))

    def send(self, url: str) -> int:
        """POST it to a running receiver, and return the status of the answer. Raises OSError when there is none."""
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=SEND_TIMEOUT_SECONDS)
        try:
            connection.request("POST", parts.path or "/", self.body, dict(self.headers))
            return connection.getresponse().status
        finally:
            connection.close()


def sample_event(
    type: str,
    /,
    *,
    secret: str = SAMPLE_SECRET,
    signed_at: datetime | None = None,
    attempt: int = 1,
    **changes: Any,
) -> SampleEvent:
    """Build a signed event of a type, such as `job.succeeded`, with an id of its own.

    `signed_at` is the start of the attempt, by default now. `changes` replace members of what the event is about:
    `metadata={"order": "4711"}`. Raises ValueError for a type or a member that events do not have.
    """
    kind = _parse_type(type)
    moment = signed_at or datetime.now(UTC)
    event = _SAMPLES[kind](moment)
    body = _change(event.body, changes, kind) if changes else event.body
    timestamp = int(moment.timestamp())
    headers = {
        "content-type": "application/json",
        "user-agent": "thumbs-webhooks/1",
        "webhook-id": event.id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign([parse_secret(secret)], event.id, timestamp, body),
        "thumbs-delivery": _new_id("dlv"),
        "thumbs-attempt": str(attempt),
    }
    return SampleEvent(event.id, str(kind), headers, body)


def _parse_type(text: str) -> EventType:
    try:
        return EventType(text)
    except ValueError:
        raise ValueError(f"There are no events of type {text!r}; there are {', '.join(EventType)}.") from None


def _change(body: bytes, changes: Mapping[str, Any], kind: EventType) -> bytes:
    """Replace members of an event's data, or of the one thing that the data holds."""
    document = json.loads(body)
    places = [document["data"], *(value for value in document["data"].values() if isinstance(value, dict))]
    for name, value in changes.items():
        place = next((place for place in places if name in place), None)
        if place is None:
            known = ", ".join(sorted({name for place in places for name in place}))
            raise ValueError(f"An event of type {kind} has no {name!r}; it has {known}.")
        place[name] = value
    return json.dumps(document, separators=(",", ":")).encode("ascii")


def _new_id(prefix: str) -> str:
    return f"{prefix}_{ULID()}"


def _sample_succeeded(now: datetime) -> Event:
    thumbnail = Thumbnail("image/jpeg", 100, 100, 2713, "ab" * 32, "3OcRJYB4d3h/iIeHeEh3eIhw+j2w", "#7a5c43")
    source = Source("image/jpeg", 4032, 3024, 3_145_728)
    return _end_job(Outcome(JobStatus.SUCCEEDED, thumbnail=thumbnail, source=source), now)


def _sample_failed(now: datetime) -> Event:
    return _end_job(Outcome(JobStatus.FAILED, error=Failure.of(SourceHttpError(source_status=404))), now)


def _end_job(outcome: Outcome, now: datetime) -> Event:
    job = Job(
        id=_new_id("job"),
        account_id="",
        status=JobStatus.RUNNING,
        source_url="https://img.example/cat.jpg",
        callback_url=CALLBACK_URL,
        spec=ThumbnailSpec(),
        metadata={},
        public_url="https://thumbs.example",
        request_id="",
        blob_name=ULID().hex,
        run_count=1,
        created_at=now - timedelta(milliseconds=80),
        expires_at=now + timedelta(days=7),
        run_at=now,
        started_at=now - timedelta(milliseconds=75),
    )
    timings_ms = {"queued": 5, "fetched": 41, "decoded": 24, "stored": 2}
    return conclude(job, outcome, now=now, timings_ms=timings_ms, new_id=_new_id).event


def _sample_batch(now: datetime) -> Event:
    batch = Batch(_new_id("bat"), "", CALLBACK_URL, now - timedelta(seconds=1), now + timedelta(days=7))
    jobs = [(_new_id("job"), JobStatus.SUCCEEDED), (_new_id("job"), JobStatus.FAILED)]
    return conclude_batch(batch, jobs, now=now, new_id=_new_id).event


def _sample_ping(now: datetime) -> Event:
    return announce_ping(_build_endpoint(now), now=now, new_id=_new_id).event


def _sample_failing(now: datetime) -> Event:
    kind, since = EventType.ENDPOINT_FAILING, now - timedelta(hours=24)
    return announce_endpoint(kind, _build_endpoint(now), Health.OPEN, since, (), now=now, new_id=_new_id).event


def _sample_disabled(now: datetime) -> Event:
    kind, since = EventType.ENDPOINT_DISABLED, now - timedelta(days=5)
    endpoint = replace(_build_endpoint(now), status=EndpointStatus.DISABLED, disabled_reason=DisabledReason.FAILING)
    return announce_endpoint(kind, endpoint, Health.OPEN, since, (), now=now, new_id=_new_id).event


def _build_endpoint(now: datetime) -> Endpoint:
    return Endpoint(
        id=_new_id("ep"),
        account_id="",
        url="https://app.example/other-hooks",
        event_types=("job.*",),
        description=None,
        headers={},
        secret="",
        status=EndpointStatus.ENABLED,
        created_at=now - timedelta(days=30),
    )


_SAMPLES: Final[Mapping[EventType, Callable[[datetime], Event]]] = {
    EventType.JOB_SUCCEEDED: _sample_succeeded,
    EventType.JOB_FAILED: _sample_failed,
    EventType.BATCH_FINISHED: _sample_batch,
    EventType.PING: _sample_ping,
    EventType.ENDPOINT_FAILING: _sample_failing,
    EventType.ENDPOINT_DISABLED: _sample_disabled,
}
