"""/v1/endpoints/{id}/…: what enabling, pinging, rotating and recovering do; and whose endpoints they are."""

from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.builders import NOW
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, build_answer
from tests.web.calls import check_refused, end_job, find_deliveries, list_deliveries, register, register_foreign
from tests.web.conftest import ActingClock
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver
from thumbs.documents import format_moment
from thumbs.domain import Delivery
from thumbs.services import Services
from thumbs.signing import SignatureInvalid, verify

UNKNOWN = "ep_01K5Z8M3V7Q2X9T4B6N8R0WYCD"
SINCE = {"since": "2026-11-23T10:00:00Z"}

CALLS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "get": ("GET", "", {}),
    "change": ("PATCH", "", {"json": {"description": "x"}}),
    "delete": ("DELETE", "", {}),
    "enable": ("POST", "/enable", {}),
    "disable": ("POST", "/disable", {}),
    "ping": ("POST", "/ping", {}),
    "rotate": ("POST", "/rotate-secret", {}),
    "recover": ("POST", "/recover", {"json": SINCE}),
}
BODIES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nothing as JSON": {"content_type": "application/json"},
    "nothing as a form": {"content_type": "application/x-www-form-urlencoded"},
    "an empty object": {"json": {}},
}
WITHOUT_BODY = ["enable", "disable", "ping", "rotate-secret"]

BAD_TIMES: dict[str, list[Any]] = {
    "since": [None, "", "yesterday", 1_764_000_000, "2026-11-23T10:15:30", "2026-99-01T00:00:00Z", ["x"]],
    "until": ["", "tomorrow", 7, "2026-11-23T10:15:30"],
    "limit": [10],
}


def call(client: FlaskClient, endpoint_id: str, action: str, **options: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/endpoints/{endpoint_id}/{action}", **options)
    assert answer.status_code in (200, 202), answer.get_json()
    told: dict[str, Any] = answer.get_json()
    return told


def list_mine(services: Services, endpoint_id: str) -> list[Delivery]:
    return find_deliveries(services, get_default_account(services).id, endpoint_id)


def miss_events(client: FlaskClient, services: Services, endpoint_id: str, count: int) -> list[str]:
    """Let events happen while the endpoint is disabled; returns their deliveries, oldest first."""
    call(client, endpoint_id, "disable")
    for _ in range(count):
        end_job(services)
    call(client, endpoint_id, "enable")
    return [delivery.id for delivery in list_mine(services, endpoint_id)[:count]][::-1]


# ── whose they are ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("whose", ["nobody's", "another's", "deleted"])
def test_endpoint_that_is_not_there_is_404(client: FlaskClient, services: Services, name: str, whose: str) -> None:
    method, path, options = CALLS[name]
    ids = {"nobody's": UNKNOWN, "another's": register_foreign(services)[1], "deleted": register(client)["id"]}
    client.delete(f"/v1/endpoints/{ids['deleted']}")
    answer = client.open(f"/v1/endpoints/{ids[whose]}{path}", method=method, **options)
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"rotate", "recover"}))
def test_callbacks_have_no_other_call_than_rotate_and_recover(shared_client: FlaskClient, name: str) -> None:
    method, path, options = CALLS[name]
    assert shared_client.open(f"/v1/endpoints/callbacks{path}", method=method, **options).status_code == 404


def test_nothing_is_done_to_another_accounts_endpoint(client: FlaskClient, services: Services) -> None:
    account, endpoint_id, _ = register_foreign(services)
    before = services.ledger.endpoints.find(endpoint_id), find_deliveries(services, account.id, endpoint_id)
    for method, path, options in CALLS.values():
        client.open(f"/v1/endpoints/{endpoint_id}{path}", method=method, **options)
    after = services.ledger.endpoints.find(endpoint_id), find_deliveries(services, account.id, endpoint_id)
    assert after == before
    assert client.get("/v1/endpoints").get_json()["items"] == []


# ── bodies ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("action", WITHOUT_BODY)
@pytest.mark.parametrize("options", BODIES.values(), ids=BODIES)
def test_body_may_be_left_out(client: FlaskClient, action: str, options: dict[str, Any]) -> None:
    call(client, register(client)["id"], action, **options)


