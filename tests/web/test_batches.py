"""/v1/batches, Idempotency-Key, and DELETE: several jobs or none, the same request once, and what can be taken back."""

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import PICTURE, accept, build_test_services, get_callback, get_job, record_delivery
from tests.web.conftest import ActingClock
from thumbs.domain import JobStatus
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services
from thumbs.web import create_app

BODY = {"source_url": "https://img.example/cat.jpg"}


def write_batch(count: int, **changes: Any) -> dict[str, Any]:
    return {"jobs": [{"source_url": f"https://img.example/{number}.jpg"} for number in range(count)]} | changes


# ── batches ─────────────────────────────────────────────────────────────────────────────────────────────


def test_batch_is_accepted_in_the_order_in_which_it_was_sent(
    client: FlaskClient, services: Services, dispatcher: RecordingDispatcher
) -> None:
    answer = client.post("/v1/batches", json=write_batch(20))
    ids = [job["id"] for job in answer.get_json()["jobs"]]
    assert (answer.status_code, answer.get_json()["status"]) == (202, "running")
    assert answer.headers["Location"] == f"http://localhost/v1/batches/{answer.get_json()['id']}"
    assert [job_id for job_id, _ in dispatcher.processed] == ids
    urls = [get_job(services, job_id).source_url for job_id in ids]
    assert urls == [job["source_url"] for job in write_batch(20)["jobs"]]


def test_batch_with_one_bad_url_is_refused_whole(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    body = {"jobs": [BODY, {"source_url": "http://10.0.0.1/"}]}
    answer = client.post("/v1/batches", json=body)
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (422, ["jobs.1.source_url"])
    assert client.get("/v1/jobs").get_json()["items"] == []
    assert dispatcher.processed == []


@pytest.mark.parametrize("body", [{}, {"jobs": []}, {"jobs": [BODY] * 101}, {"jobs": BODY}, {"jobs": [1]}])
def test_batch_has_1_to_100_jobs(shared_client: FlaskClient, body: dict[str, Any]) -> None:
    answer = shared_client.post("/v1/batches", json=body)
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (422, ["jobs"])


def test_batch_ends_with_its_last_job_and_tells_it_once(
    client: FlaskClient, services: Services, dispatcher: RecordingDispatcher
) -> None:
    batch = client.post("/v1/batches", json=write_batch(2, callback_url="https://app.example/hooks")).get_json()
    first, last = (job["id"] for job in batch["jobs"])
    process(services, first)
    assert (client.get(f"/v1/batches/{batch['id']}").get_json()["status"], dispatcher.delivered) == ("running", [])
    process(services, last)
    assert client.get(f"/v1/batches/{batch['id']}").get_json()["status"] == "finished"
    assert len(dispatcher.delivered) == 1


def test_unknown_batch_is_404(shared_client: FlaskClient) -> None:
    assert shared_client.get("/v1/batches/bat_x").status_code == 404


# ── Idempotency-Key ─────────────────────────────────────────────────────────────────────────────────────


def post(client: FlaskClient, body: dict[str, Any], key: str, path: str = "/v1/jobs") -> Any:
    return client.post(path, json=body, headers={"Idempotency-Key": key})


def test_same_key_and_body_lead_to_the_same_job(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    first, second = post(client, BODY, "k1"), post(client, BODY | {"width": 100}, "k1")
    assert (first.status_code, second.status_code) == (202, 200)
    assert first.get_json() == second.get_json()
    assert ("Idempotent-Replayed" in first.headers, second.headers["Idempotent-Replayed"]) == (False, "true")
    assert len(dispatcher.processed) == 1


def test_same_key_with_another_body_is_refused(client: FlaskClient) -> None:
    post(client, BODY, "k1")
    answer = post(client, BODY | {"width": 50}, "k1")
    assert (answer.status_code, answer.get_json()["code"]) == (422, "idempotency_key_reused")


def test_key_can_be_used_again_after_24_hours(client: FlaskClient, clock: ActingClock) -> None:
    first = post(client, BODY, "k1")
    clock.move(24 * 3600)
    assert post(client, BODY, "k1").get_json()["id"] != first.get_json()["id"]


def test_same_key_and_batch_lead_to_the_same_batch(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    first, second = (post(client, write_batch(2), "k1", "/v1/batches") for _ in range(2))
    assert (second.status_code, second.get_json()) == (200, first.get_json())
    assert len(dispatcher.processed) == 2


def test_refused_request_does_not_use_its_key_up(client: FlaskClient) -> None:
    assert post(client, {"source_url": "http://10.0.0.1/"}, "k1").status_code == 422
    assert post(client, BODY, "k1").status_code == 202


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_key_has_1_to_255_characters(shared_client: FlaskClient, key: str) -> None:
    answer = post(shared_client, BODY, key)
    assert (answer.status_code, list(answer.get_json()["errors"]["headers"])) == (422, ["Idempotency-Key"])


# ── a queue that is full ────────────────────────────────────────────────────────────────────────────────


def test_job_too_many_is_503_with_when_to_come_back(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: ActingClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_MAX_QUEUED_JOBS="2")
    client = create_app(services).test_client()
    dispatcher.waiting_jobs = 2
    answer = client.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.get_json()["code"]) == (503, "overloaded")
    assert answer.headers["Retry-After"] == "30"


# ── DELETE ──────────────────────────────────────────────────────────────────────────────────────────────


def test_queued_job_is_cancelled_and_its_caller_is_told(client: FlaskClient, services: Services) -> None:
    job = accept(services)
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
    told = client.get(f"/v1/jobs/{job.id}").get_json()
    assert (told["status"], told["error"]["code"], told["callback"]["status"]) == ("failed", "cancelled", "pending")
    assert get_callback(services, job.id).url == job.callback_url


def test_cancelled_job_never_ran(client: FlaskClient, services: Services) -> None:
    job = accept(services)
    client.delete(f"/v1/jobs/{job.id}")
    told = client.get(f"/v1/jobs/{job.id}").get_json()
    process(services, job.id)
    assert client.get(f"/v1/jobs/{job.id}").get_json() == told


def test_final_job_is_forgotten_with_its_thumbnail(client: FlaskClient, services: Services) -> None:
    job = get_job(services, record_delivery(services, public_url="http://localhost").job_id)
    url = client.get(f"/v1/jobs/{job.id}").get_json()["thumbnail"]["url"]
    assert client.get(url).data == PICTURE.body
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert (client.get(f"/v1/jobs/{job.id}").status_code, client.get(url).status_code) == (404, 404)
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 404


def test_running_job_cannot_be_deleted(client: FlaskClient, services: Services) -> None:
    job = accept(services)
    services.ledger.jobs.lease(services.new_lease(job.id, services.clock.now()), services.clock.now())
    answer = client.delete(f"/v1/jobs/{job.id}")
    assert (answer.status_code, answer.get_json()["code"]) == (409, "conflict")
    assert get_job(services, job.id).status is JobStatus.RUNNING
