"""/v1/deliveries: what became of every webhook, lists of them, and sending one again."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.builders import record_ended_job
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, build_answer, get_callback, meanwhile, record_delivery
from tests.web.calls import check_refused, end_job, list_deliveries, register, register_foreign
from tests.web.conftest import ActingClock
from thumbs.deliver import deliver
from thumbs.domain import Delivery
from thumbs.services import Services

CALLBACK = "https://app.example/hooks"
SOME_ULID = "01K5Z8M3V7Q2X9T4B6N8R0WYCD"
UNKNOWN = f"dlv_{SOME_ULID}"
FIELDS = {"id", "event_id", "job_id", "endpoint_id", "url", "status", "reason", "attempt_count", "next_attempt_at"}
FIELDS |= {"delivered_at", "attempts"}


def list_ids(client: FlaskClient, query: str = "") -> list[str]:
    return [delivery["id"] for delivery in list_deliveries(client, query)]


def redeliver(client: FlaskClient, delivery_id: str) -> dict[str, Any]:
    answer = client.post(f"/v1/deliveries/{delivery_id}/redeliver")
    assert answer.status_code == 202, answer.get_json()
    told: dict[str, Any] = answer.get_json()
    return told


def get_told(client: FlaskClient, delivery: Delivery) -> dict[str, Any]:
    told: dict[str, Any] = client.get(f"/v1/deliveries/{delivery.id}").get_json()
    return told


@pytest.fixture
def delivery(services: Services) -> Delivery:
    """The delivery to a job's callback, due now."""
    return record_delivery(services)


# ── one delivery ────────────────────────────────────────────────────────────────────────────────────────


def test_delivery_is_told_as_in_the_list_of_its_job(client: FlaskClient, services: Services) -> None:
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    told = get_told(client, delivery)
    assert client.get(f"/v1/jobs/{delivery.job_id}/deliveries").get_json()["items"] == [told]
    assert list_deliveries(client) == [told]
    assert (told["status"], told["url"], told["endpoint_id"]) == ("delivered", CALLBACK, None)


def test_delivery_tells_nothing_of_how_it_is_made(client: FlaskClient, delivery: Delivery) -> None:
    assert set(get_told(client, delivery)) == FIELDS


@pytest.mark.parametrize("query", ["?", "?endpoint_id=callbacks"])
def test_attempts_are_told_in_their_order(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, clock: ActingClock, query: str
) -> None:
    outbound.on_post = lambda: build_answer(500, b"no")
    delivery = record_delivery(services)
    for _ in range(3):
        deliver(services, delivery.id)
        clock.move(3_600)
    [told] = list_deliveries(client, query)
    assert [(each["number"], each["http_status"], each["trigger"]) for each in told["attempts"]] == [
        (number, 500, "auto") for number in (1, 2, 3)
    ]


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", "/redeliver")])
def test_delivery_that_is_not_there_is_404(client: FlaskClient, services: Services, method: str, path: str) -> None:
    _, _, foreign_id = register_foreign(services)
    for delivery_id in (UNKNOWN, foreign_id, "x", "%00", "%ED%A0%80"):
        answer = client.open(f"/v1/deliveries/{delivery_id}{path}", method=method)
        assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


# ── lists ───────────────────────────────────────────────────────────────────────────────────────────────


def test_cursor_goes_on_where_the_page_ended(client: FlaskClient, services: Services) -> None:
    ids = [record_delivery(services).id for _ in range(5)][::-1]
    seen: list[str] = []
    query: str | None = "?limit=2"
    while query is not None:
        page: dict[str, Any] = client.get(f"/v1/deliveries{query}").get_json()
        seen += [delivery["id"] for delivery in page["items"]]
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else None
    assert seen == ids


def test_list_is_20_long_unless_another_length_is_asked_for(client: FlaskClient, services: Services) -> None:
    for _ in range(21):
        record_delivery(services)
    assert (len(list_ids(client)), len(list_ids(client, "?limit=100"))) == (20, 21)


def test_list_can_be_filtered_by_status(client: FlaskClient, services: Services) -> None:
    done, waiting = record_delivery(services), record_delivery(services)
    deliver(services, done.id)
    assert list_ids(client, "?status=delivered") == [done.id]
    assert list_ids(client, "?status=pending") == [waiting.id]
    assert list_ids(client, "?status=failed") == []


def test_list_can_be_filtered_by_endpoint_and_by_job(client: FlaskClient, services: Services) -> None:
    endpoint_id = register(client, event_types=["job.*"])["id"]
    job_ids = [end_job(services, callback_url=CALLBACK) for _ in range(2)]
    callback_ids = [get_callback(services, job_id).id for job_id in job_ids]
    assert list_ids(client, "?endpoint_id=callbacks") == callback_ids[::-1]
    assert len(list_ids(client, f"?endpoint_id={endpoint_id}")) == 2 + 1  # The ping, too.
    assert len(list_ids(client, f"?job_id={job_ids[0]}")) == 2
    assert list_ids(client, f"?job_id={job_ids[0]}&endpoint_id=callbacks&status=pending") == callback_ids[:1]


def test_another_accounts_deliveries_are_not_told(client: FlaskClient, services: Services) -> None:
    _, endpoint_id, _ = register_foreign(services)
    job_id = record_ended_job(services.ledger).job.id
    queries = ("", f"?endpoint_id={endpoint_id}", f"?job_id={job_id}", "?endpoint_id=callbacks")
    assert [list_ids(client, query) for query in queries] == [[]] * 4


