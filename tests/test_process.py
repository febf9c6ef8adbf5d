"""One run of a job: how each step's failure ends, and that nothing is lost, counted wrongly or told twice."""

from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import pytest

from tests.support.builders import parse_event
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.images import build_photo, encode
from tests.support.ledgers import make_sqlite_ledger
from tests.support.servers import SourceServer
from tests.support.services import (
    ScriptedOutbound,
    ScriptedSandbox,
    UnavailableBlobs,
    accept,
    build_lost_ledger,
    build_outbound,
    build_test_services,
    build_test_settings,
    fail_with,
    get_callback,
    get_job,
    meanwhile,
)
from thumbs.domain import DecodeLimits, DeliveryStatus, EventFilter, Job, JobStatus, Source
from thumbs.errors import (
    DecodersBusy,
    DecoderTimeout,
    ImageCorrupt,
    JobError,
    LedgerUnavailable,
    RenderFailed,
    SourceBusy,
    SourceHttpError,
    SourceUnreachable,
    list_job_errors,
)
from thumbs.ledger import Ledger
from thumbs.process import FINISH_MARGIN_SECONDS, process
from thumbs.retries import JITTER, MAX_RUNS, RUN_DELAYS_SECONDS
from thumbs.sandbox import Sandbox
from thumbs.services import Services

FINAL_ERRORS = [error for error in list_job_errors() if not error.retryable and error is not SourceHttpError]
RETRYABLE_ERRORS = [error for error in list_job_errors() if error.retryable]


