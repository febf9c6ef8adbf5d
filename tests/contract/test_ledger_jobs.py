"""The moves of jobs: each from one status, each once, none with a stale lease."""

import threading
from datetime import timedelta

import pytest

from tests.support.builders import (
    NOW,
    build_account,
    build_job,
    build_lease,
    fail,
    record_ended_job,
    record_job,
    succeed,
    take_surely,
)
from thumbs.domain import DeliveryStatus, JobFilter, JobStatus
from thumbs.errors import NotFound
from thumbs.ledger import Ledger

LATER = NOW + timedelta(seconds=60)


def test_recorded_job_comes_back_as_it_was(ledger: Ledger) -> None:
    job = record_job(ledger)
    assert ledger.jobs.find(job.id) == job
    assert ledger.jobs.find_by_blob_name(job.blob_name) == job


def test_another_accounts_job_is_not_found(ledger: Ledger) -> None:
    """Another account's ids answer as if they did not exist."""
    job = record_job(ledger)
    assert ledger.jobs.get(job.account_id, job.id) == job
    with pytest.raises(NotFound):
        ledger.jobs.get("acct_other", job.id)


def test_lease_makes_a_queued_job_running_and_counts_the_run(ledger: Ledger) -> None:
    job = record_job(ledger)
    running = ledger.jobs.lease(build_lease(job.id), NOW)
    assert running is not None
    assert (running.status, running.run_count, running.started_at) == (JobStatus.RUNNING, 1, NOW)
    assert ledger.jobs.find(job.id) == running


def test_lease_of_a_job_that_is_not_due_is_refused(ledger: Ledger) -> None:
    job = record_job(ledger, run_at=LATER)
    assert ledger.jobs.lease(build_lease(job.id), NOW) is None
    assert ledger.jobs.lease(build_lease(job.id), LATER) is not None


