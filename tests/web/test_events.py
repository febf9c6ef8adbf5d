"""GET /v1/events: the signed bytes themselves, in order, from where the reader was; and `Prefer: wait=N`."""

import json
import threading
from typing import Any

import pytest
from flask.testing import FlaskClient
from ulid import ULID

from tests.support.builders import record_ended_job
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, accept, build_test_services, fail_with, record_delivery
from tests.web.conftest import ActingClock
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver
from thumbs.domain import EventFilter
from thumbs.errors import SourceHttpError
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services, SystemClock
from thumbs.web import create_app

SOME_ID = "evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD"


class TellingClock(SystemClock):
    """The machine's clock; tells when somebody sleeps."""

    def __init__(self) -> None:
        self.asleep = threading.Semaphore(0)

    def sleep(self, seconds: float) -> None:
        """Tell, and sleep."""
        self.asleep.release()
        super().sleep(seconds)


def record_events(services: Services, count: int) -> list[str]:
    """Let jobs end; returns the ids of their events, oldest first."""
    return [record_delivery(services).event_id for _ in range(count)]


def list_page(client: FlaskClient, query: str = "", wait: int = 0) -> dict[str, Any]:
    answer = client.get(f"/v1/events{query}", headers={"Prefer": f"wait={wait}"})
    assert answer.status_code == 200
    page: dict[str, Any] = answer.get_json()
    return page


def list_ids(client: FlaskClient, query: str = "") -> list[str]:
    return [event["id"] for event in list_page(client, query)["items"]]


# ── what is told ────────────────────────────────────────────────────────────────────────────────────────


def test_events_are_the_bytes_that_are_signed(client: FlaskClient, services: Services) -> None:
    """Who writes an item as compact ASCII JSON can verify and forward it."""
    record_delivery(services, metadata={"name": "Käse ☃", "price": 1.50})
    answer = client.get("/v1/events")
    [event] = services.ledger.events.list_after(get_default_account(services).id, EventFilter(), 2)
    assert event.body in answer.data
    assert json.dumps(answer.get_json()["items"][0], separators=(",", ":")).encode() == event.body
    assert answer.content_type == "application/json"


def test_events_are_oldest_first_and_20_long(client: FlaskClient, services: Services) -> None:
    ids = record_events(services, 21)
    page = list_page(client)
    assert [event["id"] for event in page["items"]] == ids[:20]
    assert page["next_cursor"] == ids[19]


def test_reader_goes_on_after_the_last_event_that_it_has(client: FlaskClient, services: Services) -> None:
    ids, seen, query = record_events(services, 5), [], "?limit=2"
    for _ in range(3):
        page = list_page(client, query)
        seen += [event["id"] for event in page["items"]]
        query = f"?limit=2&after={page['next_cursor']}"
    assert seen == ids


def test_cursor_stays_where_the_reader_is_when_there_is_nothing(client: FlaskClient, services: Services) -> None:
    assert list_page(client) == {"items": [], "next_cursor": None}
    assert list_page(client, f"?after={SOME_ID}") == {"items": [], "next_cursor": SOME_ID}
    [event_id] = record_events(services, 1)
    assert list_page(client, f"?after={event_id}") == {"items": [], "next_cursor": event_id}


def test_events_can_be_filtered_by_type(client: FlaskClient, services: Services, outbound: ScriptedOutbound) -> None:
    [good] = record_events(services, 1)
    outbound.on_fetch = fail_with(SourceHttpError(source_status=404))
    [bad] = record_events(services, 1)
    assert list_ids(client, "?type=job.failed") == [bad]
    assert list_ids(client, "?type=job.succeeded") == [good]
    assert list_ids(client, "?type=ping") == []


def test_events_that_a_receiver_took_can_be_left_out(client: FlaskClient, services: Services) -> None:
    """An event without a receiver counts as not delivered."""
    taken, waiting = record_delivery(services), record_delivery(services)
    process(services, accept(services, callback_url=None).id)
    deliver(services, taken.id)
    ids = list_ids(client)
    assert ids[:2] == [taken.event_id, waiting.event_id]
    assert list_ids(client, "?undelivered=true") == ids[1:]
    assert list_ids(client, "?undelivered=false") == ids


def test_another_accounts_events_are_not_told(client: FlaskClient, services: Services) -> None:
    foreign = record_ended_job(services.ledger).event.id
    assert list_page(client)["items"] == []
    assert list_page(client, f"?after={foreign}")["items"] == []


# ── a place that is forgotten ───────────────────────────────────────────────────────────────────────────


def test_forgotten_event_still_is_a_place_to_go_on_from(client: FlaskClient, services: Services) -> None:
    first, *others = (record_delivery(services) for _ in range(3))
    client.delete(f"/v1/jobs/{first.job_id}")
    assert list_ids(client, f"?after={first.event_id}") == [delivery.event_id for delivery in others]


