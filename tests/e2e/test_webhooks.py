"""Endpoints end to end: registered, told, disabled and recovered; receivers that hang do not hold up the others."""

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.support.exchanges import Request
from tests.support.images import build_photo, encode
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Stack, wait_until

Register = Callable[..., dict[str, Any]]


@pytest.fixture
def photo(source: SourceServer) -> str:
    """The URL of an image."""
    return source.serve("/photo.jpg", encode(build_photo(), "JPEG"), content_type="image/jpeg")


@pytest.fixture
def register(stack: Stack) -> Iterator[Register]:
    """Registers an endpoint, which is deleted after the test: its account is every test's."""
    made: list[str] = []

    def register(url: str, **fields: Any) -> dict[str, Any]:
        answer = stack.request("POST", "/v1/endpoints", json={"url": url, **fields})
        assert answer.status == 201, answer.body
        endpoint: dict[str, Any] = answer.json()
        made.append(endpoint["id"])
        return endpoint

    yield register
    for endpoint_id in made:
        assert stack.request("DELETE", f"/v1/endpoints/{endpoint_id}").status == 204


def wait_for_type(receiver: Receiver, kind: str, count: int = 1) -> list[Request]:
    """Wait until so many different events of the type have come."""

    def find() -> list[Request] | None:
        events = {read_event(each)["id"]: each for each in receiver.requests if read_event(each)["type"] == kind}
        return list(events.values()) if len(events) >= count else None

    return wait_until(find, 20)


def read_event(request: Request) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(request.body)
    return event


def post(stack: Stack, path: str, status: int, **body: Any) -> dict[str, Any]:
    answer = stack.request("POST", path, json=body)
    assert answer.status == status, answer.body
    document: dict[str, Any] = answer.json()
    return document


def test_endpoint_is_pinged_and_then_told_of_every_job(
    stack: Stack, photo: str, receiver: Receiver, register: Register
) -> None:
    endpoint = register(receiver.url("/hooks"), headers={"X-Team": "shop"})
    [ping] = wait_for_type(receiver, "ping")
    job = stack.submit(source_url=photo)
    [told] = wait_for_type(receiver, "job.succeeded")
    assert read_event(told)["data"]["job"]["id"] == job["id"]
    for request in (ping, told):
        assert Webhook(endpoint["secret"]).verify(request.body, dict(request.headers))
        assert request.headers["x-team"] == "shop"


def test_callback_that_is_an_endpoint_too_is_told_once_and_signed_with_both_secrets(
    stack: Stack, photo: str, receiver: Receiver, register: Register
) -> None:
    endpoint = register(receiver.url("/hooks"))
    job = stack.submit(source_url=photo, callback_url=receiver.url("/hooks"))
    [told] = wait_for_type(receiver, "job.succeeded")
    stack.wait_for_callback(job["id"], "delivered")
    assert len(stack.list_deliveries(job["id"])) == 1
    for secret in (endpoint["secret"], stack.read_secret()):
        assert Webhook(secret).verify(told.body, dict(told.headers))


def test_disabled_is_not_lost(stack: Stack, photo: str, receiver: Receiver, register: Register) -> None:
    """Disable, go on making events, enable, recover, and count."""
    endpoint = register(receiver.url("/hooks"))
    wait_for_type(receiver, "ping")
    post(stack, f"/v1/endpoints/{endpoint['id']}/disable", 200)
    jobs = [stack.wait_for_job(stack.submit(source_url=photo)["id"]) for _ in range(4)]
    listed = stack.request("GET", f"/v1/deliveries?endpoint_id={endpoint['id']}&status=failed").json()["items"]
    assert [each["reason"] for each in listed] == ["endpoint_disabled"] * 4
    assert len(receiver.requests) == 1
    post(stack, f"/v1/endpoints/{endpoint['id']}/enable", 200)
    since = jobs[0]["created_at"]
    assert post(stack, f"/v1/endpoints/{endpoint['id']}/recover", 202, since=since) == {"matched": 4}
    told = wait_for_type(receiver, "job.succeeded", 4)
    assert {read_event(each)["data"]["job"]["id"] for each in told} == {job["id"] for job in jobs}


