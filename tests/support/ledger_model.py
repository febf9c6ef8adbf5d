"""A model of the ledger: what its rows should be after each move, as plain values. It knows the rules, and no SQL."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from tests.support.builders import RULES, build_lease
from tests.support.ledger_model_jobs import JobsModel
from thumbs import lanes as rules_of_lanes
from thumbs.domain import (
    CALLBACKS,
    Announcement,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    EndpointStatus,
    Event,
    EventType,
    InFlight,
    Lane,
    Lease,
    LeasedDelivery,
    NextStep,
    Trigger,
)
from thumbs.lanes import Ending, build_lane, choose_lanes, name_host, name_lane, takes_callbacks

ASKED_FOR = (Trigger.PING, Trigger.MANUAL)
SMALL_RULES = replace(RULES, breaker_failures=2)
"""A breaker that opens soon: examples are short."""


@dataclass
class ModelDelivery:
    """A delivery's row and its attempts' error codes; `given` is what its couriers were given, with their tokens."""

    delivery: Delivery
    dispatched_at: datetime
    started_at: datetime
    error_codes: list[str | None] = field(default_factory=list)
    token: str | None = None
    until: datetime | None = None
    given: list[tuple[str, LeasedDelivery]] = field(default_factory=list)


class LedgerModel(JobsModel):
    """One account with its jobs, deliveries, endpoints and lanes."""

    def __init__(self, account_id: str) -> None:
        super().__init__(account_id)
        self.deliveries: dict[str, ModelDelivery] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.lanes: dict[str, Lane] = {}
        self.stale_lanes: set[str] = set()
        self.events: dict[int, Event] = {}
        self.event_count = 0

    def forget_job(self, job_id: str) -> None:
        """Forget a job with all that hangs on it."""
        super().forget_job(job_id)
        self._forget_events(lambda event: event.job_id == job_id)

    # ── events and lanes ──

    def announce(self, announcement: Announcement) -> None:
        """Write an event with its deliveries."""
        self.event_count += 1
        self.events[self.event_count] = announcement.event
        for delivery in announcement.deliveries:
            self.deliveries[delivery.id] = ModelDelivery(delivery, self.now, self.now)
            if delivery.status is DeliveryStatus.PENDING:
                self._push(delivery)

    def forget_loose_events(self, since: datetime) -> int:
        """Forget the events from before that moment that tell of no job."""
        return self._forget_events(lambda event: event.job_id is None and event.created_at < since)

    def find_due_at(self, lane_id: str) -> datetime | None:
        """Find when the next delivery of a lane is due."""
        moments = [
            each.next_attempt_at
            for each in self._list_of_lane(lane_id)
            if each.status is DeliveryStatus.PENDING and each.next_attempt_at is not None
        ]
        return min(moments, default=None)

    def choose_lanes(self) -> list[str]:
        """Choose the lanes that a look finds, the first first; those that are told wrongly are put right by it."""
        due = [lane for lane in self.lanes.values() if self._is_past(lane.due_at)]
        chosen = choose_lanes(due, self._list_in_flight(), SMALL_RULES, self.now)
        found = [lane.id for lane in chosen if self._is_past(self.find_due_at(lane.id))]
        for lane in chosen:
            if lane.id not in found:
                self._settle(lane.id)
        return found

    def forget_idle_lanes(self, since: datetime) -> int:
        """Forget lanes that nothing has hung on since then."""
        idle = [
            lane.id
            for lane in self.lanes.values()
            if lane.due_at is None and (lane.started_at or lane.created_at) < since and not self._list_of_lane(lane.id)
        ]
        for lane_id in idle:
            del self.lanes[lane_id]
        return len(idle)

    def _is_past(self, moment: datetime | None) -> bool:
        return moment is not None and moment <= self.now

    def _forget_events(self, is_gone: Callable[[Event], bool]) -> int:
        """Forget events with their deliveries; the lanes are not told, and find out when they look."""
        gone = {event.id for event in self.events.values() if is_gone(event)}
        for delivery in [each.delivery for each in self.deliveries.values() if each.delivery.event_id in gone]:
            del self.deliveries[delivery.id]
            self.stale_lanes.add(delivery.lane_id or "")
        self.events = {position: event for position, event in self.events.items() if event.id not in gone}
        return len(gone)

    def _push(self, delivery: Delivery) -> None:
        lane = build_lane(delivery)
        known = self.lanes.get(lane.id)
        if known is not None:
            moments = [moment for moment in (known.due_at, lane.due_at) if moment is not None]
            lane = replace(known, due_at=min(moments))
        self.lanes[lane.id] = lane

    def _settle(self, *lane_ids: str | None) -> None:
        for lane_id in lane_ids:
            if lane_id in self.lanes:
                due_at = self.find_due_at(lane_id)
                self.lanes[lane_id] = rules_of_lanes.settle(self.lanes[lane_id], due_at, self.now)
                self.stale_lanes.discard(lane_id)

    def _list_of_lane(self, lane_id: str) -> list[Delivery]:
        return [each.delivery for each in self.deliveries.values() if each.delivery.lane_id == lane_id]

    def _list_in_flight(self) -> list[InFlight]:
        sending = [each for each in self.deliveries.values() if each.delivery.status is DeliveryStatus.SENDING]
        alive = [each for each in sending if each.started_at > self.now - SMALL_RULES.longest]
        pairs = [(self.lanes[each.delivery.lane_id or ""], each.started_at) for each in alive]
        return [InFlight(lane.id, lane.account_id, lane.host, lane.is_trusted, at, is_own=False) for lane, at in pairs]

    # ── deliveries ──

    def may_start(self, delivery_id: str) -> bool:
        """Tell whether a delivery is due and its lane may start it; to whom is another question."""
        model = self.deliveries.get(delivery_id)
        if model is None or model.delivery.status is not DeliveryStatus.PENDING:
            return False
        lane = self.lanes.get(model.delivery.lane_id or "")
        if lane is None or not self._is_past(model.delivery.next_attempt_at):
            return False
        return rules_of_lanes.may_start(lane, self._list_in_flight(), SMALL_RULES, self.now)

    def is_parting(self, delivery: Delivery) -> bool:
        """Tell whether it is a callback whose endpoint is of no use to it any more."""
        endpoint = self.endpoints.get(delivery.endpoint_id or "")
        return delivery.is_callback and endpoint is not None and not takes_callbacks(endpoint, delivery.url)

    def turns_away(self, delivery: Delivery) -> bool:
        """Tell whether its endpoint takes it no more; what was asked for, a disabled one does, but no callback."""
        endpoint = self.endpoints.get(delivery.endpoint_id or "")
        if endpoint is None:
            return False
        is_closed = not endpoint.is_enabled and delivery.trigger not in ASKED_FOR
        return is_closed or endpoint.deleted_at is not None or self.is_parting(delivery)

    def turn_away(self, delivery_id: str) -> None:
        """Fail a delivery that its endpoint does not take; a callback parts from it."""
        model = self.deliveries[delivery_id]
        lane_id = model.delivery.lane_id
        if self.is_parting(model.delivery):
            self._part([model])
        else:
            self._fail([model])
        self._settle(lane_id)

    def adopt(self) -> int:
        """Give lanes of their own to the callbacks that are due and have none."""
        parted = [each for each in self.deliveries.values() if each.delivery.lane_id is None]
        due = [each for each in parted if self._is_past(each.delivery.next_attempt_at)]
        for model in due:
            model.delivery = replace(model.delivery, lane_id=name_lane(model.delivery))
            self._push(model.delivery)
            self._settle(model.delivery.lane_id)
        return len(due)

    def start(self, lease: Lease, leased: LeasedDelivery) -> None:
        """Give a delivery to a courier."""
        model = self.deliveries[lease.id]
        before = model.delivery
        endpoint = self.endpoints.get(before.endpoint_id or "")
        model.delivery = replace(
            before,
            status=DeliveryStatus.SENDING,
            next_attempt_at=None,
            url=endpoint.url if endpoint else before.url,
            attempt_count=before.attempt_count + 1,
            scheduled_count=before.scheduled_count + (before.trigger is Trigger.AUTO),
        )
        model.token, model.until, model.started_at = lease.token, lease.until, self.now
        model.error_codes.append(None)
        model.given.append((lease.token, leased))
        lane_id = before.lane_id or ""
        lane = rules_of_lanes.start(self.lanes[lane_id], SMALL_RULES, self.now)
        self.lanes[lane_id] = replace(lane, host=name_host(model.delivery.url))
        self._settle(lane_id)

    def sends(self, lease: Lease) -> bool:
        """Tell whether a courier still has its delivery."""
        return lease.id in self.deliveries and self.deliveries[lease.id].token == lease.token

    def recall_attempt(self, delivery_id: str, back: int) -> tuple[Lease, LeasedDelivery | None]:
        """Recall what a courier was given; one that was given nothing makes up a token."""
        model = self.deliveries.get(delivery_id)
        if model is None or back >= len(model.given):
            return build_lease(delivery_id, "never given"), None
        token, leased = model.given[-1 - back]
        return build_lease(delivery_id, token), leased

    def end_attempt(self, delivery_id: str, error_code: str | None, step: NextStep, ending: Ending | None) -> None:
        """Write how an attempt went and what comes next; what waits for an endpoint that takes nothing has failed."""
        model = self.deliveries[delivery_id]
        before = model.delivery
        endpoint = self.endpoints.get(before.endpoint_id or "")
        is_waiting = step.status is DeliveryStatus.PENDING and step.trigger not in ASKED_FOR and not before.is_callback
        if is_waiting and endpoint is not None and not endpoint.is_enabled:
            step = NextStep(DeliveryStatus.FAILED, reason=_name_refusal(endpoint))
        changes = {name: getattr(step, name) for name in NextStep.__dataclass_fields__}
        moved = replace(before, **changes)
        model.delivery = replace(moved, lane_id=name_lane(moved))
        model.dispatched_at, model.token, model.until = step.next_attempt_at or self.now, None, None
        model.error_codes[-1] = error_code
        if step.next_attempt_at is not None and name_lane(moved) not in self.lanes:
            self._push(model.delivery)
        lane_id = before.lane_id or ""
        if ending is not None:
            self.lanes[lane_id] = rules_of_lanes.finish(self.lanes[lane_id], ending, SMALL_RULES, self.now)
        self._settle(lane_id, name_lane(replace(before, trigger=Trigger.AUTO)))

    def ask(self, delivery: Delivery) -> None:
        """Make a delivery due at once, by the endpoint that is named."""
        model = self.deliveries[delivery.id]
        before = model.delivery
        model.delivery = self._again(replace(before, endpoint_id=delivery.endpoint_id), Trigger.MANUAL, self.now)
        self._push(model.delivery)
        self._settle(before.lane_id, model.delivery.lane_id)

    def recover(self, endpoint_id: str, gap: timedelta) -> int:
        """Make due one after the other what never arrived, but pings and what is being sent or due by then."""
        pings = {event.id for event in self.events.values() if event.type is EventType.PING}
        its = [each for each in self.deliveries.values() if (each.delivery.endpoint_id or CALLBACKS) == endpoint_id]
        wanted = [each for each in its if self._never_arrived(each.delivery) and each.delivery.event_id not in pings]
        wanted.sort(key=lambda each: each.delivery.id)
        for number, model in enumerate(wanted):
            model.delivery = self._again(model.delivery, Trigger.RECOVER, self.now + number * gap)
            self._push(model.delivery)
        self._settle(*(each.delivery.lane_id for each in wanted))
        return len(wanted)

    def _never_arrived(self, delivery: Delivery) -> bool:
        waits = delivery.status is DeliveryStatus.PENDING and delivery.trigger is Trigger.AUTO
        is_later = waits and not self._is_past(delivery.next_attempt_at)
        return delivery.delivered_at is None and (delivery.status is DeliveryStatus.FAILED or is_later)

    def _again(self, delivery: Delivery, trigger: Trigger, at: datetime) -> Delivery:
        waits = delivery.status is DeliveryStatus.PENDING and delivery.trigger is Trigger.AUTO
        again = replace(
            delivery,
            status=DeliveryStatus.PENDING,
            trigger=trigger,
            next_attempt_at=at,
            resume_at=delivery.next_attempt_at if waits else delivery.resume_at,
        )
        return replace(again, lane_id=name_lane(again))

    def _part(self, models: Iterable[ModelDelivery]) -> None:
        for model in models:
            model.delivery = replace(model.delivery, endpoint_id=None, lane_id=None)

    def _fail(self, models: Iterable[ModelDelivery]) -> None:
        for model in models:
            reason = _name_refusal(self.endpoints[model.delivery.endpoint_id or ""])
            model.delivery = replace(
                model.delivery, status=DeliveryStatus.FAILED, reason=reason, next_attempt_at=None, resume_at=None
            )

    # ── endpoints ──

    def list_endpoints(self) -> tuple[Endpoint, ...]:
        """List the endpoints that are not deleted, newest first."""
        there = [each for each in self.endpoints.values() if each.deleted_at is None]
        return tuple(sorted(there, key=lambda each: each.id, reverse=True))

    def is_there(self, endpoint_id: str, *statuses: EndpointStatus) -> bool:
        """Tell whether there is such an endpoint, with one of these statuses if any are named."""
        endpoint = self.endpoints.get(endpoint_id)
        return endpoint is not None and endpoint.deleted_at is None and (not statuses or endpoint.status in statuses)

    def change_url(self, endpoint_id: str, url: str) -> None:
        """Give an endpoint another URL."""
        before = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = replace(before, url=url)
        if before.url != url:
            open_callbacks = [each for each in self._list_open(endpoint_id) if each.delivery.is_callback]
            self._part(each for each in open_callbacks if each.delivery.url != url)
            self._renew(endpoint_id)

    def enable(self, endpoint_id: str) -> None:
        """Enable an endpoint."""
        endpoint = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = replace(
            endpoint, status=EndpointStatus.ENABLED, disabled_reason=None, warned_at=None
        )
        self._renew(endpoint_id)

    def disable(self, endpoint_id: str, reason: DisabledReason) -> None:
        """Disable an endpoint."""
        endpoint = self.endpoints[endpoint_id]
        self.endpoints[endpoint_id] = replace(endpoint, status=EndpointStatus.DISABLED, disabled_reason=reason)
        self._close(endpoint_id, lambda delivery: delivery.trigger not in ASKED_FOR)

    def delete(self, endpoint_id: str) -> None:
        """Delete an endpoint."""
        self.endpoints[endpoint_id] = replace(self.endpoints[endpoint_id], deleted_at=self.now)
        self._close(endpoint_id, lambda _: True)

    def _close(self, endpoint_id: str, is_failing: Callable[[Delivery], bool]) -> None:
        self._part(each for each in self._list_open(endpoint_id) if each.delivery.is_callback)
        self._fail(each for each in self._list_open(endpoint_id) if is_failing(each.delivery))
        self._settle(endpoint_id, f"{endpoint_id}.asked")

    def _list_open(self, endpoint_id: str) -> Sequence[ModelDelivery]:
        return [
            each
            for each in self.deliveries.values()
            if each.delivery.endpoint_id == endpoint_id and each.delivery.status is DeliveryStatus.PENDING
        ]

    def _renew(self, endpoint_id: str) -> None:
        host = name_host(self.endpoints[endpoint_id].url)
        for lane_id in (endpoint_id, f"{endpoint_id}.asked"):
            if lane_id in self.lanes:
                self.lanes[lane_id] = replace(rules_of_lanes.reset(self.lanes[lane_id]), host=host)
                self._settle(lane_id)


def _name_refusal(endpoint: Endpoint) -> str:
    return "endpoint_deleted" if endpoint.deleted_at else "endpoint_disabled"