@pytest.mark.parametrize("action", WITHOUT_BODY)
def test_body_that_is_there_is_read(shared_client: FlaskClient, action: str) -> None:
    path = f"/v1/endpoints/{UNKNOWN}/{action}"
    check_refused(shared_client.post(path, json={"url": "https://other.example/"}), "url")
    assert shared_client.post(path, data="x", content_type="text/plain").status_code == 415
    assert shared_client.post(path, data="{", content_type="application/json").status_code == 400


# ── enable and disable ──────────────────────────────────────────────────────────────────────────────────


def test_disabled_endpoint_is_told_as_such_until_it_is_enabled(client: FlaskClient) -> None:
    endpoint = register(client)
    del endpoint["secret"]
    for _ in range(2):
        told = call(client, endpoint["id"], "disable")
        assert told == endpoint | {"status": "disabled", "disabled_reason": "manual"}
    for _ in range(2):
        assert call(client, endpoint["id"], "enable") == endpoint


def test_disabled_endpoint_is_not_sent_what_happens(
    client: FlaskClient, services: Services, dispatcher: RecordingDispatcher
) -> None:
    endpoint_id = register(client, event_types=["job.*"])["id"]
    call(client, endpoint_id, "disable")
    dispatcher.delivered.clear()
    job_id = end_job(services)
    [missed] = list_deliveries(client, f"?job_id={job_id}")
    assert (missed["status"], missed["reason"], missed["endpoint_id"]) == ("failed", "endpoint_disabled", endpoint_id)
    assert dispatcher.delivered == []


# ── ping ────────────────────────────────────────────────────────────────────────────────────────────────


