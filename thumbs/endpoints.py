"""What callers do with their endpoints and deliveries: register, change, ping, rotate, redeliver, recover."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from thumbs.announcements import announce_ping
from thumbs.documents import HIDDEN
from thumbs.domain import (
    CALLBACKS,
    Account,
    Announcement,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    EndpointStatus,
)
from thumbs.errors import Conflict, Gone, NotFound
from thumbs.lanes import takes_callbacks
from thumbs.retries import add_seconds
from thumbs.services import Services
from thumbs.signing import KEY_BYTES, build_secret

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """A receiver as its owner describes it, its form checked; without a secret, one is drawn."""

    url: str
    event_types: tuple[str, ...]
    description: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new secret, to be shown once, and until when the one before signs, too."""

    secret: str = field(repr=False)
    previous_expires_at: datetime


def create_endpoint(services: Services, account: Account, new: NewEndpoint) -> tuple[Endpoint, str]:
    """Register an endpoint and ping it; returns it with its secret, which is not shown again.

    Raises UrlNotAllowed naming the field, and Conflict when the account has as many as it may.
    """
    services.check_receiver_url("url", new.url)
    now = services.clock.now()
    secret = new.secret or build_secret(services.random.randbytes(KEY_BYTES))
    endpoint = Endpoint(
        id=services.new_id("ep"),
        account_id=account.id,
        url=new.url,
        event_types=new.event_types,
        description=new.description,
        headers=_encrypt(services, new.headers),
        secret=services.cipher.encrypt(secret),
        status=EndpointStatus.ENABLED,
        created_at=now,
    )
    ping = announce_ping(endpoint, now=now, new_id=services.new_id)
    delivery_ids = services.ledger.endpoints.record(endpoint, ping, services.settings.webhook_max_endpoints)
    logger.info("endpoint created", extra={"endpoint_id": endpoint.id})
    services.dispatch_deliveries(delivery_ids)
    return endpoint, secret


def change_endpoint(services: Services, account: Account, endpoint_id: str, changes: Mapping[str, Any]) -> Endpoint:
    """Change `url`, `event_types`, `description` or `headers`; a header whose value is hidden keeps the one it has.

    Raises UrlNotAllowed naming the field, NotFound, and Conflict when there is no such value.
    """
    endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
    if "url" in changes:
        services.check_receiver_url("url", changes["url"])
    if "headers" in changes:
        changes = {**changes, "headers": _merge_headers(services, endpoint, changes["headers"])}
    if not services.ledger.endpoints.change(replace(endpoint, **changes), changes, services.clock.now()):
        raise NotFound(f"There is no endpoint {endpoint_id}.")
    return services.ledger.endpoints.get(account.id, endpoint_id)


def delete_endpoint(services: Services, account: Account, endpoint_id: str) -> None:
    """Delete an endpoint: its open deliveries fail, and all of them stay on record. Raises NotFound."""
    endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
    services.ledger.endpoints.delete(endpoint.id, services.clock.now())
    logger.info("endpoint deleted", extra={"endpoint_id": endpoint.id})


def enable_endpoint(services: Services, account: Account, endpoint_id: str) -> Endpoint:
    """Enable an endpoint, with nothing held against it. Idempotent; raises NotFound."""
    endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
    services.ledger.endpoints.enable(endpoint, services.clock.now())
    return services.ledger.endpoints.get(account.id, endpoint_id)


def disable_endpoint(services: Services, account: Account, endpoint_id: str) -> Endpoint:
    """Disable an endpoint: its open deliveries fail, and can be recovered. Idempotent; raises NotFound."""
    endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
    services.ledger.endpoints.disable(endpoint, DisabledReason.MANUAL, services.clock.now())
    return services.ledger.endpoints.get(account.id, endpoint_id)


def ping_endpoint(services: Services, account: Account, endpoint_id: str) -> Announcement:
    """Send a ping: one attempt, though the endpoint be disabled. Raises NotFound."""
    endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
    ping = announce_ping(endpoint, now=services.clock.now(), new_id=services.new_id)
    services.dispatch_deliveries(services.ledger.events.record(ping))
    return ping


def rotate_secret(services: Services, account: Account, endpoint_id: str, grace_seconds: float) -> Rotation:
    """Draw a new secret for an endpoint, or for the account's callbacks; the old one signs, too, for the grace.

    Raises NotFound, and Conflict when somebody else rotates at the same time.
    """
    if endpoint_id == CALLBACKS:
        account = services.ledger.accounts.find(account.id) or account
        owner_id, old = account.id, account.callback_secret
    else:
        endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
        owner_id, old = endpoint.id, endpoint.secret
    now = services.clock.now()
    rotation = Rotation(build_secret(services.random.randbytes(KEY_BYTES)), add_seconds(now, grace_seconds))
    new = services.cipher.encrypt(rotation.secret)
    if not services.ledger.endpoints.rotate_secret(owner_id, old, new, now, rotation.previous_expires_at):
        raise Conflict("Somebody else has rotated this secret just now: use theirs, or rotate again.")
    logger.info("secret rotated", extra={"endpoint_id": endpoint_id})
    return rotation


def recover(services: Services, account: Account, endpoint_id: str, since: datetime, until: datetime | None) -> int:
    """Send again, once, what never arrived of the events of a time; tells how many deliveries that are.

    Raises NotFound, and Conflict while the endpoint is disabled.
    """
    if endpoint_id != CALLBACKS:
        endpoint = services.ledger.endpoints.get(account.id, endpoint_id)
        if not endpoint.is_enabled:
            raise Conflict(f"The endpoint {endpoint_id} is disabled: enable it first.")
    now = services.clock.now()
    gap = timedelta(seconds=1 / services.settings.webhook_recover_per_second)
    return services.ledger.redeliveries.recover(account.id, endpoint_id, since, until or now, now, gap)


def redeliver(services: Services, account: Account, delivery_id: str) -> Delivery:
    """Send a delivery again at once, one attempt, whatever became of it. Raises NotFound, Conflict, and Gone."""
    delivery = services.ledger.deliveries.get(account.id, delivery_id)
    if delivery.endpoint_id is not None:
        endpoint = services.ledger.endpoints.get(account.id, delivery.endpoint_id, is_deleted_too=True)
        if delivery.is_callback and not takes_callbacks(endpoint, delivery.url):
            delivery = replace(delivery, endpoint_id=None)
        elif endpoint.deleted_at is not None:
            raise Gone(f"The endpoint of the delivery {delivery_id} is deleted.")
    asked = services.ledger.redeliveries.ask(delivery, services.clock.now())
    if asked is None:
        delivery = services.ledger.deliveries.get(account.id, delivery_id)
        raise Conflict(f"The delivery {delivery_id} is {DeliveryStatus.SENDING}: redeliver it when that has ended.")
    services.dispatch_deliveries([asked.id])
    return asked


def _merge_headers(services: Services, endpoint: Endpoint, headers: Mapping[str, str]) -> dict[str, str]:
    """Encrypt the values; one that is hidden stays what it is, however the header's name is written."""
    kept = {name.lower(): value for name, value in endpoint.headers.items()}
    for name in (name for name, value in headers.items() if value == HIDDEN and name.lower() not in kept):
        raise Conflict(f"The endpoint has no header {name} whose value could stay: send the value.", field="headers")
    return {
        name: kept[name.lower()] if value == HIDDEN else services.cipher.encrypt(value)
        for name, value in headers.items()
    }


def _encrypt(services: Services, headers: Mapping[str, str]) -> dict[str, str]:
    return {name: services.cipher.encrypt(value) for name, value in headers.items()}
