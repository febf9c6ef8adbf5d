"""Accepting a job: policy names the field at fault, and what was told to be accepted is on disk."""

import pytest

from tests.support.builders import build_account, build_new_job
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_lost_ledger, build_test_services, get_job
from thumbs.accounts import get_default_account
from thumbs.domain import JobFilter, JobStatus
from thumbs.errors import LedgerUnavailable, UrlNotAllowed
from thumbs.intake import accept_job
from thumbs.ledger import Ledger
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