def test_ping_is_one_attempt_that_is_not_repeated(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(500)
    ping = call(client, register(client)["id"], "ping")
    deliver(services, ping["delivery_id"])
    told = client.get(f"/v1/deliveries/{ping['delivery_id']}").get_json()
    assert (told["event_id"], told["status"], told["next_attempt_at"]) == (ping["event_id"], "failed", None)
    assert [attempt["trigger"] for attempt in told["attempts"]] == ["ping"]


def test_ping_works_while_the_endpoint_is_disabled(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, dispatcher: RecordingDispatcher
) -> None:
    endpoint_id = register(client)["id"]
    call(client, endpoint_id, "disable")
    ping = call(client, endpoint_id, "ping")
    assert dispatcher.delivered[-1][0] == ping["delivery_id"]
    deliver(services, ping["delivery_id"])
    assert outbound.posted[-1].headers["webhook-id"] == ping["event_id"]
    assert client.get(f"/v1/deliveries/{ping['delivery_id']}").get_json()["status"] == "delivered"


# ── rotate-secret ───────────────────────────────────────────────────────────────────────────────────────


def test_rotated_secret_signs_and_the_one_before_does_until_its_time_is_up(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound, clock: ActingClock
) -> None:
    endpoint = register(client)
    rotated = call(client, endpoint["id"], "rotate-secret", json={"grace_seconds": 60})
    assert rotated["previous_expires_at"] == format_moment(NOW + timedelta(seconds=60))
    for seconds, old in ((0, endpoint["secret"]), (60, rotated["secret"])):
        clock.move(seconds)
        deliver(services, call(client, endpoint["id"], "ping")["delivery_id"])
        post = outbound.posted[-1]
        for secret in (old, rotated["secret"]):
            verify([secret], post.headers, post.body, now=clock.now())
    with pytest.raises(SignatureInvalid):
        verify([endpoint["secret"]], post.headers, post.body, now=clock.now())


def test_grace_is_a_day_unless_another_is_asked_for(client: FlaskClient) -> None:
    rotated = call(client, register(client)["id"], "rotate-secret")
    assert set(rotated) == {"secret", "previous_expires_at"}
    assert rotated["previous_expires_at"] == format_moment(NOW + timedelta(days=1))


@pytest.mark.parametrize("bad", [-1, 604_801, 1.5, "60", True, None, [], 10**400])
def test_bad_grace_is_refused_by_its_name(shared_client: FlaskClient, bad: Any) -> None:
    path = "/v1/endpoints/callbacks/rotate-secret"
    check_refused(shared_client.post(path, json={"grace_seconds": bad}), "grace_seconds")


@pytest.mark.parametrize("seconds", [0, 604_800])
def test_grace_is_0_seconds_to_a_week(client: FlaskClient, seconds: int) -> None:
    rotated = call(client, register(client)["id"], "rotate-secret", json={"grace_seconds": seconds})
    assert rotated["previous_expires_at"] == format_moment(NOW + timedelta(seconds=seconds))


def test_secret_of_the_callbacks_can_be_rotated(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    rotated = call(client, "callbacks", "rotate-secret", json={"grace_seconds": 0})
    end_job(services, callback_url="https://app.example/hooks")
    deliver(services, list_deliveries(client)[0]["id"])
    [post] = outbound.posted
    verify([rotated["secret"]], post.headers, post.body, now=services.clock.now())


# ── recover ─────────────────────────────────────────────────────────────────────────────────────────────


def test_recovery_makes_one_attempt_due_of_each_that_was_missed(client: FlaskClient, services: Services) -> None:
    """Ten a second, so that who comes back is not run over."""
    endpoint_id = register(client, event_types=["job.*"])["id"]
    missed = miss_events(client, services, endpoint_id, 3)
    assert call(client, endpoint_id, "recover", json=SINCE) == {"matched": 3}
    found = [delivery for delivery in list_mine(services, endpoint_id)[::-1] if delivery.id in missed]
    assert [(delivery.id, delivery.status, delivery.trigger) for delivery in found] == [
        (delivery_id, "pending", "recover") for delivery_id in missed
    ]
    gaps = [delivery.next_attempt_at - NOW for delivery in found if delivery.next_attempt_at]
    assert gaps == [timedelta(seconds=0.1 * number) for number in (0, 1, 2)]


def test_recovery_is_of_the_time_that_was_asked_for(
    client: FlaskClient, services: Services, clock: ActingClock
) -> None:
    endpoint_id = register(client)["id"]
    deliver(services, list_mine(services, endpoint_id)[0].id)
    moments = []
    for _ in range(3):
        clock.move(60)
        moments.append(format_moment(clock.now()))
        miss_events(client, services, endpoint_id, 1)
    clock.move(60)
    body = {"since": moments[1], "until": (moments[2] or "").replace(".123Z", ".122Z")}
    assert call(client, endpoint_id, "recover", json=body) == {"matched": 1}
    assert call(client, endpoint_id, "recover", json={"since": moments[2]}) == {"matched": 1}


def test_recovery_leaves_alone_what_was_delivered_and_what_is_due(client: FlaskClient, services: Services) -> None:
    endpoint_id = register(client)["id"]
    deliver(services, list_mine(services, endpoint_id)[0].id)
    end_job(services)
    assert call(client, endpoint_id, "recover", json=SINCE) == {"matched": 0}


def test_what_never_reached_a_callback_can_be_recovered(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.on_post = lambda: build_answer(410)
    register(client)
    end_job(services, callback_url="https://app.example/hooks")
    [gone] = list_deliveries(client, "?endpoint_id=callbacks")
    deliver(services, gone["id"])
    assert call(client, "callbacks", "recover", json=SINCE) == {"matched": 1}
    assert client.get(f"/v1/deliveries/{gone['id']}").get_json()["status"] == "pending"


def test_recovery_of_a_disabled_endpoint_is_409(client: FlaskClient) -> None:
    endpoint_id = register(client)["id"]
    call(client, endpoint_id, "disable")
    answer = client.post(f"/v1/endpoints/{endpoint_id}/recover", json=SINCE)
    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")


@pytest.mark.parametrize(("field", "bad"), [(field, bad) for field, values in BAD_TIMES.items() for bad in values])
def test_bad_time_is_refused_by_its_name(shared_client: FlaskClient, field: str, bad: Any) -> None:
    check_refused(shared_client.post("/v1/endpoints/callbacks/recover", json=SINCE | {field: bad}), field)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"since": "2026-11-23T10:15:30.123Z"},
        {"since": "2027-01-01T00:00:00Z"},
        {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"},
        {"since": "2026-01-01T00:00:00Z", "until": "2026-01-01T00:30:00+01:00"},
        {"since": "9999-12-31T23:59:59-23:59"},
    ],
)
def test_recovery_begins_before_it_ends(shared_client: FlaskClient, body: dict[str, str]) -> None:
    check_refused(shared_client.post("/v1/endpoints/callbacks/recover", json=body), "since", "validation_failed")


def test_times_at_the_ends_of_time_are_understood(client: FlaskClient) -> None:
    body = {"since": "0001-01-01T00:00:00+23:59", "until": "9999-12-31T23:59:59-23:59"}
    assert call(client, "callbacks", "recover", json=body) == {"matched": 0}
