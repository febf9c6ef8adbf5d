"""The ledger against a model of it: whatever the order of moves, both agree, on each database.

Hypothesis makes up sequences of moves, with right and stale tokens, early and late. After each move every row is
compared with the model, and with the row before (tests/support/ledger_machine.py).
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule, run_state_machine_as_test

from tests.support.builders import (
    NOW,
    build_attempt,
    build_ending,
    build_endpoint,
    build_lease,
    new_id,
)
from tests.support.engines import Postgres
from tests.support.ledger_machine import Choice, OpenLedger
from tests.support.ledger_model import SMALL_RULES
from tests.support.ledger_moves import CHOICES, DELAYS_SECONDS, HOOKS, LEASE, LIMIT, RETENTION, TOKENS_BACK, JobMoves
from tests.support.ledgers import make_sqlite_ledger
from thumbs.announcements import announce_ping
from thumbs.domain import (
    CALLBACKS,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    EndpointStatus,
    NextStep,
    Trigger,
)
from thumbs.lanes import Ending
from thumbs.ledger import Ledger
from thumbs.retries import repeat

GAP = timedelta(milliseconds=100)
EXAMPLES = 25
STEPS = 60
MAX_ENDPOINTS = 2
"""In one example: few, so that each moves often."""
ELSEWHERE = "https://other.example/hooks"
URLS = st.sampled_from([HOOKS, ELSEWHERE])
STAGES = st.sampled_from([2, 4, 3, 1, 5, 0])
FATES = st.sampled_from(["moves", "is disabled", "is deleted", "stays", "is not there"])
"""How far a job is, and what becomes of an endpoint. Hypothesis begins with the first ones: a delivery that waits."""

TIMES_SECONDS = st.sampled_from([1, 5, 20, 45, 60, 60, 60, 90_000, 700_000])
"""A moment, less and more than a lease, more than a key's life, more than a job's."""
OUTCOMES = st.sampled_from(["arrives", "fails", "fails", "is gone"])
ENDINGS = st.builds(
    lambda seconds, pause: build_ending(duration_seconds=seconds, pause_seconds=pause),
    st.sampled_from([0.1, 0.1, 6.0]),
    st.sampled_from([0, 0, 30]),
)


class EveryMove(JobMoves):
    """Makes the moves, each as its rule says when it can be made."""

    @initialize(stage=STAGES, fate=FATES)
    def begin(self, stage: int, fate: str) -> None:
        """Begin with a job somewhere on its way, up to a second attempt, so that short sequences reach the far end.

        An endpoint may have its callback's URL, and go on its way, too.
        """
        if fate != "is not there":
            self._register(HOOKS)
        newest = (0, True)
        way: tuple[Callable[[], object], ...] = (
            lambda: self._lease_job(self.job_ids[0], 0),
            lambda: self._finish(self.job_ids[0], 0, is_success=True),
            lambda: self._lease_delivery(self._choose_delivery(newest, DeliveryStatus.PENDING)),
            lambda: self._end_attempt(self._choose_delivery(newest, DeliveryStatus.SENDING), 0, "fails", 0),
            lambda: self._lease_delivery(self._choose_delivery(newest, DeliveryStatus.PENDING)),
        )
        self._record_job(HOOKS, "one", 0)
        for step in way[:stage]:
            step()
        if fate == "moves":
            self.change_url(newest, ELSEWHERE)
        elif fate == "is disabled":
            self.disable(newest, DisabledReason.MANUAL)
        elif fate == "is deleted":
            self.delete_endpoint(newest)

    # ── time ──

    @rule(seconds=TIMES_SECONDS, is_swept=st.booleans())
    def wait(self, seconds: int, is_swept: bool) -> None:
        """Time passes, and what it has left behind is found."""
        self.model.now += timedelta(seconds=seconds)
        if is_swept:
            self.sweep_runs()
            self.sweep_attempts()
            self.adopt()
            self.forget()
            self.claim_undispatched_jobs()

    def sweep_attempts(self) -> None:
        """Exactly the attempts whose lease is over are found, each the last one of its delivery."""
        now = self.model.now
        expired = {name for name, each in self.model.deliveries.items() if each.until is not None and each.until < now}
        found = self.ledger.deliveries.list_expired_leases(now, LIMIT)
        assert {delivery.id for delivery, _, _ in found} == expired
        for delivery, attempt, _ in found:
            assert attempt.number == delivery.attempt_count
            self._record_attempt(delivery.id, 0, "abandoned", repeat(delivery, now), None)

    def adopt(self) -> None:
        """Exactly the callbacks that have parted from an endpoint, and are due, are given a lane."""
        now = self.model.now
        assert self.ledger.lanes.adopt(now, now, LIMIT) == self.model.adopt()

    def forget(self) -> None:
        """Exactly the final jobs past their retention are forgotten, and then the lanes that nothing hangs on."""
        now, expired = self.model.now, self.model.list_final_expired()
        assert self.ledger.upkeep.forget_expired_jobs(now, LIMIT) == len(expired)
        for name in expired:
            self.model.forget_job(name)
        since = now - RETENTION
        assert self.ledger.events.forget_expired(since, LIMIT) == self.model.forget_loose_events(since)
        assert self.ledger.lanes.forget_idle(since, LIMIT) == self.model.forget_idle_lanes(since)

    # ── deliveries ──

    @precondition(lambda self: bool(self.delivery_ids))
    @rule(choice=CHOICES)
    def lease_delivery(self, choice: Choice) -> None:
        """A delivery is taken if it is due and its lane may start it; not by an endpoint that would not take it."""
        self._lease_delivery(self._choose_delivery(choice, DeliveryStatus.PENDING))

    def _lease_delivery(self, delivery_id: str) -> None:
        model, now = self.model.deliveries.get(delivery_id), self.model.now
        can = self.model.may_start(delivery_id)
        is_refused = can and model is not None and self.model.turns_away(model.delivery)
        lease = build_lease(delivery_id, next(self.tokens), now + LEASE)
        attempt = build_attempt(delivery_id, started_at=now)
        leased = self.call(
            lambda: self.ledger.deliveries.lease(lease, attempt, now, SMALL_RULES),
            can and not is_refused,
            may_change=is_refused,
        )
        if leased is not None:
            self.model.start(lease, leased)
        elif is_refused:
            self.model.turn_away(delivery_id)

    @rule()
    def look(self) -> None:
        """Exactly the lanes that may start are found, in their order, each with a delivery of it that is due."""
        found = self.ledger.lanes.find_startable(self.model.now, SMALL_RULES, ()).delivery_ids
        due = [self.model.deliveries[delivery_id].delivery for delivery_id in found]
        expected = self.model.choose_lanes()
        assert [delivery.lane_id for delivery in due] == expected
        assert [delivery.next_attempt_at for delivery in due] == [self.model.find_due_at(name) for name in expected]

    @precondition(lambda self: any(each.given for each in self.model.deliveries.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK, outcome=OUTCOMES, delay_seconds=DELAYS_SECONDS, ending=ENDINGS)
    def record_attempt(self, choice: Choice, back: int, outcome: str, delay_seconds: int, ending: Ending) -> None:
        """An attempt's result counts if its lease is still held, and its lane learns of it."""
        delivery_id = self._choose_delivery(choice, DeliveryStatus.SENDING)
        self._end_attempt(delivery_id, back, outcome, delay_seconds, ending)

    def _end_attempt(
        self, delivery_id: str, back: int, outcome: str, delay_seconds: int, ending: Ending | None = None
    ) -> None:
        _, leased = self.model.recall_attempt(delivery_id, back)
        if leased is None:
            return
        told = replace(ending or build_ending(), delivery_id=delivery_id, is_success=outcome == "arrives")
        is_telling = leased.delivery.trigger in (Trigger.AUTO, Trigger.RECOVER)
        step = self._decide(leased.delivery, outcome, delay_seconds)
        error_code = None if outcome == "arrives" else "http_5xx"
        self._record_attempt(delivery_id, back, error_code, step, told if is_telling else None)

    def _decide(self, delivery: Delivery, outcome: str, delay_seconds: int) -> NextStep:
        """Decide what follows, as thumbs.deliver does."""
        if outcome == "arrives":
            return NextStep(DeliveryStatus.DELIVERED, delivered_at=delivery.delivered_at or self.model.now)
        if delivery.trigger is not Trigger.AUTO and delivery.delivered_at is not None:
            return NextStep(DeliveryStatus.DELIVERED, delivered_at=delivery.delivered_at)
        if delivery.trigger is not Trigger.AUTO and delivery.resume_at is not None:
            return NextStep(DeliveryStatus.PENDING, next_attempt_at=delivery.resume_at)
        if delivery.trigger is not Trigger.AUTO or outcome == "is gone":
            return NextStep(DeliveryStatus.FAILED, reason=delivery.reason or "gone")
        next_attempt_at = self.model.now + timedelta(seconds=delay_seconds)
        return NextStep(DeliveryStatus.PENDING, next_attempt_at=next_attempt_at)

    @precondition(lambda self: any(each.given for each in self.model.deliveries.values()))
    @rule(choice=CHOICES, back=TOKENS_BACK)
    def release_delivery(self, choice: Choice, back: int) -> None:
        """A delivery that is given back is due at once, as what it was."""
        delivery_id = self._choose_delivery(choice, DeliveryStatus.SENDING)
        _, leased = self.model.recall_attempt(delivery_id, back)
        if leased is not None:
            self._record_attempt(delivery_id, back, "abandoned", repeat(leased.delivery, self.model.now), None)

    def _record_attempt(
        self, delivery_id: str, back: int, error_code: str | None, step: NextStep, ending: Ending | None
    ) -> None:
        lease, leased = self.model.recall_attempt(delivery_id, back)
        assert leased is not None
        attempt = replace(leased.attempt, error_code=error_code)
        record = self.ledger.deliveries.record
        can = self.model.sends(lease)
        if self.call(lambda: record(lease, attempt, step, self.model.now, rules=SMALL_RULES, ending=ending), can):
            self.model.end_attempt(delivery_id, error_code, step, ending)

    # ── what is asked for again ──

    @precondition(lambda self: bool(self.delivery_ids))
    @rule(choice=CHOICES)
    def ask(self, choice: Choice) -> None:
        """A delivery is due at once, whatever became of it, unless it is being sent, or to a deleted endpoint."""
        model = self.model.deliveries.get(self._choose_delivery(choice, DeliveryStatus.FAILED))
        if model is None:
            return
        delivery = (
            replace(model.delivery, endpoint_id=None) if self.model.is_parting(model.delivery) else model.delivery
        )
        if delivery.endpoint_id and not self.model.is_there(delivery.endpoint_id):
            return
        can = delivery.status is not DeliveryStatus.SENDING
        if self.call(lambda: self.ledger.redeliveries.ask(delivery, self.model.now), can):
            self.model.ask(delivery)

    @rule(choice=CHOICES, is_of_callbacks=st.booleans())
    def recover(self, choice: Choice, is_of_callbacks: bool) -> None:
        """What never arrived is due one after the other; nothing else is."""
        endpoint_id = CALLBACKS if is_of_callbacks or not self.endpoint_ids else self._choose_endpoint(choice)
        if endpoint_id != CALLBACKS and not self.model.is_there(endpoint_id, EndpointStatus.ENABLED):
            return
        now, account_id = self.model.now, self.model.account_id
        count = self.ledger.redeliveries.recover(account_id, endpoint_id, NOW, now, now, GAP)
        assert count == self.model.recover(endpoint_id, GAP)

    # ── endpoints ──

    @precondition(lambda self: len(self.endpoint_ids) < MAX_ENDPOINTS)
    @rule(url=URLS)
    def register(self, url: str) -> None:
        """An endpoint is pinged when it is new."""
        self._register(url)

    def _register(self, url: str) -> None:
        endpoint = build_endpoint(account_id=self.model.account_id, url=url, created_at=self.model.now)
        ping = announce_ping(endpoint, now=self.model.now, new_id=new_id)
        assert self.call(lambda: self.ledger.endpoints.record(endpoint, ping, MAX_ENDPOINTS), True)
        self.endpoint_ids.append(endpoint.id)
        self.model.endpoints[endpoint.id] = endpoint
        self._announce(ping)

    @precondition(lambda self: bool(self.endpoint_ids))
    @rule(choice=CHOICES)
    def ping(self, choice: Choice) -> None:
        """A ping goes to a disabled endpoint, too."""
        endpoint = self.model.endpoints[self._choose_endpoint(choice)]
        if endpoint.deleted_at is None:
            ping = announce_ping(endpoint, now=self.model.now, new_id=new_id)
            assert self.call(lambda: self.ledger.events.record(ping), True)
            self._announce(ping)

    @precondition(lambda self: bool(self.endpoint_ids))
    @rule(choice=CHOICES, url=URLS)
    def change_url(self, choice: Choice, url: str) -> None:
        """With another URL nothing is held against an endpoint, and what waits goes there."""
        endpoint = self.model.endpoints[self._choose_endpoint(choice)]
        changed, can = replace(endpoint, url=url), self.model.is_there(endpoint.id)
        if self.call(lambda: self.ledger.endpoints.change(changed, ["url"], self.model.now), can):
            self.model.change_url(endpoint.id, url)

    @precondition(lambda self: bool(self.endpoint_ids))
    @rule(choice=CHOICES, reason=st.sampled_from(DisabledReason))
    def disable(self, choice: Choice, reason: DisabledReason) -> None:
        """What is open fails; what was asked for does not."""
        endpoint = self.model.endpoints[self._choose_endpoint(choice)]
        can = self.model.is_there(endpoint.id, EndpointStatus.ENABLED)
        move = partial(self.ledger.endpoints.disable, endpoint, reason, self.model.now)
        if self.call(lambda: move() is not None, can):
            self.model.disable(endpoint.id, reason)

    @precondition(lambda self: bool(self.endpoint_ids))
    @rule(choice=CHOICES)
    def enable(self, choice: Choice) -> None:
        """Nothing is held against it any more."""
        endpoint = self.model.endpoints[self._choose_endpoint(choice)]
        can = self.model.is_there(endpoint.id, EndpointStatus.DISABLED)
        if self.call(lambda: self.ledger.endpoints.enable(endpoint, self.model.now), can):
            self.model.enable(endpoint.id)

    @precondition(lambda self: bool(self.endpoint_ids))
    @rule(choice=CHOICES)
    def delete_endpoint(self, choice: Choice) -> None:
        """All that is open fails."""
        endpoint_id = self._choose_endpoint(choice)
        can = self.model.is_there(endpoint_id)
        if self.call(lambda: self.ledger.endpoints.delete(endpoint_id, self.model.now), can):
            self.model.delete(endpoint_id)


@pytest.fixture(params=["sqlite", "postgresql"])
def open_ledger(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLedger]:
    """Opens an empty ledger on each database, as often as it is called; gives its URL too."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")

        def open_postgres() -> tuple[Ledger, str]:
            url = postgres.clear_database()
            return Ledger(url), url

        yield open_postgres
        return

    def open_sqlite() -> tuple[Ledger, str]:
        folder: Path = tmp_path_factory.mktemp("ledger")
        return make_sqlite_ledger(folder), f"sqlite:///{folder}/ledger.db"

    yield open_sqlite


@pytest.mark.timeout(400)  # When it fails, hypothesis looks for the shortest way there for up to 300 s.
def test_ledger_moves_as_the_model_does(open_ledger: OpenLedger) -> None:
    class Machine(EveryMove):
        def __init__(self) -> None:
            super().__init__(open_ledger)

    limits = settings(max_examples=EXAMPLES, stateful_step_count=STEPS, derandomize=True, deadline=None, database=None)
    run_state_machine_as_test(Machine, settings=limits)
