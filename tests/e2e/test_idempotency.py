"""Keys that make a repeated request harmless, deleting, and refusing when too much waits."""

import json
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ulid import ULID

from tests.e2e.conftest import FAST
from tests.support.exchanges import Exchange, Reply
from tests.support.images import build_photo, encode
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import Answer, Stack, wait_until

PNG = encode(build_photo(), "PNG")
REQUEST_COUNT = 50
GATE_SECONDS = 15.0


def post_with_key(stack: Stack, key: str, **body: Any) -> Answer:
    """Post a job with an Idempotency-Key."""
    return stack.request("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})


def start_hanging_job(stack: Stack, source: SourceServer) -> str:
    """Submit a job whose source does not answer, and wait until it runs; returns its id."""
    seen = len(source.requests)
    job_id = str(stack.submit(source_url=source.script("/hang", Exchange.wait))["id"])
    source.wait_for(seen + 1)
    return job_id


def test_fifty_identical_requests_at_once_make_one_job(stack: Stack, source: SourceServer, receiver: Receiver) -> None:
    key, url = str(ULID()), source.serve("/i", PNG)
    with ThreadPoolExecutor(REQUEST_COUNT) as pool:
        calls = [
            pool.submit(post_with_key, stack, key, source_url=url, callback_url=receiver.url())
            for _ in range(REQUEST_COUNT)
        ]
    answers = [call.result() for call in calls]
    assert Counter(answer.status for answer in answers) == {202: 1, 200: REQUEST_COUNT - 1}
    [job_id] = {answer.json()["id"] for answer in answers}
    stack.wait_for_callback(job_id, "delivered")
    assert (len(source.requests), len(receiver.requests)) == (1, 1)


def test_same_key_and_body_answer_the_first_job_as_it_is_now(stack: Stack, source: SourceServer) -> None:
    key, url = str(ULID()), source.serve("/i", PNG)
    first = post_with_key(stack, key, source_url=url)
    assert (first.status, first.headers.get("Idempotent-Replayed")) == (202, None)
    job = stack.wait_for_job(first.json()["id"])
    again = post_with_key(stack, key, source_url=url, width=100)
    assert (again.status, again.headers["Idempotent-Replayed"]) == (200, "true")
    assert again.json() == job
    assert again.headers["Location"] == first.headers["Location"]


def test_same_key_with_another_body_is_refused(stack: Stack, source: SourceServer) -> None:
    key, url = str(ULID()), source.serve("/i", PNG)
    assert post_with_key(stack, key, source_url=url).status == 202
    answer = post_with_key(stack, key, source_url=url, width=50)
    assert (answer.status, answer.json()["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("key", ["", "k" * 256])
def test_key_of_wrong_length_is_refused(stack: Stack, source: SourceServer, key: str) -> None:
    answer = post_with_key(stack, key, source_url=source.url("/i"))
    assert (answer.status, answer.json()["code"]) == (422, "validation_failed")
    assert list(answer.json()["errors"]) == ["headers"]


def test_refused_request_leaves_its_key_unused(stack: Stack, source: SourceServer) -> None:
    key = str(ULID())
    assert post_with_key(stack, key, source_url="http://10.0.0.1/").status == 422
    assert post_with_key(stack, key, source_url=source.serve("/i", PNG)).status == 202


def test_deleted_queued_job_is_cancelled_and_the_webhook_says_so(
    stack: Stack, source: SourceServer, receiver: Receiver
) -> None:
    """It waits for its second run, after a source that asked for patience."""
    job = stack.submit(source_url=source.url("/status/503?retry_after=30"), callback_url=receiver.url())
    wait_until(lambda: stack.get_job(job["id"])["run_count"] == 1, 10)
    wait_until(lambda: stack.get_job(job["id"])["status"] == "queued", 10)
    assert stack.request("DELETE", f"/v1/jobs/{job['id']}").status == 204
    told = stack.get_job(job["id"])
    assert (told["status"], told["error"]["code"]) == ("failed", "cancelled")
    [request] = receiver.wait_for(1, timeout_seconds=20)
    event = json.loads(request.body)
    assert (event["type"], event["data"]["job"]["error"]["code"]) == ("job.failed", "cancelled")


def test_running_job_is_not_deleted(stack: Stack, source: SourceServer) -> None:
    job_id = start_hanging_job(stack, source)
    answer = stack.request("DELETE", f"/v1/jobs/{job_id}")
    assert (answer.status, answer.json()["code"]) == (409, "conflict")
    assert stack.get_job(job_id)["status"] == "running"


def test_deleted_final_job_is_forgotten_with_its_thumbnail_and_key(stack: Stack, source: SourceServer) -> None:
    key, url = str(ULID()), source.serve("/i", PNG)
    job = stack.wait_for_job(post_with_key(stack, key, source_url=url).json()["id"])
    assert stack.request("GET", job["thumbnail"]["url"]).status == 200
    path = f"/v1/jobs/{job['id']}"
    assert stack.request("DELETE", path).status == 204
    assert [stack.request(method, path).status for method in ("GET", "DELETE")] == [404, 404]
    assert stack.request("GET", job["thumbnail"]["url"]).status == 404
    assert post_with_key(stack, key, source_url=url).json()["id"] != job["id"]


def test_too_many_waiting_jobs_are_refused_until_there_is_room(tmp_path: Path, source: SourceServer) -> None:
    """Two are at work, four wait; a batch that does not fit is refused whole, a replay is not."""
    settings = {"THUMBS_MAX_QUEUED_JOBS": "4", "THUMBS_WORKER_THREADS": "2", "THUMBS_FETCH_TIMEOUT_SECONDS": "20"}
    is_open = threading.Event()
    url = serve_when(source, is_open)
    with Stack(tmp_path / "var", **FAST | settings) as stack:
        jobs = [stack.submit(source_url=f"{url}?n={number}") for number in range(2)]
        source.wait_for(2)
        jobs += [post_with_key(stack, f"key {number}", source_url=url).json() for number in range(4)]
        answer = wait_until(lambda: _if_refused(stack.request("POST", "/v1/jobs", json={"source_url": url})), 5)
        assert (answer.json()["code"], answer.headers["Retry-After"]) == ("overloaded", "30")
        assert stack.request("POST", "/v1/batches", json={"jobs": [{"source_url": url}]}).status == 503
        assert post_with_key(stack, "key 0", source_url=url).status == 200
        is_open.set()
        assert {stack.wait_for_job(job["id"])["status"] for job in jobs} == {"succeeded"}
        wait_until(lambda: stack.request("POST", "/v1/jobs", json={"source_url": url}).status == 202, 5)


def serve_when(source: SourceServer, is_open: threading.Event) -> str:
    """Serve a picture as soon as the event is set, and return its URL."""

    def answer(exchange: Exchange) -> None:
        is_open.wait(GATE_SECONDS)
        exchange.reply(Reply(200, PNG, {"Content-Type": "image/png"}))

    return source.script("/gated", answer)


def _if_refused(answer: Answer) -> Answer | None:
    return answer if answer.status == 503 else None
