"""What is done about an endpoint that fails: its account is told after a day, and after five days it is disabled.

A 410 disables at once. Nothing is lost by it: events meanwhile are recorded as failed deliveries, to be recovered.
"""

import logging
from dataclasses import replace
from datetime import datetime

from thumbs.announcements import announce_endpoint
from thumbs.domain import Announcement, DisabledReason, Endpoint, EndpointStatus, EventType, Lane
from thumbs.lanes import tell_health
from thumbs.retries import add_seconds
from thumbs.services import Services

logger = logging.getLogger(__name__)


def look_after(services: Services, endpoint: Endpoint, lane: Lane, *, is_gone: bool) -> None:
    """Warn of, or disable, an endpoint that an attempt to has failed, as its numbers say. Idempotent.

    If we die in between, the next failure comes here again.
    """
    if is_gone:
        _disable(services, endpoint, lane, DisabledReason.GONE)
    elif _is_beyond_hope(services, endpoint, lane):
        _disable(services, endpoint, lane, DisabledReason.FAILING)
    elif lane.failing_since is not None and _is_news(services, endpoint, lane.failing_since):
        announcement = _announce(services, EventType.ENDPOINT_FAILING, endpoint, lane)
        now = services.clock.now()
        delivery_ids = services.ledger.endpoints.warn(endpoint.id, lane.failing_since, now, announcement)
        services.dispatch_deliveries(delivery_ids or [])


def _disable(services: Services, endpoint: Endpoint, lane: Lane, reason: DisabledReason) -> None:
    now = services.clock.now()
    announcement = _announce(
        services,
        EventType.ENDPOINT_DISABLED,
        replace(endpoint, status=EndpointStatus.DISABLED, disabled_reason=reason),
        lane,
    )
    delivery_ids = services.ledger.endpoints.disable(endpoint, reason, now, announcement)
    if delivery_ids is not None:
        logger.warning("endpoint disabled", extra={"endpoint_id": endpoint.id, "reason": str(reason)})
    services.dispatch_deliveries(delivery_ids or [])


def _is_beyond_hope(services: Services, endpoint: Endpoint, lane: Lane) -> bool:
    settings = services.settings
    return (
        lane.failing_since is not None
        and _is_past(services, lane.failing_since, settings.webhook_disable_seconds)
        and lane.failure_count >= settings.webhook_disable_failures
        and services.ledger.endpoints.count_failed_events(endpoint.id, lane.failing_since)
        >= settings.webhook_disable_events
    )


def _is_news(services: Services, endpoint: Endpoint, failing_since: datetime) -> bool:
    """Tell whether it has failed for a day, and its account was not told since that began."""
    is_told = endpoint.warned_at is not None and endpoint.warned_at >= failing_since
    return not is_told and _is_past(services, failing_since, services.settings.webhook_failing_seconds)


def _is_past(services: Services, moment: datetime, seconds: float) -> bool:
    return add_seconds(moment, seconds) <= services.clock.now()


def _announce(services: Services, kind: EventType, endpoint: Endpoint, lane: Lane) -> Announcement:
    return announce_endpoint(
        kind,
        endpoint,
        tell_health(lane),
        lane.failing_since,
        services.ledger.endpoints.list_for_account(endpoint.account_id),
        now=services.clock.now(),
        new_id=services.new_id,
    )
