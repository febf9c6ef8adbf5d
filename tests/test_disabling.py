"""What is done about endpoints that fail: told after a day, disabled after five or at once after a 410, not before."""

from datetime import timedelta

import pytest

from tests.support.builders import parse_event
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import (
    ScriptedOutbound,
    accept,
    answer_by_url,
    build_answer,
    build_test_services,
    deliver_all,
    get_callback,
    get_endpoint,
    list_deliveries,
    meanwhile,
    register,
)
from thumbs.accounts import get_default_account
from thumbs.deliver import deliver
from thumbs.documents import format_moment
from thumbs.domain import Endpoint, EventFilter, EventType
from thumbs.endpoints import change_endpoint, enable_endpoint
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services

URL = "https://app.example/endpoint"
OTHER = "https://ops.example/endpoint"
CALLBACK = "https://app.example/hooks"
STEP_SECONDS = 12.0
"""Every delivery that fails is tried again once in each."""
QUICK = {
    "THUMBS_WEBHOOK_SCHEDULE_SECONDS": ",".join(["10"] * 20),
    "THUMBS_WEBHOOK_BREAKER_FAILURES": "1000",
    "THUMBS_WEBHOOK_FAILING_SECONDS": "30",
    "THUMBS_WEBHOOK_DISABLE_SECONDS": "60",
    "THUMBS_WEBHOOK_DISABLE_FAILURES": "6",
    "THUMBS_WEBHOOK_DISABLE_EVENTS": "2",
}
"""Days are seconds here, and the breaker is not in the way."""


