"""The same work is not done twice, each caller is told all the same, and nobody gets what is not meant for him."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support.builders import build_account, build_new_job, parse_event
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    PICTURE,
    RENDERING,
    ScriptedOutbound,
    ScriptedSandbox,
    UnavailableBlobs,
    accept,
    build_test_services,
    fail_with,
    get_callback,
    get_job,
    meanwhile,
)
from thumbs.cancel import delete_job
from thumbs.domain import Blob, Caching, EventFilter, Failure, Job, JobStatus, Outcome, Reuse, ThumbnailSpec
from thumbs.errors import (
    DecoderTimeout,
    ImageCorrupt,
    JobError,
    RenderFailed,
    SourceHttpError,
    SourceUnreachable,
    StorageUnavailable,
    UnavailableError,
    WorkerLost,
)
from thumbs.intake import accept_job
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services
from thumbs.sharing import PAGE_JOBS, SHARE_SECONDS, Made, share

URL = "https://img.example/cat.jpg"
ETAG = Caching(URL, etag='"v1"')
FRESH = Caching(URL, fresh_seconds=60)
NOT_FOUND = SourceHttpError(source_status=404)


def run(services: Services, job: Job) -> Job:
    process(services, job.id)
    return get_job(services, job.id)


def run_new(services: Services, **changes: object) -> Job:
    return run(services, accept(services, **changes))


def read(services: Services, job: Job, suffix: str = ".jpg") -> bytes | None:
    blob = services.blobs.find(f"{job.blob_name}{suffix}", services.clock.now())
    return blob.body if blob else None


# ── in flight ───────────────────────────────────────────────────────────────────────────────────────────


def test_jobs_that_are_in_flight_together_share_one_fetch(services: Services, outbound: ScriptedOutbound) -> None:
    first, second, third = (accept(services) for _ in range(3))
    assert run(services, second).reused is None
    assert [get_job(services, job.id).reused for job in (first, third)] == [Reuse.IN_FLIGHT] * 2
    assert len(outbound.fetched) == 1


def test_each_of_them_has_a_thumbnail_of_its_own(services: Services) -> None:
    """So that whoever deletes his job takes nothing from the others."""
    first, second = accept(services), accept(services)
    first = run(services, first)
    second = get_job(services, second.id)
    assert (second.status, second.thumbnail, second.source) == (JobStatus.SUCCEEDED, first.thumbnail, first.source)
    assert second.blob_name != first.blob_name
    assert read(services, second) == read(services, first) == PICTURE.body


def test_each_caller_is_told(services: Services, dispatcher: RecordingDispatcher) -> None:
    first, second = accept(services), accept(services, callback_url="https://other.example/hooks")
    run(services, first)
    delivery = get_callback(services, second.id)
    assert delivery.url == "https://other.example/hooks"
    assert [delivery_id for delivery_id, _ in dispatcher.delivered][-1] == delivery.id


def test_shared_end_tells_when_it_began_and_how_long_the_job_waited(services: Services, clock: FrozenClock) -> None:
    first, second = accept(services), accept(services)
    clock.move(2)
    run(services, first)
    second = get_job(services, second.id)
    assert (second.started_at, second.run_count, second.timings_ms) == (clock.now(), 0, {"queued": 2000})


def test_message_of_a_job_that_waits_for_another_one_does_nothing(
    services: Services, outbound: ScriptedOutbound
) -> None:
    first, second = accept(services), accept(services)
    outbound.on_fetch = meanwhile(lambda: process(services, second.id), outbound.on_fetch)
    run(services, first)
    assert len(outbound.fetched) == 1
    assert get_job(services, second.id).reused is Reuse.IN_FLIGHT


def test_job_that_comes_while_the_source_is_fetched_shares_it(services: Services, outbound: ScriptedOutbound) -> None:
    late: list[Job] = []
    outbound.on_fetch = meanwhile(lambda: late.append(accept(services)), outbound.on_fetch)
    run_new(services)
    assert get_job(services, late[0].id).reused is Reuse.IN_FLIGHT


def test_source_that_is_not_to_be_stored_is_shared_by_who_had_asked_before(
    services: Services, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    """Its server wants no request to be answered by what was sent for an earlier one."""
    outbound.caching = Caching(URL, may_keep=False)
    first, early = accept(services), accept(services)
    clock.move(1)
    late: list[Job] = []

    def come_late() -> None:
        clock.move(1)
        late.append(accept(services))

    outbound.on_fetch = meanwhile(come_late, outbound.on_fetch)
    run(services, first)
    assert get_job(services, early.id).reused is Reuse.IN_FLIGHT
    assert get_job(services, late[0].id).status is JobStatus.QUEUED


@pytest.mark.parametrize("error", [NOT_FOUND, ImageCorrupt(), RenderFailed()], ids=lambda error: error.code)
def test_failure_of_the_source_is_shared(services: Services, outbound: ScriptedOutbound, error: JobError) -> None:
    first, second = accept(services), accept(services)
    outbound.on_fetch = fail_with(error)
    run(services, first)
    failed = get_job(services, second.id)
    assert failed.error is not None
    assert (failed.status, failed.error.code, failed.reused) == (JobStatus.FAILED, error.code, Reuse.IN_FLIGHT)


@pytest.mark.parametrize("error", [WorkerLost(), StorageUnavailable()], ids=lambda error: error.code)
def test_failure_of_ours_is_not_shared(services: Services, error: JobError) -> None:
    first, second = accept(services), accept(services)
    share(services, first, Made(Outcome(JobStatus.FAILED, error=Failure.of(error)), {}))
    assert get_job(services, second.id).status is JobStatus.QUEUED


def test_job_waits_for_the_other_ones_next_run(
    services: Services, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    first, second = accept(services), accept(services)
    outbound.on_fetch = fail_with(SourceUnreachable())
    run(services, first)
    assert run(services, second).run_count == 0
    clock.move(60)
    outbound.on_fetch = lambda: b"a source"
    run(services, first)
    assert get_job(services, second.id).reused is Reuse.IN_FLIGHT
    assert len(outbound.fetched) == 2


@pytest.mark.parametrize(
    "changes",
    [{"source_url": URL + "?v=2"}, {"spec": ThumbnailSpec(width=50)}, {"variants": {"big": ThumbnailSpec(width=500)}}],
    ids=["source", "spec", "variants"],
)
def test_jobs_that_ask_for_something_else_do_not_share(services: Services, changes: dict[str, object]) -> None:
    first, second = accept(services), accept(services, **changes)
    run(services, first)
    assert get_job(services, second.id).status is JobStatus.QUEUED


def test_job_that_is_cancelled_meanwhile_stays_cancelled(services: Services, outbound: ScriptedOutbound) -> None:
    first, second = accept(services), accept(services)
    account = services.ledger.accounts.list_all()[0]
    outbound.on_fetch = meanwhile(lambda: delete_job(services, account, second.id), outbound.on_fetch)
    run(services, first)
    cancelled = get_job(services, second.id)
    assert cancelled.error is not None
    assert cancelled.error.code == "cancelled"


def test_store_that_breaks_off_leaves_the_others_to_run_by_themselves(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    class FullBlobs(UnavailableBlobs):
        """A store that takes one blob and no more."""

        taken = 0

        def put(self, blob: object) -> None:
            self.taken += 1
            if self.taken > 1:
                raise UnavailableError("full, says the test")

    services = build_test_services(ledger, dispatcher, clock, blobs=FullBlobs())
    first, second = accept(services), accept(services)
    assert run(services, first).status is JobStatus.SUCCEEDED
    assert get_job(services, second.id).status is JobStatus.QUEUED


def test_more_jobs_than_there_is_time_for_are_led_on_by_the_next(
    services: Services, clock: FrozenClock, dispatcher: RecordingDispatcher, ledger: Ledger
) -> None:
    """A thread that ends other jobs must not hold up a stop."""

    class SlowBlobs(UnavailableBlobs):
        """A store that takes a while."""

        def put(self, blob: Blob) -> None:
            clock.move(SHARE_SECONDS / 2)

    slow = replace(services, blobs=SlowBlobs())
    first, *others = (accept(slow) for _ in range(5))
    dispatcher.processed.clear()
    run(slow, first)
    statuses = [get_job(slow, job.id).status for job in others]
    assert statuses == [JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.QUEUED, JobStatus.QUEUED]
    assert dispatcher.processed == [(others[2].id, 0)]


def test_failure_ends_more_jobs_than_are_looked_at_at_once(services: Services, outbound: ScriptedOutbound) -> None:
    first, *others = (accept(services) for _ in range(PAGE_JOBS + 5))
    outbound.on_fetch = fail_with(NOT_FOUND)
    run(services, first)
    assert {get_job(services, job.id).status for job in others} == {JobStatus.FAILED}


def test_who_does_not_share_is_dispatched_when_the_other_one_has_ended(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """Its own message met the other one at work, and is used up."""
    outbound.caching = Caching(URL, may_keep=False)
    late: list[Job] = []

    def come_late() -> None:
        clock.move(1)
        late.append(accept(services))
        process(services, late[0].id)

    outbound.on_fetch = meanwhile(come_late, outbound.on_fetch)
    first = accept(services)
    process(services, first.id)
    assert dispatcher.processed[-1] == (late[0].id, 0)


def test_waiting_job_is_dispatched_when_the_one_before_is_cancelled(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable())
    first = run_new(services)
    second = run_new(services)
    assert (first.run_count, second.run_count) == (1, 0)
    delete_job(services, services.ledger.accounts.list_all()[0], first.id)
    assert dispatcher.processed[-1] == (second.id, 0)


def test_job_that_has_moved_on_keeps_its_own_thumbnail(services: Services, outbound: ScriptedOutbound) -> None:
    """Who ends another job takes it first: its names are written by one of them alone."""
    first, second = accept(services), accept(services)
    lease = services.new_lease(second.id, services.clock.now())
    outbound.on_fetch = meanwhile(lambda: services.ledger.jobs.take(lease, services.clock.now()), outbound.on_fetch)
    run(services, first)
    assert read(services, second) is None


def test_private_source_is_shared_within_its_account_alone(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    """RFC 9111 section 5.2.2.7."""
    outbound.caching = Caching(URL, may_keep=False, is_private=True)
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, THUMBS_REUSE="all")
    other = build_account("other")
    assert services.ledger.accounts.record(other)
    first, second = accept(services), accept(services)
    third = get_job(services, accept_job(services, other, build_new_job()).id)
    run(services, first)
    assert get_job(services, second.id).reused is Reuse.IN_FLIGHT
    assert get_job(services, third.id).status is JobStatus.QUEUED


# ── revalidated ─────────────────────────────────────────────────────────────────────────────────────────


def test_source_that_is_unchanged_is_not_decoded_again(
    services: Services, outbound: ScriptedOutbound, sandbox: ScriptedSandbox
) -> None:
    outbound.caching = ETAG
    first = run_new(services)
    outbound.on_fetch = lambda: b""
    second = run_new(services)
    assert (second.status, second.reused, second.thumbnail) == (JobStatus.SUCCEEDED, Reuse.REVALIDATED, first.thumbnail)
    assert read(services, second) == PICTURE.body
    assert len(sandbox.waits_seconds) == 1


def test_source_is_asked_with_what_was_seen(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.caching = ETAG
    run_new(services)
    run_new(services)
    before, seen = outbound.seen
    assert before is None
    assert seen is not None
    assert (seen.url, seen.etag) == (URL, '"v1"')


def test_source_that_has_changed_is_made_anew(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.caching = ETAG
    run_new(services)
    assert run_new(services).reused is None


def test_unchanged_source_is_asked_again_with_what_it_said_last(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.caching = ETAG
    run_new(services)
    outbound.on_fetch, outbound.caching = lambda: b"", replace(ETAG, etag='"v2"')
    second = run_new(services)
    run_new(services)
    assert outbound.seen[2] is not None
    assert (outbound.seen[2].job_id, outbound.seen[2].etag) == (second.id, '"v2"')


def test_thumbnail_that_is_gone_is_made_anew(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.caching = ETAG
    first = run_new(services)
    services.blobs.delete(f"{first.blob_name}.jpg")
    assert run_new(services).reused is None
    assert outbound.seen == [None, None]


def test_job_that_is_deleted_is_not_used_again(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.caching = FRESH
    first = run_new(services)
    delete_job(services, services.ledger.accounts.list_all()[0], first.id)
    assert run_new(services).reused is None


# ── fresh ───────────────────────────────────────────────────────────────────────────────────────────────


def test_source_that_is_fresh_is_not_asked(services: Services, outbound: ScriptedOutbound, clock: FrozenClock) -> None:
    outbound.caching = FRESH
    first = run_new(services)
    clock.move(59)
    second = run_new(services)
    assert (second.reused, second.thumbnail, second.source) == (Reuse.FRESH, first.thumbnail, first.source)
    assert read(services, second) == PICTURE.body
    assert len(outbound.fetched) == 1


def test_source_is_fresh_from_when_it_was_asked(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """A slow answer is no younger for it."""
    outbound.caching = FRESH
    outbound.on_fetch = meanwhile(lambda: clock.move(10), outbound.on_fetch)
    run_new(services)
    clock.move(50)
    assert run_new(services).reused is None


def test_failure_is_no_result(services: Services, outbound: ScriptedOutbound, sandbox: ScriptedSandbox) -> None:
    outbound.caching = FRESH
    sandbox.on_render = fail_with(ImageCorrupt())
    run_new(services)
    assert run_new(services).reused is None
    assert len(outbound.fetched) == 2


def test_variants_are_used_again_with_their_failures(
    services: Services, outbound: ScriptedOutbound, sandbox: ScriptedSandbox
) -> None:
    outbound.caching = FRESH
    sandbox.on_render = lambda: replace(RENDERING, pictures=(PICTURE, replace(PICTURE, body=b"big"), RenderFailed()))
    variants = {"big": ThumbnailSpec(width=500), "bad": ThumbnailSpec(width=600)}
    first = run_new(services, variants=variants)
    second = run_new(services, variants=variants)
    assert second.reused is Reuse.FRESH
    assert second.variants == first.variants
    assert read(services, second, "-big.jpg") == b"big"


# ── who shares with whom ────────────────────────────────────────────────────────────────────────────────


def run_for_two_accounts(services: Services) -> Job:
    """Run a job of one account, and then the same of another one."""
    run_new(services)
    other = build_account("other")
    assert services.ledger.accounts.record(other)
    return run(services, get_job(services, accept_job(services, other, build_new_job()).id))


def test_accounts_do_not_share(services: Services, outbound: ScriptedOutbound) -> None:
    """Not even that somebody else has asked for it."""
    outbound.caching = FRESH
    assert run_for_two_accounts(services).reused is None


def test_accounts_share_where_a_setting_says_so(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    outbound.caching = FRESH
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, THUMBS_REUSE="all")
    assert run_for_two_accounts(services).reused is Reuse.FRESH


def test_nobody_shares_where_a_setting_says_so(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    outbound.caching = FRESH
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, THUMBS_REUSE="off")
    first, second = accept(services), accept(services)
    run(services, first)
    assert get_job(services, second.id).status is JobStatus.QUEUED
    assert run(services, second).reused is None
    assert len(outbound.fetched) == 2


# ── sources that keep failing ───────────────────────────────────────────────────────────────────────────


def fail_often(services: Services, outbound: ScriptedOutbound, count: int, error: JobError = NOT_FOUND) -> None:
    """Run jobs of one source that fails."""
    outbound.on_fetch = fail_with(error)
    for _ in range(count):
        assert run_new(services).status is JobStatus.FAILED


def test_source_that_keeps_failing_is_refused_at_once(services: Services, outbound: ScriptedOutbound) -> None:
    fail_often(services, outbound, 3)
    job = run_new(services, spec=ThumbnailSpec(width=7))
    assert job.error is not None
    assert (job.error.code, job.error.source_status, job.reused) == ("source_http_error", 404, Reuse.FRESH)
    assert len(outbound.fetched) == 3


def test_source_that_keeps_failing_is_tried_again_after_a_while(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """From its last failure: that jobs are refused makes it no longer."""
    fail_often(services, outbound, 3)
    clock.move(services.settings.failure_cache_seconds - 1)
    assert run_new(services).reused is Reuse.FRESH
    clock.move(1)
    outbound.on_fetch = lambda: b"a source"
    assert run_new(services).status is JobStatus.SUCCEEDED


def test_failures_that_are_not_in_a_row_do_not_count(services: Services, outbound: ScriptedOutbound) -> None:
    fail_often(services, outbound, 2)
    outbound.on_fetch = lambda: b"a source"
    run_new(services)
    fail_often(services, outbound, 2)
    assert run_new(services).reused is None


def test_failure_that_may_pass_is_not_remembered(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable())
    for _ in range(4):
        job = accept(services)
        for _ in range(3):
            run(services, job)
            clock.move(15)
        assert get_job(services, job.id).status is JobStatus.FAILED
    assert len(outbound.fetched) == 12


def test_work_that_takes_too_long_is_refused_and_other_work_with_the_source_is_not(
    services: Services, sandbox: ScriptedSandbox
) -> None:
    """How long it takes depends on what is asked for."""
    sandbox.on_render = fail_with(DecoderTimeout())
    large = ThumbnailSpec(width=1024)
    for _ in range(3):
        run_new(services, spec=large)
    assert run_new(services, spec=large).reused is Reuse.FRESH
    assert run_new(services).reused is None


def test_thumbnail_that_is_fresh_is_used_although_the_source_keeps_failing(
    services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.caching = FRESH
    run_new(services, spec=ThumbnailSpec(width=7))
    fail_often(services, outbound, 3)
    assert run_new(services, spec=ThumbnailSpec(width=7)).status is JobStatus.SUCCEEDED


@pytest.mark.parametrize("off", [{"THUMBS_FAILURE_CACHE_SECONDS": "0"}, {"THUMBS_REUSE": "off"}])
def test_failures_are_not_remembered_where_a_setting_says_so(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound, off: dict[str, str]
) -> None:
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, **off)
    fail_often(services, outbound, 5)
    assert len(outbound.fetched) == 5


# ── sources that come along, several thumbnails, and those in the event ─────────────────────────────────


def test_source_that_comes_along_is_not_fetched(services: Services, outbound: ScriptedOutbound) -> None:
    job = run_new(services, source_url=None, source_data=b"an image")
    assert (job.status, job.source and job.source.bytes, outbound.fetched) == (JobStatus.SUCCEEDED, 8, [])


def test_same_source_that_comes_along_again_is_not_decoded_again(services: Services, sandbox: ScriptedSandbox) -> None:
    run_new(services, source_url=None, source_data=b"an image")
    assert run_new(services, source_url=None, source_data=b"an image").reused is Reuse.FRESH
    assert run_new(services, source_url=None, source_data=b"another").reused is None
    assert len(sandbox.waits_seconds) == 2


def test_variant_that_cannot_be_made_fails_alone(services: Services, sandbox: ScriptedSandbox) -> None:
    sandbox.on_render = lambda: replace(RENDERING, pictures=(PICTURE, RenderFailed(), PICTURE))
    job = run_new(services, variants={"bad": ThumbnailSpec(), "good": ThumbnailSpec()})
    bad, good = job.variants["bad"], job.variants["good"]
    assert (job.status, bad.thumbnail, bad.error and bad.error.code) == (JobStatus.SUCCEEDED, None, "render_failed")
    assert (good.error, read(services, job, "-good.jpg")) == (None, PICTURE.body)


def test_thumbnail_that_cannot_be_made_fails_the_job(services: Services, sandbox: ScriptedSandbox) -> None:
    sandbox.on_render = lambda: replace(RENDERING, pictures=(RenderFailed(), PICTURE))
    job = run_new(services, variants={"good": ThumbnailSpec()})
    assert (job.status, job.variants["good"].thumbnail) == (JobStatus.FAILED, None)


def test_deleted_job_takes_all_its_thumbnails_along(services: Services, sandbox: ScriptedSandbox) -> None:
    sandbox.on_render = lambda: replace(RENDERING, pictures=(PICTURE, PICTURE))
    job = run_new(services, variants={"big": ThumbnailSpec(width=500)})
    delete_job(services, services.ledger.accounts.list_all()[0], job.id)
    assert (read(services, job), read(services, job, "-big.jpg")) == (None, None)


@pytest.mark.parametrize("is_inline", [True, False])
def test_event_holds_the_image_where_that_was_asked_for(services: Services, is_inline: bool) -> None:
    job = run_new(services, is_inline=is_inline)
    [recorded] = services.ledger.events.list_after(job.account_id, EventFilter(), 10)
    told = parse_event(recorded.body)["data"]["job"]["thumbnail"]
    assert ("data_url" in told) == is_inline


def test_shared_run_puts_the_image_into_the_events_that_are_to_hold_it(services: Services) -> None:
    first, second = accept(services), accept(services, is_inline=True)
    run(services, first)
    for recorded in services.ledger.events.list_after(first.account_id, EventFilter(), 10):
        told = parse_event(recorded.body)["data"]["job"]
        assert ("data_url" in told["thumbnail"]) == (told["id"] == second.id)


def test_result_is_kept_no_longer_than_its_job(
    services: Services, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    outbound.caching = replace(FRESH, fresh_seconds=timedelta(days=300).total_seconds())
    first = run_new(services)
    clock.move(timedelta(days=services.settings.retention_days).total_seconds())
    services.ledger.upkeep.forget_expired_jobs(clock.now(), 10)
    assert services.ledger.jobs.find(first.id) is None
    assert run_new(services).reused is None