def test_gone_disables_an_endpoint_and_tells_the_others(
    stack: Stack, photo: str, receiver: Receiver, register: Register
) -> None:
    with Receiver() as leaving:
        endpoint = register(leaving.url("/hooks"), event_types=["job.*"])
        register(receiver.url("/hooks"), event_types=["endpoint.*"])
        wait_for_type(leaving, "ping")
        leaving.answer_with(410)
        stack.submit(source_url=photo)
        [told] = wait_for_type(receiver, "endpoint.disabled")
    assert read_event(told)["data"]["endpoint"]["id"] == endpoint["id"]
    now = stack.request("GET", f"/v1/endpoints/{endpoint['id']}").json()
    assert (now["status"], now["disabled_reason"]) == ("disabled", "gone")


def test_redelivery_sends_the_same_bytes_under_the_same_id(stack: Stack, photo: str, receiver: Receiver) -> None:
    job = stack.submit(source_url=photo, callback_url=receiver.url("/hooks"))
    stack.wait_for_callback(job["id"], "delivered")
    [delivery] = stack.list_deliveries(job["id"])
    post(stack, f"/v1/deliveries/{delivery['id']}/redeliver", 202)
    first, second = receiver.wait_for(2)
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    wait_until(lambda: stack.list_deliveries(job["id"])[0]["status"] == "delivered", 10)
    attempts = stack.list_deliveries(job["id"])[0]["attempts"]
    assert [each["trigger"] for each in attempts] == ["auto", "manual"]


def test_rotated_secret_of_callbacks_signs_beside_the_old_one(stack: Stack, photo: str, receiver: Receiver) -> None:
    old = stack.read_secret()
    new = post(stack, "/v1/endpoints/callbacks/rotate-secret", 200, grace_seconds=600)["secret"]
    stack.submit(source_url=photo, callback_url=receiver.url("/hooks"))
    [told] = receiver.wait_for(1, timeout_seconds=20)
    for secret in (old, new):
        assert Webhook(secret).verify(told.body, dict(told.headers))


def test_receivers_that_hang_do_not_hold_up_one_that_answers(
    stack: Stack, photo: str, receiver: Receiver, register: Register
) -> None:
    """Eight of them in one account: as many as it has slots."""
    with ExitStack() as stop:
        for _ in range(8):
            hanging = stop.enter_context(Receiver())
            hanging.hang()
            register(hanging.url("/hooks"))
        for _ in range(5):
            stack.wait_for_job(stack.submit(source_url=photo, callback_url=receiver.url("/hooks"))["id"])
        told = wait_for_type(receiver, "job.succeeded", 5)
    assert len(told) == 5


def test_receiver_behind_a_firewall_reads_events_as_they_come(stack: Stack, photo: str) -> None:
    newest = stack.request("GET", "/v1/events?limit=100").json()["next_cursor"]
    while page := stack.request("GET", f"/v1/events?after={newest}&limit=100").json()["items"]:
        newest = page[-1]["id"]
    job = stack.submit(source_url=photo)
    answer = stack.request("GET", f"/v1/events?after={newest}", headers={"Prefer": "wait=20"})
    [event] = answer.json()["items"]
    assert (event["type"], event["data"]["job"]["id"]) == ("job.succeeded", job["id"])


def test_callers_who_have_left_keep_no_seat(stack: Stack, photo: str) -> None:
    """At most half of the threads wait at once: more than that wait for what never comes, and go."""
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", stack.port)) as caller:
            caller.sendall(b"GET /v1/events?type=endpoint.failing HTTP/1.1\r\nHost: x\r\nPrefer: wait=25\r\n\r\n")

    def is_waited_for() -> bool:
        job = stack.request("POST", "/v1/jobs", json={"source_url": photo}, headers={"Prefer": "wait=10"}).json()
        return bool(job["status"] == "succeeded")

    wait_until(is_waited_for, 5)