@pytest.fixture
def services(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> Services:
    return build_test_services(ledger, dispatcher, clock, outbound=outbound, **QUICK)


@pytest.fixture
def endpoint(services: Services, outbound: ScriptedOutbound) -> Endpoint:
    """An endpoint that took its ping and fails from now on; another one does well."""
    register(services, OTHER, event_types=("endpoint.*",))
    endpoint, _ = register(services, URL)
    answer_by_url(outbound, {URL: 500})
    return endpoint


def run_job(services: Services, callback_url: str | None = None) -> None:
    """Run a job to its end, and make every attempt that is due."""
    process(services, accept(services, callback_url=callback_url).id)
    deliver_all(services)


def fail_for(services: Services, clock: FrozenClock, steps: int, events: int = 2) -> None:
    """Let so many events fail now, and once in each of some steps."""
    for _ in range(events):
        run_job(services)
    for _ in range(steps):
        clock.move(STEP_SECONDS)
        deliver_all(services)


def list_told(outbound: ScriptedOutbound) -> list[str]:
    """List the types of the events that the other endpoint was told of the one that fails."""
    kinds = [parse_event(post.body)["type"] for post in outbound.posted if post.url == OTHER]
    return [kind for kind in kinds if kind != EventType.PING]


def is_enabled(services: Services, endpoint: Endpoint) -> bool:
    return get_endpoint(services, endpoint).is_enabled


# ── 410 ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_410_disables_the_endpoint_and_fails_what_is_open(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    run_job(services)
    answer_by_url(outbound, {URL: 410})
    run_job(services)
    found = get_endpoint(services, endpoint)
    assert (found.status, found.disabled_reason) == ("disabled", "gone")
    told = [(each.status, each.reason) for each in list_deliveries(services, endpoint.id)]
    assert told == [("failed", "endpoint_disabled"), ("failed", "gone")]


def test_410_is_told_to_the_other_endpoints(services: Services, endpoint: Endpoint, outbound: ScriptedOutbound) -> None:
    answer_by_url(outbound, {URL: 410})
    run_job(services)
    assert list_told(outbound) == ["endpoint.disabled"]
    told = parse_event(outbound.posted[-1].body)["data"]["endpoint"]
    assert (told["id"], told["status"], told["disabled_reason"]) == (endpoint.id, "disabled", "gone")


def test_410_of_a_callback_is_its_deliverys_alone(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    answer_by_url(outbound, {CALLBACK: 410})
    run_job(services, CALLBACK)
    assert is_enabled(services, endpoint)
    assert list_told(outbound) == []


def test_410_of_a_url_that_is_callback_and_endpoint_disables_the_endpoint(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    answer_by_url(outbound, {URL: 410})
    run_job(services, URL)
    assert not is_enabled(services, endpoint)


def test_410_of_the_url_that_the_endpoint_had_before_does_not_disable_it(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    """Its owner has seen the answers, and changed the URL while one more was under way."""
    account = get_default_account(services)
    outbound.on_post = meanwhile(
        lambda: change_endpoint(services, account, endpoint.id, {"url": "https://new.example/"}),
        lambda: build_answer(410),
    )
    run_job(services)
    assert is_enabled(services, endpoint)


def test_events_after_a_410_are_on_record_as_missed(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    answer_by_url(outbound, {URL: 410})
    run_job(services)
    posted = len(outbound.posted)
    run_job(services)
    assert list_deliveries(services, endpoint.id)[-1].reason == "endpoint_disabled"
    assert len(outbound.posted) == posted


# ── failing for a while ─────────────────────────────────────────────────────────────────────────────────


def test_account_is_told_of_a_failing_endpoint_once_and_not_before_its_time(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    began = clock.now()
    fail_for(services, clock, 2)
    assert list_told(outbound) == []
    fail_for(services, clock, 2, events=0)
    assert list_told(outbound) == ["endpoint.failing"]
    [event] = [post for post in outbound.posted if post.url == OTHER][-1:]
    assert parse_event(event.body)["data"]["failing_since"] == format_moment(began)
    assert is_enabled(services, endpoint)


def test_account_is_told_again_when_the_endpoint_had_done_well_in_between(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    for _ in range(2):
        answer_by_url(outbound, {URL: 500})
        fail_for(services, clock, 3)
        answer_by_url(outbound, {})
        fail_for(services, clock, 1)
    assert list_told(outbound) == ["endpoint.failing"] * 2


def test_endpoint_that_failed_for_long_enough_often_enough_is_disabled_and_told(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    fail_for(services, clock, 4)
    assert is_enabled(services, endpoint)
    fail_for(services, clock, 1, events=0)
    found = get_endpoint(services, endpoint)
    assert (found.status, found.disabled_reason) == ("disabled", "failing")
    assert list_told(outbound) == ["endpoint.failing", "endpoint.disabled"]
    told = parse_event(outbound.posted[-1].body)["data"]["endpoint"]
    assert (told["status"], told["disabled_reason"], told["health"]) == ("disabled", "failing", "degraded")


def test_endpoint_is_not_disabled_for_one_event_however_often_it_fails(
    services: Services, endpoint: Endpoint, clock: FrozenClock
) -> None:
    """It may be that event which it cannot take."""
    fail_for(services, clock, 15, events=1)
    assert is_enabled(services, endpoint)


def test_endpoint_is_not_disabled_for_few_failures(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    variables = QUICK | {"THUMBS_WEBHOOK_DISABLE_FAILURES": "20"}
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, **variables)
    endpoint, _ = register(services)
    outbound.on_post = lambda: build_answer(500)
    fail_for(services, clock, 8)
    assert is_enabled(services, endpoint)
    fail_for(services, clock, 1, events=0)
    assert not is_enabled(services, endpoint)


def test_one_2xx_begins_the_time_anew(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    fail_for(services, clock, 4)
    answer_by_url(outbound, {})
    run_job(services)
    answer_by_url(outbound, {URL: 500})
    fail_for(services, clock, 4)
    assert is_enabled(services, endpoint)


def test_enabled_again_it_begins_anew(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    fail_for(services, clock, 5)
    enable_endpoint(services, get_default_account(services), endpoint.id)
    fail_for(services, clock, 4)
    assert is_enabled(services, endpoint)
    fail_for(services, clock, 1, events=0)
    assert list_told(outbound) == ["endpoint.failing", "endpoint.disabled"] * 2


def test_callbacks_that_fail_for_ever_are_neither_told_nor_disabled(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, clock: FrozenClock
) -> None:
    """They have no switch; each delivery fails loudly for itself."""
    answer_by_url(outbound, {CALLBACK: 500})
    job = accept(services, callback_url=CALLBACK)
    process(services, job.id)
    fail_for(services, clock, 25, events=0)
    assert get_callback(services, job.id).reason == "attempts_exhausted"
    assert list_told(outbound) == []


def test_account_without_another_endpoint_finds_it_among_its_events(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound, **QUICK)
    endpoint, _ = register(services)
    outbound.on_post = lambda: build_answer(500)
    fail_for(services, clock, 5)
    kinds = [EventType.ENDPOINT_FAILING, EventType.ENDPOINT_DISABLED]
    assert list_deliveries(services, endpoint.id, *kinds) == []
    events = services.ledger.events.list_after(endpoint.account_id, EventFilter(), 100)
    assert [event.type for event in events][-2:] == kinds


def test_queue_that_is_down_does_not_keep_it_from_being_disabled(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound, dispatcher: RecordingDispatcher
) -> None:
    dispatcher.is_down = True
    answer_by_url(outbound, {URL: 410})
    run_job(services)
    assert not is_enabled(services, endpoint)
    assert list_told(outbound) == ["endpoint.disabled"]


def test_by_default_it_takes_five_days(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, outbound: ScriptedOutbound
) -> None:
    """With an event every six hours, and the real schedule and breaker: told on the second day."""
    services = build_test_services(ledger, dispatcher, clock, outbound=outbound)
    register(services, OTHER, event_types=("endpoint.*",))
    endpoint, _ = register(services, URL)
    answer_by_url(outbound, {URL: 500})
    began = clock.now()
    told: dict[str, int] = {}
    while is_enabled(services, endpoint):
        run_job(services)
        told.update({kind: (clock.now() - began) // timedelta(hours=1) for kind in list_told(outbound)[len(told) :]})
        clock.move(6 * 3600)
    assert told == {"endpoint.failing": 24, "endpoint.disabled": 120}


def test_two_answers_of_410_at_once_are_told_once(
    services: Services, endpoint: Endpoint, outbound: ScriptedOutbound
) -> None:
    answer_by_url(outbound, {})
    run_job(services)
    for _ in range(2):
        process(services, accept(services, callback_url=None).id)
    _, first, second = list_deliveries(services, endpoint.id)

    def end_the_other() -> None:
        answer_by_url(outbound, {URL: 410})
        deliver(services, second.id)

    outbound.on_post = meanwhile(end_the_other, lambda: build_answer(410))
    deliver(services, first.id)
    deliver_all(services)
    assert [each.reason for each in list_deliveries(services, endpoint.id)] == [None, "gone", "gone"]
    assert list_told(outbound) == ["endpoint.disabled"]