def test_events_from_long_before_a_forgotten_place_are_not_told_again(client: FlaskClient, services: Services) -> None:
    [event_id] = record_events(services, 1)
    made_at = ULID.from_str(event_id.removeprefix("evt_")).timestamp
    near, far = (f"evt_{ULID.from_timestamp(made_at + seconds)}" for seconds in (9, 11))
    assert list_ids(client, f"?after={near}") == [event_id]
    assert list_ids(client, f"?after={far}") == []


@pytest.mark.parametrize(("after", "count"), [("evt_" + "0" * 26, 1), ("evt_7" + "Z" * 25, 0)])
def test_places_at_the_ends_of_time_are_understood(
    client: FlaskClient, services: Services, after: str, count: int
) -> None:
    record_events(services, 1)
    assert len(list_ids(client, f"?after={after}")) == count


# ── what is refused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("limit", bad) for bad in ("0", "101", "ten", "1.5")],
        *[("type", bad) for bad in ("job", "job.*", "JOB.FAILED", "%00")],
        *[("undelivered", bad) for bad in ("yes", "1", "TRUE", "")],
        *[("after", bad) for bad in ("", "x", "job_01K5Z8M3V7Q2X9T4B6N8R0WYCD", "evt_8" + "Z" * 25, f"{SOME_ID}%0A")],
        ("cursor", SOME_ID),
    ],
)
def test_bad_query_is_refused_by_its_name(shared_client: FlaskClient, field: str, text: str) -> None:
    answer = shared_client.get(f"/v1/events?{field}={text}")
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["query"]) == [field]


def test_unknown_type_is_told_what_is_known(shared_client: FlaskClient) -> None:
    detail = shared_client.get("/v1/events?type=job.done").get_json()["detail"]
    assert "job.succeeded" in detail
    assert "batch.finished" in detail


# ── Prefer: wait=N ──────────────────────────────────────────────────────────────────────────────────────


def test_wait_ends_as_soon_as_somebody_else_writes_an_event(ledger: Ledger, dispatcher: RecordingDispatcher) -> None:
    clock, pages = TellingClock(), []
    services = build_test_services(ledger, dispatcher, clock)  # type: ignore[arg-type]
    client = create_app(services).test_client()
    reader = threading.Thread(target=lambda: pages.append(list_page(client, wait=25)))
    reader.start()
    assert clock.asleep.acquire(timeout=10)
    [event_id] = record_events(services, 1)
    reader.join(10)
    assert not reader.is_alive()
    assert pages[0]["next_cursor"] == event_id


def test_wait_that_was_kept_is_told_so(client: FlaskClient, services: Services, clock: ActingClock) -> None:
    clock.on_sleep = lambda: record_events(services, 1)
    answer = client.get("/v1/events", headers={"Prefer": "wait=7"})
    assert (len(answer.get_json()["items"]), answer.headers["Preference-Applied"]) == (1, "wait=7")
    assert "Retry-After" not in answer.headers


def test_wait_for_nothing_is_kept_to_its_end(client: FlaskClient, clock: ActingClock) -> None:
    began = clock.monotonic()
    answer = client.get("/v1/events", headers={"Prefer": "wait=7"})
    assert (answer.get_json()["items"], answer.headers["Preference-Applied"]) == ([], "wait=7")
    assert clock.monotonic() - began == pytest.approx(7)


def test_nobody_waits_for_what_is_there(client: FlaskClient, services: Services, clock: ActingClock) -> None:
    record_events(services, 1)
    began = clock.monotonic()
    assert len(list_page(client, wait=25)["items"]) == 1
    assert clock.monotonic() == began


def test_reader_without_a_seat_is_told_when_to_come_back(ledger: Ledger, dispatcher: RecordingDispatcher) -> None:
    """Half of the threads may wait: of one thread, one."""
    clock, answers = ActingClock(), []
    services = build_test_services(ledger, dispatcher, clock, THUMBS_WEB_THREADS="1")
    client = create_app(services).test_client()
    clock.on_sleep = lambda: answers.append(client.get("/v1/events", headers={"Prefer": "wait=1"}))
    assert client.get("/v1/events", headers={"Prefer": "wait=1"}).headers["Preference-Applied"] == "wait=1"
    assert {answer.headers.get("Preference-Applied") for answer in answers} == {None}
    assert {answer.headers["Retry-After"] for answer in answers} == {"1"}


def test_reader_is_answered_when_the_process_stops(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: ActingClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock)
    client = create_app(services, is_stopping=lambda: True).test_client()
    answer = client.get("/v1/events", headers={"Prefer": "wait=25"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (200, "1")
    assert "Preference-Applied" not in answer.headers
