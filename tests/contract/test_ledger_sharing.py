"""Jobs that ask for the same: one of them runs, what it found is kept, and what came along with a job goes with it."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial

from sqlalchemy.engine import Engine

from tests.support.builders import (
    NOW,
    build_job,
    build_lease,
    fail,
    record_account,
    record_ended_job,
    record_job,
    succeed,
)
from tests.support.races import race
from thumbs.domain import Failure, Job, JobStatus, Result, SourceFailures
from thumbs.errors import SourceHttpError
from thumbs.ledger import Ledger
from thumbs.ledger.tables import jobs

KEY = "ab" * 32
LATER = NOW + timedelta(seconds=60)
FAILURE = Failure.of(SourceHttpError(source_status=404))


def record_same(ledger: Ledger, count: int, **changes: object) -> list[Job]:
    """Record jobs of one account that ask for the same."""
    account_id = record_account(ledger).id
    return [record_job(ledger, account_id=account_id, reuse_key=KEY, **changes) for _ in range(count)]


def lease(ledger: Ledger, job: Job) -> Job | None:
    return ledger.jobs.lease(build_lease(job.id), NOW)


def build_result(job: Job, **changes: object) -> Result:
    result = Result(KEY, job.id, "https://img.example/cat.jpg", '"v1"', None, LATER)
    return replace(result, **changes)  # type: ignore[arg-type]


def record_result(ledger: Ledger) -> Result:
    """Record a job whose thumbnails may be used again."""
    [job] = record_same(ledger, 1)
    running = lease(ledger, job)
    assert running is not None
    conclusion = replace(succeed(running), result=build_result(job))
    assert ledger.jobs.finish(build_lease(job.id), conclusion) is not None
    return build_result(job)


# ── one at a time ───────────────────────────────────────────────────────────────────────────────────────


def test_job_is_not_leased_while_another_one_runs_for_the_same(ledger: Ledger) -> None:
    first, second = record_same(ledger, 2)
    assert lease(ledger, second) is not None
    assert lease(ledger, first) is None
    waiting = ledger.jobs.find(first.id)
    assert waiting is not None
    assert (waiting.status, waiting.run_count) == (JobStatus.QUEUED, 0)


def test_jobs_for_something_else_run_beside_it(ledger: Ledger) -> None:
    [job] = record_same(ledger, 1)
    assert lease(ledger, job) is not None
    assert lease(ledger, record_job(ledger, reuse_key="cd" * 32)) is not None
    assert lease(ledger, record_job(ledger)) is not None
    assert lease(ledger, record_job(ledger)) is not None


def test_of_many_at_once_exactly_one_is_leased(ledger: Ledger) -> None:
    """Each of another job, so that no row decides between them."""
    moves: list[Callable[[], Job | None]] = [partial(lease, ledger, job) for job in record_same(ledger, 12)]
    assert sum(leased is not None for leased in race(*moves)) == 1


def test_job_is_leased_when_the_other_one_has_ended(ledger: Ledger) -> None:
    first, second = record_same(ledger, 2)
    running = lease(ledger, first)
    assert running is not None
    assert ledger.jobs.finish(build_lease(first.id), fail(running)) is not None
    assert lease(ledger, second) is not None


def test_job_waits_while_the_other_one_waits_for_its_next_run(ledger: Ledger) -> None:
    """Its source has asked for a pause, or got one."""
    first, second = record_same(ledger, 2)
    assert lease(ledger, first) is not None
    assert ledger.jobs.requeue(build_lease(first.id), LATER, NOW)
    assert lease(ledger, second) is None
    assert ledger.jobs.lease(build_lease(second.id), LATER) is not None


def test_job_does_not_wait_for_one_that_was_handed_back(ledger: Ledger) -> None:
    """It has not been run: whoever is free first is."""
    first, second = record_same(ledger, 2)
    assert lease(ledger, first) is not None
    assert ledger.jobs.hand_back(build_lease(first.id), LATER, NOW)
    assert lease(ledger, second) is not None


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────


def test_queued_jobs_for_the_same_are_listed_in_their_order(ledger: Ledger) -> None:
    first, second, third, running = record_same(ledger, 4)
    later = record_job(ledger, account_id=first.account_id, reuse_key=KEY, run_at=LATER)
    record_job(ledger)
    assert lease(ledger, running) is not None
    assert ledger.jobs.list_sharing(KEY, 10) == [first, second, third, later]
    assert ledger.jobs.list_sharing(KEY, 2) == [first, second]


def test_job_that_is_taken_is_nobody_elses_and_no_run_is_counted(ledger: Ledger) -> None:
    first, second = record_same(ledger, 2)
    taken = ledger.jobs.take(build_lease(first.id), LATER)
    assert taken is not None
    assert (taken.status, taken.run_count, taken.started_at) == (JobStatus.RUNNING, 0, LATER)
    assert ledger.jobs.take(build_lease(first.id, "other"), LATER) is None
    assert lease(ledger, second) is None
    assert ledger.jobs.finish(build_lease(first.id), succeed(taken)) is not None


def test_ledger_tells_whether_a_job_waits_for_another_ones_run(ledger: Ledger) -> None:
    first, _ = record_same(ledger, 2)
    alone = record_job(ledger, reuse_key="cd" * 32)
    assert not ledger.jobs.may_have_sharing(NOW)
    assert lease(ledger, alone) is not None
    assert lease(ledger, record_job(ledger)) is not None
    assert not ledger.jobs.may_have_sharing(NOW)
    assert lease(ledger, first) is not None
    assert ledger.jobs.may_have_sharing(NOW)
    assert ledger.jobs.requeue(build_lease(first.id), LATER, NOW)
    assert ledger.jobs.may_have_sharing(NOW)
    assert not ledger.jobs.may_have_sharing(LATER)


def test_jobs_that_wait_for_another_ones_run_are_not_dispatched_again(ledger: Ledger) -> None:
    """However many: a message would do nothing for them."""
    first, *others = record_same(ledger, 4)
    assert lease(ledger, first) is not None
    assert ledger.jobs.claim_undispatched(LATER, LATER, 10) == []
    assert ledger.jobs.hand_back(build_lease(first.id), LATER, NOW)
    assert set(ledger.jobs.claim_undispatched(LATER, LATER, 10)) == {job.id for job in others}


# ── results ─────────────────────────────────────────────────────────────────────────────────────────────


def test_result_is_written_with_the_end_of_its_job(ledger: Ledger) -> None:
    result = record_result(ledger)
    assert ledger.results.find(KEY) == result


def test_result_of_a_lost_lease_is_not_written(ledger: Ledger) -> None:
    [job] = record_same(ledger, 1)
    running = lease(ledger, job)
    assert running is not None
    conclusion = replace(succeed(running), result=build_result(job))
    assert ledger.jobs.finish(build_lease(job.id, "stale"), conclusion) is None
    assert ledger.results.find(KEY) is None


def test_newer_result_takes_the_place_of_the_older_one(ledger: Ledger) -> None:
    record_result(ledger)
    assert record_result(ledger) == ledger.results.find(KEY)


def test_result_is_forgotten_with_its_job(ledger: Ledger) -> None:
    result = record_result(ledger)
    job = ledger.jobs.find(result.job_id)
    assert job is not None
    ledger.jobs.forget(job)
    assert ledger.results.find(KEY) is None


def test_forgetting_another_job_leaves_it(ledger: Ledger) -> None:
    result = record_result(ledger)
    ledger.jobs.forget(record_ended_job(ledger).job)
    assert ledger.results.find(KEY) == result


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────


def test_failures_in_a_row_are_counted_and_the_last_one_is_told(ledger: Ledger) -> None:
    ledger.results.record_failure(KEY, replace(FAILURE, source_status=410), LATER, NOW)
    ledger.results.record_failure(KEY, FAILURE, LATER, NOW)
    assert ledger.results.find_failures(KEY, NOW) == SourceFailures(2, FAILURE)


def test_failures_that_are_no_longer_remembered_do_not_count(ledger: Ledger) -> None:
    ledger.results.record_failure(KEY, FAILURE, LATER, NOW)
    assert ledger.results.find_failures(KEY, LATER) is None
    ledger.results.record_failure(KEY, FAILURE, LATER + timedelta(seconds=60), LATER)
    assert ledger.results.find_failures(KEY, LATER) == SourceFailures(1, FAILURE)


def test_failures_are_forgotten_by_source_or_when_they_expire(ledger: Ledger) -> None:
    for key in ("a", "b", "c"):
        ledger.results.record_failure(key, FAILURE, LATER, NOW)
    ledger.results.forget_failures("a")
    assert ledger.results.find_failures("a", NOW) is None
    assert ledger.results.forget_expired_failures(NOW, 10) == 0
    assert ledger.results.forget_expired_failures(LATER, 1) == 1
    assert ledger.results.forget_expired_failures(LATER, 10) == 1


# ── uploads ─────────────────────────────────────────────────────────────────────────────────────────────


def record_upload(ledger: Ledger, body: bytes) -> Job:
    job = build_job(account_id=record_account(ledger).id, source_url=None)
    ledger.jobs.record(job, uploads={job.id: body})
    return job


def test_upload_is_kept_while_its_job_is_not_final(ledger: Ledger) -> None:
    job = record_upload(ledger, b"\x00\xff image")
    assert ledger.uploads.find(job.id) == b"\x00\xff image"
    running = lease(ledger, job)
    assert running is not None
    assert ledger.uploads.find(job.id) is not None
    assert ledger.jobs.finish(build_lease(job.id), succeed(running)) is not None
    assert ledger.uploads.find(job.id) is None


def test_upload_of_a_job_that_ends_while_it_is_queued_goes_too(ledger: Ledger) -> None:
    job = record_upload(ledger, b"image")
    assert ledger.jobs.cancel(fail(job)) is not None
    assert ledger.uploads.find(job.id) is None


def test_uploads_are_measured(ledger: Ledger) -> None:
    assert ledger.uploads.count_bytes() == 0
    record_upload(ledger, b"12345")
    record_upload(ledger, b"123")
    assert ledger.uploads.count_bytes() == 8


def test_job_with_a_url_has_no_upload(ledger: Ledger) -> None:
    assert ledger.uploads.find(record_job(ledger).id) is None


def test_upload_is_forgotten_with_its_job(ledger: Ledger) -> None:
    job = record_upload(ledger, b"image")
    ledger.jobs.forget(job)
    assert ledger.uploads.count_bytes() == 0


def test_upload_whose_job_another_release_has_ended_is_forgotten(ledger: Ledger, engine: Engine) -> None:
    """That release knows of no uploads."""
    ended, waiting = record_upload(ledger, b"12345"), record_upload(ledger, b"123")
    with engine.begin() as connection:
        connection.execute(jobs.update().where(jobs.c.id == ended.id).values(status="failed"))
    assert ledger.uploads.forget_abandoned(10) == 1
    assert (ledger.uploads.count_bytes(), ledger.uploads.find(waiting.id)) == (3, b"123")
