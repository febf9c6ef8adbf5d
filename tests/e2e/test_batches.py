"""Batches: jobs that are accepted together or not at all, and one webhook after the last of them."""

from typing import Any

import pytest
from ulid import ULID

from tests.support.builders import build_account, build_new_job
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.images import build_photo, encode
from tests.support.servers import SourceServer
from tests.support.services import build_test_services
from tests.support.stack import Answer, Stack, wait_until
from thumbs.intake import accept_batch
from thumbs.ledger import Ledger
from thumbs.testing import WebhookReceiver
from thumbs.web import create_app

PNG = encode(build_photo(), "PNG")


def post_batch(stack: Stack, urls: list[str], *, headers: dict[str, str] | None = None, **body: Any) -> Answer:
    """Post a batch of these sources."""
    document = {"jobs": [{"source_url": url} for url in urls], **body}
    return stack.request("POST", "/v1/batches", json=document, headers=headers or {})


def wait_for_batch(stack: Stack, batch_id: str) -> dict[str, Any]:
    """Wait until a batch is finished."""

    def find() -> dict[str, Any] | None:
        batch: dict[str, Any] = stack.request("GET", f"/v1/batches/{batch_id}").json()
        return batch if batch["status"] == "finished" else None

    return wait_until(find, 20)


def find_newest_job(stack: Stack) -> str | None:
    """Find the id of the job that was recorded last."""
    items = stack.request("GET", "/v1/jobs", params={"limit": 1}).json()["items"]
    return str(items[0]["id"]) if items else None


def test_batch_tells_its_end_once_with_every_jobs_status(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    urls = [source.serve("/i", PNG), source.url("/status/404"), source.url("/i"), source.url("/i")]
    answer = post_batch(stack, urls, callback_url=f"{webhook_receiver.url}/batches")
    assert answer.status == 202
    batch = wait_for_batch(stack, answer.json()["id"])
    [delivery] = webhook_receiver.wait_for(type="batch.finished", timeout_seconds=20)
    assert delivery.event["data"]["batch"] == batch
    assert [job["id"] for job in batch["jobs"]] == [job["id"] for job in answer.json()["jobs"]]
    assert [job["status"] for job in batch["jobs"]] == ["succeeded", "failed", "succeeded", "succeeded"]
    stack.submit(source_url=source.url("/i"), callback_url=f"{webhook_receiver.url}/later")
    paths = [each.path for each in webhook_receiver.wait_for(2, timeout_seconds=20)]
    assert paths == ["/hooks/batches", "/hooks/later"]


def test_batch_of_a_hundred_jobs_ends_with_one_webhook(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    """Many end at the same moment; whoever ends the last one tells it."""
    answer = post_batch(stack, [source.serve("/i", PNG)] * 100, callback_url=webhook_receiver.url)
    assert answer.status == 202
    batch = wait_for_batch(stack, answer.json()["id"])
    assert [job["status"] for job in batch["jobs"]] == ["succeeded"] * 100
    [delivery] = webhook_receiver.wait_for(type="batch.finished", timeout_seconds=20)
    assert delivery.event["data"]["batch"]["id"] == batch["id"]


def test_jobs_of_a_batch_have_webhooks_of_their_own(
    stack: Stack, source: SourceServer, webhook_receiver: WebhookReceiver
) -> None:
    job = {"source_url": source.serve("/i", PNG), "callback_url": f"{webhook_receiver.url}/jobs"}
    body = {"jobs": [job, job], "callback_url": f"{webhook_receiver.url}/batches"}
    assert stack.request("POST", "/v1/batches", json=body).status == 202
    deliveries = webhook_receiver.wait_for(3, timeout_seconds=20)
    assert sorted(each.path for each in deliveries) == ["/hooks/batches", "/hooks/jobs", "/hooks/jobs"]
    assert len({each.id for each in deliveries}) == 3


def test_running_batch_can_be_polled(stack: Stack, source: SourceServer) -> None:
    answer = post_batch(stack, [source.url("/slow?seconds=1")])
    assert answer.headers["Location"] == f"{stack.base}/v1/batches/{answer.json()['id']}"
    polled = stack.request("GET", answer.headers["Location"])
    assert (polled.status, polled.json()["status"], polled.headers["Retry-After"]) == (200, "running", "1")
    assert polled.json()["finished_at"] is None


def test_batch_with_one_bad_url_is_refused_whole_and_names_it(stack: Stack, source: SourceServer) -> None:
    newest = find_newest_job(stack)
    answer = post_batch(stack, [source.url("/i"), "http://10.0.0.1/", source.url("/i")])
    assert (answer.status, answer.json()["code"]) == (422, "url_not_allowed")
    assert list(answer.json()["errors"]["json"]) == ["jobs.1.source_url"]
    assert find_newest_job(stack) == newest


@pytest.mark.parametrize("count", [0, 101])
def test_batch_of_wrong_size_is_refused(stack: Stack, source: SourceServer, count: int) -> None:
    newest = find_newest_job(stack)
    answer = post_batch(stack, [source.url("/i")] * count)
    assert (answer.status, answer.json()["code"]) == (422, "validation_failed")
    assert find_newest_job(stack) == newest


def test_same_key_answers_the_first_batch(stack: Stack, source: SourceServer) -> None:
    urls, key = [source.serve("/i", PNG)] * 2, {"Idempotency-Key": str(ULID())}
    first = post_batch(stack, urls, headers=key)
    again = post_batch(stack, urls, headers=key)
    assert (first.status, again.status, again.headers["Idempotent-Replayed"]) == (202, 200, "true")
    assert again.json()["id"] == first.json()["id"]
    assert post_batch(stack, urls[:1], headers=key).json()["code"] == "idempotency_key_reused"


def test_unknown_batch_is_not_found(stack: Stack) -> None:
    assert stack.request("GET", f"/v1/batches/bat_{ULID()}").status == 404


def test_batch_of_another_account_is_not_found(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """The stack runs without authentication, so this one asks the app itself."""
    services = build_test_services(ledger, dispatcher, clock)
    account = build_account()
    ledger.accounts.record(account)
    accepted = accept_batch(services, account, [build_new_job()], None)
    assert ledger.batches.get(account.id, accepted.id)
    answer = create_app(services).test_client().get(f"/v1/batches/{accepted.id}")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")