@pytest.mark.parametrize(
    ("field", "text"),
    [
        *[("limit", bad) for bad in ("0", "101", "ten")],
        *[("status", bad) for bad in ("done", "PENDING", "")],
        *[("endpoint_id", bad) for bad in ("", "x", "Callbacks", "callbacks%0A", "%00", f"job_{SOME_ULID}")],
        *[("job_id", bad) for bad in ("", "x", "%00", f"ep_{SOME_ULID}", f"job_{SOME_ULID}%0A")],
        *[("cursor", bad) for bad in ("x", "%00")],
        ("event_id", f"evt_{SOME_ULID}"),
    ],
)
def test_bad_query_is_refused_by_its_name(shared_client: FlaskClient, field: str, text: str) -> None:
    answer = shared_client.get(f"/v1/deliveries?{field}={text}")
    assert (answer.status_code, list(answer.get_json()["errors"]["query"])) == (422, [field])


# ── redeliver ───────────────────────────────────────────────────────────────────────────────────────────


def test_redelivery_is_due_and_on_the_queue_at_once(
    client: FlaskClient, services: Services, delivery: Delivery, dispatcher: RecordingDispatcher
) -> None:
    deliver(services, delivery.id)
    dispatcher.delivered.clear()
    told = redeliver(client, delivery.id)
    asked = get_callback(services, delivery.job_id)
    assert (asked.status, asked.trigger, asked.next_attempt_at) == ("pending", "manual", services.clock.now())
    assert (told["status"], told["attempt_count"], len(told["attempts"])) == ("pending", 1, 1)
    assert [delivery_id for delivery_id, _ in dispatcher.delivered] == [delivery.id]


def test_redelivery_sends_the_same_id_and_bytes(
    client: FlaskClient, services: Services, delivery: Delivery, outbound: ScriptedOutbound
) -> None:
    deliver(services, delivery.id)
    redeliver(client, delivery.id)
    deliver(services, delivery.id)
    first, second = outbound.posted
    assert (second.body, second.headers["webhook-id"]) == (first.body, first.headers["webhook-id"])
    assert [each["trigger"] for each in get_told(client, delivery)["attempts"]] == ["auto", "manual"]


def test_redelivery_that_fails_takes_nothing_back(
    client: FlaskClient, services: Services, delivery: Delivery, outbound: ScriptedOutbound
) -> None:
    deliver(services, delivery.id)
    before = get_told(client, delivery)
    outbound.on_post = lambda: build_answer(500)
    redeliver(client, delivery.id)
    deliver(services, delivery.id)
    after = get_told(client, delivery)
    assert (after["status"], after["delivered_at"]) == ("delivered", before["delivered_at"])
    assert (after["next_attempt_at"], after["attempt_count"]) == (None, 2)


def test_redelivery_says_nothing_about_its_receiver(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    endpoint = register(client)
    [ping] = list_deliveries(client)
    outbound.on_post = lambda: build_answer(500)
    for _ in range(6):
        redeliver(client, ping["id"])
        deliver(services, ping["id"])
    assert client.get(f"/v1/endpoints/{endpoint['id']}").get_json()["health"] == "ok"


def test_redelivery_in_between_leaves_the_schedule_where_it_is(
    client: FlaskClient, services: Services, delivery: Delivery, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(500)
    deliver(services, delivery.id)
    before = get_told(client, delivery)
    redeliver(client, delivery.id)
    deliver(services, delivery.id)
    after = get_told(client, delivery)
    assert (after["status"], after["next_attempt_at"]) == ("pending", before["next_attempt_at"])


def test_delivery_that_is_being_sent_is_409(
    client: FlaskClient, services: Services, delivery: Delivery, outbound: ScriptedOutbound
) -> None:
    answers, path = [], f"/v1/deliveries/{delivery.id}/redeliver"
    outbound.on_post = meanwhile(lambda: answers.append(client.post(path)), build_answer)
    deliver(services, delivery.id)
    [answer] = answers
    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
    assert get_callback(services, delivery.job_id).status == "delivered"


def test_delivery_to_a_deleted_endpoint_is_410(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    endpoint_id = register(client)["id"]
    [delivery_id] = list_ids(client)
    client.delete(f"/v1/endpoints/{endpoint_id}")
    dispatcher.delivered.clear()
    answer = client.post(f"/v1/deliveries/{delivery_id}/redeliver")
    assert (answer.status_code, answer.get_json()["code"]) == (410, "gone")
    assert dispatcher.delivered == []
    assert list_deliveries(client)[0]["status"] == "failed"


def test_delivery_to_a_disabled_endpoint_can_be_sent_again(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    endpoint_id = register(client, event_types=["job.*"])["id"]
    client.post(f"/v1/endpoints/{endpoint_id}/disable")
    job_id = end_job(services)
    [missed] = list_deliveries(client, f"?job_id={job_id}")
    client.post(f"/v1/deliveries/{missed['id']}/redeliver")
    deliver(services, missed["id"])
    assert list_deliveries(client, f"?job_id={job_id}")[0]["status"] == "delivered"


def test_redelivery_has_no_body(shared_client: FlaskClient) -> None:
    path = f"/v1/deliveries/{UNKNOWN}/redeliver"
    check_refused(shared_client.post(path, json={"url": "https://other.example/"}), "url")
    assert shared_client.post(path, json={}).status_code == 404
