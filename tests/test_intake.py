"""Accepting a job: policy names the field at fault, and what was told to be accepted is on disk."""

from dataclasses import replace

import pytest

from tests.support.builders import build_account, build_new_job
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_lost_ledger, build_test_services, get_job
from thumbs.accounts import create_account, get_default_account
from thumbs.domain import JobFilter, JobStatus, ThumbnailSpec
from thumbs.errors import (
    EventTooLong,
    IdempotencyKeyReused,
    LedgerUnavailable,
    Overloaded,
    UploadTooLarge,
    UrlNotAllowed,
)
from thumbs.intake import OVERLOADED_RETRY_SECONDS, accept_batch, accept_job
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.retries import add_seconds
from thumbs.services import Services


@pytest.fixture
def services(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    return build_test_services(ledger, dispatcher, clock)


def test_accepted_job_is_on_disk_and_on_the_queue(services: Services, dispatcher: RecordingDispatcher) -> None:
    job = accept(services)
    assert get_job(services, job.id) == job
    assert (job.status, job.run_count, job.run_at) == (JobStatus.QUEUED, 0, services.clock.now())
    assert dispatcher.processed == [(job.id, 0)]


def test_accepted_job_is_kept_for_its_retention(services: Services) -> None:
    job = accept(services)
    assert job.expires_at == add_seconds(job.created_at, services.settings.retention_days * 86_400)


def test_blob_names_are_drawn_with_128_bits_for_each_job(services: Services) -> None:
    names = {accept(services).blob_name for _ in range(20)}
    assert len(names) == 20
    assert {len(bytes.fromhex(name)) for name in names} == {16}


@pytest.mark.parametrize("field", ["source_url", "callback_url"])
@pytest.mark.parametrize(
    "url", ["http://10.0.0.1/", "ftp://img.example/", "https://img.example:22/", "https://u:p@img.example/", "cat", ""]
)
def test_url_that_policy_forbids_is_refused_by_the_name_of_its_field(services: Services, field: str, url: str) -> None:
    with pytest.raises(UrlNotAllowed) as caught:
        accept(services, **{field: url})
    assert caught.value.field == field


def test_callback_scheme_is_https_unless_a_setting_allows_more(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    strict = build_test_services(ledger, dispatcher, clock, THUMBS_CALLBACK_SCHEMES="https")
    accept(strict, source_url="http://img.example/cat.jpg", callback_url="https://app.example/hooks")
    with pytest.raises(UrlNotAllowed) as caught:
        accept(strict, callback_url="http://app.example/hooks")
    assert caught.value.field == "callback_url"


def test_refused_job_leaves_nothing_behind(services: Services, dispatcher: RecordingDispatcher) -> None:
    with pytest.raises(UrlNotAllowed):
        accept(services, callback_url="http://10.0.0.1/")
    account = get_default_account(services)
    assert services.ledger.jobs.list_for_account(account.id, JobFilter(), 10) == []
    assert dispatcher.processed == []


def test_queue_that_is_down_is_no_reason_to_refuse(services: Services, dispatcher: RecordingDispatcher) -> None:
    """The job is committed; the sweep dispatches it when the queue is back."""
    dispatcher.is_down = True
    job = accept(services)
    assert get_job(services, job.id).status is JobStatus.QUEUED


def test_ledger_that_is_down_refuses_and_nothing_is_dispatched(
    dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(build_lost_ledger(), dispatcher, clock)
    with pytest.raises(LedgerUnavailable):
        accept_job(services, build_account(), build_new_job())
    assert dispatcher.processed == []


# ── back-pressure ───────────────────────────────────────────────────────────────────────────────────────


def build_limited(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    """Build services with room for ten jobs in all, three of them of one account; the queue tells what is due."""
    return build_test_services(
        ledger, dispatcher, clock, THUMBS_MAX_QUEUED_JOBS="10", THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT="3"
    )


def fill_queue(services: Services, dispatcher: RecordingDispatcher, clock: FrozenClock, count: int) -> None:
    """Accept jobs for the default account, as many as there is room for, a second apart."""
    for number in range(count):
        dispatcher.waiting_jobs = number
        accept(services)
        clock.move(1)
    dispatcher.waiting_jobs = count


def test_account_with_as_many_jobs_waiting_as_it_may_have_is_refused_and_told_that_they_are_its_own(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_limited(ledger, dispatcher, clock)
    fill_queue(services, dispatcher, clock, 3)
    with pytest.raises(Overloaded, match="3 jobs of this account") as caught:
        accept(services)
    assert caught.value.retry_after_seconds == OVERLOADED_RETRY_SECONDS
    assert len(dispatcher.processed) == 3


def test_one_accounts_jobs_leave_room_for_anothers(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_limited(ledger, dispatcher, clock)
    fill_queue(services, dispatcher, clock, 3)
    other = create_account(services, "other")
    assert other is not None
    assert accept_job(services, other, build_new_job()).id


def test_batch_counts_with_all_its_jobs(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    services = build_limited(ledger, dispatcher, clock)
    fill_queue(services, dispatcher, clock, 1)
    account = get_default_account(services)
    with pytest.raises(Overloaded, match="3 jobs of this account"):
        accept_batch(services, account, [build_new_job()] * 3, None)
    assert accept_batch(services, account, [build_new_job()] * 2, None).id


def test_queue_that_is_full_says_so_to_everybody(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_limited(ledger, dispatcher, clock)
    dispatcher.waiting_jobs = 10
    with pytest.raises(Overloaded, match=r"^10 jobs are waiting already"):
        accept(services)


def test_nobody_counts_by_account_while_the_queue_is_shorter_than_one_accounts_part(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    """The queue has taken up what is due in the ledger: nothing waits, and the ledger is not asked."""
    services = build_limited(ledger, dispatcher, clock)
    for _ in range(5):
        accept(services)
        clock.move(1)


def test_replay_is_answered_however_full_the_queue_is(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_limited(ledger, dispatcher, clock)
    account, new = get_default_account(services), build_new_job()
    first = accept_job(services, account, new, key="k")
    dispatcher.waiting_jobs = 10
    clock.move(1)
    assert accept_job(services, account, new, key="k").id == first.id


# ── what comes along, and what is asked for at once ─────────────────────────────────────────────────────


def test_source_that_comes_along_is_kept_with_its_job(services: Services) -> None:
    job = accept(services, source_url=None, source_data=b"an image")
    assert services.ledger.uploads.find(job.id) == b"an image"


def test_source_that_is_too_large_is_refused_by_name(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_MAX_UPLOAD_BYTES="10")
    accept(services, source_url=None, source_data=bytes(10))
    with pytest.raises(UploadTooLarge) as caught:
        accept(services, source_url=None, source_data=bytes(11))
    assert caught.value.field == "source_data"


def test_sources_that_wait_take_no_more_room_than_they_may(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_MAX_QUEUED_UPLOAD_BYTES="20")
    job = accept(services, source_url=None, source_data=bytes(15))
    with pytest.raises(Overloaded):
        accept(services, source_url=None, source_data=bytes(6))
    accept(services)
    process(services, job.id)
    accept(services, source_url=None, source_data=bytes(20))


@pytest.mark.parametrize("data", [b"an image", b"another"])
def test_key_knows_the_source_that_came_along(services: Services, data: bytes) -> None:
    account = get_default_account(services)
    new = build_new_job(source_url=None, source_data=b"an image")
    first = accept_job(services, account, new, key="key")
    if data == new.source_data:
        assert accept_job(services, account, replace(new, source_data=data), key="key").id == first.id
    else:
        with pytest.raises(IdempotencyKeyReused):
            accept_job(services, account, replace(new, source_data=data), key="key")


def test_variants_whose_event_would_be_too_long_are_refused_by_name(services: Services) -> None:
    """What is fine by itself may be too much together; what an event has room for, it tells."""
    variants = {"v" * 31 + str(number): ThumbnailSpec() for number in range(8)}
    url = "https://img.example/" + "é" * 1_000
    accept(services, source_url=url, variants=variants)
    with pytest.raises(EventTooLong) as caught:
        accept(services, source_url=url, callback_url=url, metadata={"x": "y" * 4_000}, variants=variants)
    assert caught.value.field == "variants"