@pytest.fixture(scope="module")
def real_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services that fetch over loopback and decode in a child process."""
    ledger = make_sqlite_ledger(tmp_path_factory.mktemp("ledger"))
    outbound = build_outbound(build_test_settings())
    decoders = Sandbox(DecodeLimits(), decoders=1, timeout_seconds=10, memory_bytes=1024**3)
    with closing(ledger), closing(outbound), decoders as sandbox:
        yield build_test_services(ledger, RecordingDispatcher(), FrozenClock(), outbound=outbound, sandbox=sandbox)


def run(services: Services, job: Job) -> Job:
    process(services, job.id)
    return get_job(services, job.id)


# ── success ─────────────────────────────────────────────────────────────────────────────────────────────


def test_run_turns_a_source_into_a_stored_thumbnail(real_services: Services) -> None:
    with SourceServer() as source:
        body = encode(build_photo(), "PNG")
        job = run(real_services, accept(real_services, source_url=source.serve("/cat.png", body)))
    assert job.status is JobStatus.SUCCEEDED
    assert job.thumbnail is not None
    assert job.source == Source("image/png", 320, 240, len(body))
    blob = real_services.blobs.find(f"{job.blob_name}.jpg", real_services.clock.now())
    assert blob is not None
    assert (blob.sha256, len(blob.body)) == (job.thumbnail.sha256, job.thumbnail.bytes)


def test_run_of_something_that_is_no_image_fails_at_once(real_services: Services) -> None:
    with SourceServer() as source:
        job = run(real_services, accept(real_services, source_url=source.serve("/page", b"<html>")))
    assert job.error is not None
    assert (job.status, job.error.code, job.error.stage) == (JobStatus.FAILED, "unsupported_format", "decode")


def test_run_of_a_missing_source_tells_its_status(real_services: Services) -> None:
    with SourceServer() as source:
        job = run(real_services, accept(real_services, source_url=source.url("/status/404")))
    assert job.error is not None
    assert (job.error.code, job.error.source_status) == ("source_http_error", 404)


def test_success_writes_event_and_delivery_and_dispatches_it(
    services: Services, dispatcher: RecordingDispatcher
) -> None:
    job = run(services, accept(services))
    delivery = get_callback(services, job.id)
    assert (delivery.status, delivery.url) == (DeliveryStatus.PENDING, job.callback_url)
    assert dispatcher.delivered == [(delivery.id, 0)]


def test_success_without_callback_dispatches_nothing(services: Services, dispatcher: RecordingDispatcher) -> None:
    job = run(services, accept(services, callback_url=None))
    assert job.status is JobStatus.SUCCEEDED
    assert dispatcher.delivered == []


def test_thumbnail_is_kept_for_its_days(services: Services, clock: FrozenClock) -> None:
    job = run(services, accept(services))
    blob = services.blobs.find(f"{job.blob_name}.jpg", clock.now())
    assert blob is not None
    assert blob.expires_at == clock.now() + timedelta(days=services.settings.thumbnail_days)


def test_timings_tell_each_step_in_milliseconds(
    services: Services, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    job = accept(services)
    clock.move(0.5)
    outbound.on_fetch = meanwhile(lambda: clock.move(0.041), outbound.on_fetch)
    assert run(services, job).timings_ms == {"queued": 500, "fetched": 41, "decoded": 0, "stored": 0}


# ── messages that come twice, late, or for nothing ──────────────────────────────────────────────────────


def test_message_that_comes_twice_leads_to_one_run(services: Services, outbound: ScriptedOutbound) -> None:
    job = accept(services)
    process(services, job.id)
    process(services, job.id)
    assert len(outbound.fetched) == 1


def test_message_that_comes_while_the_job_runs_does_nothing(services: Services, outbound: ScriptedOutbound) -> None:
    job = accept(services)
    outbound.on_fetch = meanwhile(lambda: process(services, job.id), outbound.on_fetch)
    assert run(services, job).run_count == 1
    assert len(outbound.fetched) == 1


def test_message_that_comes_before_the_job_is_due_does_nothing(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable())
    job = run(services, accept(services))
    assert run(services, job) == job


def test_message_for_a_job_that_is_not_there_does_nothing(services: Services, outbound: ScriptedOutbound) -> None:
    process(services, "job_unknown")
    assert outbound.fetched == []


# ── failures ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("error", FINAL_ERRORS, ids=lambda error: error.code)
def test_permanent_error_fails_the_job_at_once(
    services: Services, outbound: ScriptedOutbound, error: type[JobError]
) -> None:
    outbound.on_fetch = fail_with(error())
    job = run(services, accept(services))
    assert job.error is not None
    assert (job.status, job.error.code, job.error.stage) == (JobStatus.FAILED, error.code, error.stage)


@pytest.mark.parametrize("error", RETRYABLE_ERRORS, ids=lambda error: error.code)
def test_retryable_error_queues_the_job_again(
    services: Services, outbound: ScriptedOutbound, error: type[JobError]
) -> None:
    outbound.on_fetch = fail_with(error())
    job = run(services, accept(services))
    assert (job.status, job.run_count, job.error) == (JobStatus.QUEUED, 1, None)


@pytest.mark.parametrize("error", [ImageCorrupt, DecoderTimeout, RenderFailed])
def test_error_of_the_decoder_fails_the_job(
    services: Services, sandbox: ScriptedSandbox, error: type[JobError]
) -> None:
    sandbox.on_render = fail_with(error())
    job = run(services, accept(services))
    assert job.error is not None
    assert job.error.code == error.code


def test_retry_is_dispatched_with_the_delay_that_the_ledger_has(
    services: Services, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable())
    job = run(services, accept(services))
    (job_id, delay_seconds) = dispatcher.processed[-1]
    assert job_id == job.id
    assert RUN_DELAYS_SECONDS[0] <= delay_seconds <= RUN_DELAYS_SECONDS[0] * (1 + JITTER)
    assert job.run_at == clock.now() + timedelta(seconds=delay_seconds)


def test_retry_waits_for_the_sources_own_wish(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceHttpError(source_status=503, retry_after_seconds=30))
    run(services, accept(services))
    assert dispatcher.processed[-1][1] == 30


def use_up_runs(services: Services, clock: FrozenClock, job: Job) -> Job:
    for _ in range(MAX_RUNS):
        clock.move(60)
        process(services, job.id)
    return get_job(services, job.id)


def test_used_up_runs_fail_the_job_with_event_and_delivery(
    services: Services, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(SourceHttpError(source_status=503))
    job = use_up_runs(services, clock, accept(services))
    assert job.error is not None
    assert (job.status, job.run_count, job.error.source_status) == (JobStatus.FAILED, MAX_RUNS, 503)
    assert dispatcher.delivered == [(get_callback(services, job.id).id, 0)]


def test_later_run_can_succeed(services: Services, clock: FrozenClock, outbound: ScriptedOutbound) -> None:
    outbound.on_fetch = fail_with(SourceUnreachable())
    job = run(services, accept(services))
    outbound.on_fetch = lambda: b"a source"
    clock.move(60)
    job = run(services, job)
    assert (job.status, job.run_count, job.error) == (JobStatus.SUCCEEDED, 2, None)


def test_expired_job_fails_without_being_fetched(
    services: Services, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    job = accept(services)
    clock.move(timedelta(days=services.settings.retention_days).total_seconds())
    job = run(services, job)
    assert job.error is not None
    assert (job.error.code, outbound.fetched) == ("expired", [])


def test_blob_store_that_does_not_answer_is_tried_again(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, blobs=UnavailableBlobs())
    job = accept(services)
    assert run(services, job).status is JobStatus.QUEUED
    job = use_up_runs(services, clock, job)
    assert job.error is not None
    assert (job.error.code, job.run_count) == ("storage_unavailable", MAX_RUNS)


def test_event_of_a_failed_job_tells_the_error(services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_fetch = fail_with(SourceHttpError("10.0.0.1 said so", source_status=404))
    job = run(services, accept(services))
    [recorded] = services.ledger.events.list_after(job.account_id, EventFilter(), 10)
    event = parse_event(recorded.body)
    assert (event["type"], event["data"]["job"]["error"]["code"]) == ("job.failed", "source_http_error")
    assert b"10.0.0.1" not in recorded.body


# ── busy decoders ───────────────────────────────────────────────────────────────────────────────────────


def test_busy_decoders_hand_the_job_back_uncounted(
    services: Services, dispatcher: RecordingDispatcher, sandbox: ScriptedSandbox
) -> None:
    """It waited for us, not for its source: however often, it does not use up its runs."""
    sandbox.on_render = fail_with(DecodersBusy("none came free"))
    job = run(services, accept(services))
    assert (job.status, job.run_count) == (JobStatus.QUEUED, 0)
    assert dispatcher.processed[-1] == (job.id, DecodersBusy.delay_seconds)


def test_busy_source_hands_the_job_back_until_the_time_that_was_promised(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """Nobody's fault: no run is counted, and it comes when the host has a slot for it."""
    outbound.on_fetch = fail_with(SourceBusy(7.5))
    job = run(services, accept(services))
    assert (job.status, job.run_count) == (JobStatus.QUEUED, 0)
    assert job.run_at == clock.now() + timedelta(seconds=7.5)
    assert dispatcher.processed[-1] == (job.id, 7.5)