def test_lease_is_won_by_exactly_one_of_many_threads(ledger: Ledger) -> None:
    """A message that comes twice, or fifty times, leads to one run."""
    job = record_job(ledger)
    won: list[str] = []
    barrier = threading.Barrier(20)

    def compete(token: str) -> None:
        barrier.wait()
        if ledger.jobs.lease(build_lease(job.id, token), NOW):
            won.append(token)

    threads = [threading.Thread(target=compete, args=(f"t{number}",)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1


def test_finish_writes_job_event_and_delivery_together(ledger: Ledger) -> None:
    conclusion = record_ended_job(ledger)
    assert ledger.jobs.find(conclusion.job.id) == conclusion.job
    callback = ledger.deliveries.find_callback(conclusion.job.id)
    assert callback == conclusion.deliveries[0]
    assert take_surely(ledger, callback.id).body == conclusion.event.body


def test_finish_with_a_stale_lease_changes_nothing(ledger: Ledger) -> None:
    """A worker that was thought dead and comes back does not write over what was made since."""
    job = record_job(ledger)
    running = ledger.jobs.lease(build_lease(job.id, "old"), NOW)
    assert running is not None
    assert ledger.jobs.requeue(build_lease(job.id, "old"), NOW, NOW)
    again = ledger.jobs.lease(build_lease(job.id, "new"), NOW)
    assert again is not None
    assert ledger.jobs.finish(build_lease(job.id, "old"), fail(running)) is None
    assert ledger.jobs.find(job.id) == again
    assert ledger.deliveries.find_callback(job.id) is None


def test_final_job_does_not_move_any_more(ledger: Ledger) -> None:
    job = record_ended_job(ledger).job
    lease = build_lease(job.id)
    assert ledger.jobs.lease(lease, LATER) is None
    assert not ledger.jobs.requeue(lease, LATER, LATER)
    assert ledger.jobs.finish(lease, fail(job)) is None
    assert ledger.jobs.find(job.id) == job


def test_requeued_job_keeps_its_run_count_and_a_handed_back_one_does_not(ledger: Ledger) -> None:
    first, second = record_job(ledger), record_job(ledger)
    for job in (first, second):
        assert ledger.jobs.lease(build_lease(job.id), NOW)
    assert ledger.jobs.requeue(build_lease(first.id), LATER, NOW)
    assert ledger.jobs.hand_back(build_lease(second.id), LATER, NOW)
    requeued, handed_back = ledger.jobs.find(first.id), ledger.jobs.find(second.id)
    assert requeued is not None
    assert handed_back is not None
    assert (requeued.status, requeued.run_count, requeued.run_at) == (JobStatus.QUEUED, 1, LATER)
    assert (handed_back.status, handed_back.run_count, handed_back.run_at) == (JobStatus.QUEUED, 0, LATER)


def test_expired_leases_are_listed_and_held_ones_are_not(ledger: Ledger) -> None:
    lost, held = record_job(ledger), record_job(ledger)
    ledger.jobs.lease(build_lease(lost.id, until=NOW + timedelta(seconds=1)), NOW)
    ledger.jobs.lease(build_lease(held.id, until=LATER + timedelta(seconds=1)), NOW)
    assert [(job.id, lease.token) for job, lease in ledger.jobs.list_expired_leases(LATER, 10)] == [(lost.id, "token")]


def test_undispatched_jobs_are_claimed_once(ledger: Ledger) -> None:
    job = record_job(ledger)
    record_job(ledger, run_at=LATER + timedelta(seconds=60))
    assert ledger.jobs.claim_undispatched(LATER, LATER, 10) == [job.id]
    assert ledger.jobs.claim_undispatched(LATER, LATER, 10) == []


def test_list_is_newest_first_and_goes_on_where_the_page_ended(ledger: Ledger) -> None:
    account = build_account()
    ledger.accounts.record(account)
    ids = [f"job_{number}" for number in range(5)]
    for job_id in ids:
        ledger.jobs.record(build_job(id=job_id, account_id=account.id))
    page = ledger.jobs.list_for_account(account.id, JobFilter(), 2)
    assert [job.id for job in page] == ["job_4", "job_3"]
    rest = ledger.jobs.list_for_account(account.id, JobFilter(before_id="job_3"), 10)
    assert [job.id for job in rest] == ["job_2", "job_1", "job_0"]


def test_list_filters_by_status_and_time(ledger: Ledger) -> None:
    job = record_ended_job(ledger).job
    listed = [
        ledger.jobs.list_for_account(job.account_id, where, 10)
        for where in (
            JobFilter(status=JobStatus.SUCCEEDED),
            JobFilter(status=JobStatus.FAILED),
            JobFilter(created_after=NOW),
            JobFilter(created_before=LATER),
        )
    ]
    assert listed == [[job], [], [], [job]]


def test_expired_final_jobs_are_forgotten_with_all_that_hangs_on_them(ledger: Ledger) -> None:
    conclusion = record_ended_job(ledger)
    queued = record_job(ledger)
    take_surely(ledger, conclusion.deliveries[0].id)
    after_a_week = NOW + timedelta(days=8)
    assert ledger.upkeep.forget_expired_jobs(NOW, 10) == 0
    assert ledger.upkeep.forget_expired_jobs(after_a_week, 10) == 1
    assert ledger.jobs.find(conclusion.job.id) is None
    assert ledger.deliveries.list_for_job(conclusion.job.id) == []
    assert ledger.jobs.find(queued.id) == queued


def test_job_without_callback_ends_with_an_event_and_no_delivery(ledger: Ledger) -> None:
    job = record_job(ledger, callback_url=None)
    running = ledger.jobs.lease(build_lease(job.id), NOW)
    assert running is not None
    conclusion = succeed(running)
    assert conclusion.deliveries == ()
    assert ledger.jobs.finish(build_lease(job.id), conclusion) is not None
    assert ledger.deliveries.list_for_job(job.id) == []


def test_delivery_starts_pending_and_due(ledger: Ledger) -> None:
    delivery = record_ended_job(ledger).deliveries[0]
    assert (delivery.status, delivery.next_attempt_at) == (DeliveryStatus.PENDING, NOW)


def test_queued_jobs_are_counted_for_each_account_up_to_a_limit_in_all(ledger: Ledger) -> None:
    """What is to wait for its time counts, what runs or has ended does not."""
    first, second = record_job(ledger).account_id, record_ended_job(ledger).job.account_id
    record_job(ledger, account_id=first)
    record_job(ledger, account_id=first, run_at=LATER)
    record_job(ledger, account_id=second)
    assert ledger.jobs.lease(build_lease(record_job(ledger, account_id=second).id), NOW)
    assert ledger.jobs.count_queued_by_account(100) == {first: 3, second: 1}
    assert sum(ledger.jobs.count_queued_by_account(2).values()) == 2