def test_job_waits_for_a_decoder_no_longer_than_its_lease_allows(
    services: Services, clock: FrozenClock, outbound: ScriptedOutbound, sandbox: ScriptedSandbox
) -> None:
    outbound.on_fetch = meanwhile(lambda: clock.move(20), outbound.on_fetch)
    run(services, accept(services))
    settings = services.settings
    assert sandbox.waits_seconds == [
        settings.lease_seconds - 20 - settings.decode_timeout_seconds - FINISH_MARGIN_SECONDS
    ]


# ── what else can go wrong ──────────────────────────────────────────────────────────────────────────────


def take_over(services: Services, clock: FrozenClock, job: Job) -> None:
    """Let the lease run out, and another worker take the job."""
    clock.move(services.settings.lease_seconds + 1)
    [(_, stale)] = services.ledger.jobs.list_expired_leases(clock.now(), 10)
    assert services.ledger.jobs.requeue(stale, clock.now(), clock.now())
    assert services.ledger.jobs.lease(services.new_lease(job.id, clock.now()), clock.now())


@pytest.mark.parametrize("error", [None, SourceUnreachable(), ImageCorrupt(), DecodersBusy("none came free")])
def test_result_of_a_lost_lease_is_dropped(
    services: Services,
    dispatcher: RecordingDispatcher,
    clock: FrozenClock,
    sandbox: ScriptedSandbox,
    error: Exception | None,
) -> None:
    """A worker that was thought dead and comes back changes nothing, whatever it comes back with."""
    job = accept(services)
    end = fail_with(error) if error else sandbox.on_render
    sandbox.on_render = meanwhile(lambda: take_over(services, clock, job), end)
    process(services, job.id)
    assert (get_job(services, job.id).status, get_job(services, job.id).run_count) == (JobStatus.RUNNING, 2)
    assert (dispatcher.processed, dispatcher.delivered) == ([(job.id, 0)], [])


def test_queue_that_is_down_at_the_end_loses_nothing(services: Services, dispatcher: RecordingDispatcher) -> None:
    job = accept(services)
    dispatcher.is_down = True
    assert run(services, job).status is JobStatus.SUCCEEDED
    assert get_callback(services, job.id).status is DeliveryStatus.PENDING


def test_queue_that_is_down_at_a_retry_loses_nothing(
    services: Services, dispatcher: RecordingDispatcher, outbound: ScriptedOutbound
) -> None:
    job = accept(services)
    dispatcher.is_down = True
    outbound.on_fetch = fail_with(SourceUnreachable())
    assert run(services, job).status is JobStatus.QUEUED


def test_ledger_that_does_not_answer_is_told(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    """The task wrapper hears of it; nothing was leased, so nothing is to be undone."""
    with pytest.raises(LedgerUnavailable):
        process(build_test_services(build_lost_ledger(), dispatcher, clock), "job_1")
