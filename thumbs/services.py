"""Wiring: builds every adapter from the settings, holds them in one value, and closes them.

The faces call `build` once per process; use cases get the Services value and reach side effects through
it alone. Time and chance are part of it.
"""

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random, SystemRandom
from typing import Final

from ulid import ULID

from thumbs import __version__
from thumbs.addresses import AddressPolicy, check_url
from thumbs.blobs import BlobStore
from thumbs.cipher import Cipher
from thumbs.domain import DecodeLimits, Lease
from thumbs.errors import LedgerUnavailable, QueueUnavailable, SettingsError, UrlNotAllowed
from thumbs.gauge import QueueGauge
from thumbs.holding import HeldLeases
from thumbs.lanes import LaneRules
from thumbs.ledger import SCHEMA_REVISION, Ledger
from thumbs.outbound import Outbound
from thumbs.protocols import Clock, Dispatcher
from thumbs.retries import add_seconds
from thumbs.sandbox import Sandbox
from thumbs.settings import Settings
from thumbs.tally import Tally

TOKEN_BYTES: Final = 16

logger = logging.getLogger(__name__)


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Tell the wall clock's time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Tell seconds that never step back, for durations."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block for that long."""
        time.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that a use case may reach. Thread-safe."""

    settings: Settings
    ledger: Ledger
    blobs: BlobStore
    outbound: Outbound
    sandbox: Sandbox
    cipher: Cipher
    dispatcher: Dispatcher
    policy: AddressPolicy
    lane_rules: LaneRules
    queue_gauge: QueueGauge
    held_leases: HeldLeases
    tally: Tally
    clock: Clock
    random: Random

    def new_id(self, prefix: str) -> str:
        """Draw a prefixed id that sorts by time."""
        return f"{prefix}_{ULID()}"

    def new_lease(self, row_id: str, now: datetime) -> Lease:
        """Draw a lease of THUMBS_LEASE_SECONDS on a row."""
        return Lease(row_id, self.random.randbytes(TOKEN_BYTES).hex(), add_seconds(now, self.settings.lease_seconds))

    def get_scope(self, account_id: str) -> str:
        """Get what those have in common who may share the work on a source (THUMBS_REUSE)."""
        return "" if self.settings.reuse == "all" else account_id

    def check_receiver_url(self, field: str, url: str) -> None:
        """Check where webhooks are to go, without a look at DNS; raises UrlNotAllowed naming the field."""
        self.check_url(field, url, self.settings.callback_schemes)

    def check_url(self, field: str, url: str, schemes: frozenset[str]) -> None:
        """Check a caller's URL against policy, without a look at DNS; raises UrlNotAllowed naming the field."""
        try:
            check_url(url, self.policy, schemes=tuple(sorted(schemes, reverse=True)))
        except UrlNotAllowed as error:
            raise UrlNotAllowed(error.detail, field=field) from error

    def dispatch_job(self, job_id: str, delay_seconds: float = 0) -> bool:
        """Put a recorded job on the queue; False when the queue does not answer, and the sweep does it later."""
        try:
            self.dispatcher.process(job_id, delay_seconds)
        except QueueUnavailable:
            logger.warning("the queue does not answer: the sweep dispatches later", extra={"job_id": job_id})
            return False
        return True

    def dispatch_deliveries(self, delivery_ids: Iterable[str]) -> None:
        """Put recorded deliveries on the queue; those that it does not take, the couriers find when they look."""
        for delivery_id in delivery_ids:
            try:
                self.dispatcher.deliver(delivery_id)
            except QueueUnavailable:
                logger.warning("the queue does not answer: couriers look later", extra={"delivery_id": delivery_id})

    def close(self) -> None:
        """Stop the decoders and close every connection."""
        self.sandbox.close()
        self.outbound.close()
        self.ledger.close()


def build(settings: Settings, dispatcher: Dispatcher) -> Services:
    """Build the services of one process from prepared settings; nothing is started or connected yet."""
    ledger = Ledger(settings.database_url, settings.database_connections)
    policy, clock = AddressPolicy(settings.allow_cidrs), SystemClock()
    return Services(
        settings=settings,
        ledger=ledger,
        blobs=ledger.blobs,
        outbound=_build_outbound(settings, policy),
        sandbox=_build_sandbox(settings),
        cipher=Cipher(settings.secret_key or ""),
        dispatcher=dispatcher,
        policy=policy,
        lane_rules=LaneRules.of(settings),
        queue_gauge=QueueGauge(ledger, dispatcher, clock),
        held_leases=HeldLeases(),
        tally=Tally(ledger),
        clock=clock,
        random=SystemRandom(),
    )


def name_agent(product: str, settings: Settings) -> str:
    """Name ourselves to sources and receivers, with where to learn more when we have a public URL (RFC 9110 10.1.5)."""
    return f"{product} (+{settings.public_url}/docs)" if settings.public_url else product


def check_ledger(services: Services) -> None:
    """Refuse to go on with a ledger whose schema is older than this code, or whose secrets another key encrypted.

    A newer schema is fine: an upgrade is under way. A ledger that does not answer is no reason to refuse: requests are
    told so, and it may come back. Raises SettingsError.
    """
    try:
        _check_schema(services)
        for account in services.ledger.accounts.list_all()[:1]:
            services.cipher.decrypt(account.callback_secret)
    except LedgerUnavailable:
        return


def _check_schema(services: Services) -> None:
    revision = services.ledger.upkeep.find_schema_revision()
    if revision is None or revision < SCHEMA_REVISION:
        raise SettingsError(
            f"The ledger's schema is at {revision or 'nothing'}, this release needs {SCHEMA_REVISION}: "
            "run `thumbs migrate` first."
        )


def _build_outbound(settings: Settings, policy: AddressPolicy) -> Outbound:
    return Outbound(
        policy,
        user_agent=name_agent(f"thumbs/{__version__}", settings),
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
        max_source_bytes=settings.max_source_bytes,
        webhook_timeout_seconds=settings.webhook_timeout_seconds,
        max_per_host=settings.fetch_max_per_host,
        is_shared_cache=settings.reuse == "all",
        proxy_url=settings.egress_proxy_url,
        ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
    )


def _build_sandbox(settings: Settings) -> Sandbox:
    limits = DecodeLimits(
        formats=settings.formats,
        max_pixels=settings.max_pixels,
        max_pixels_baseline_jpeg=settings.max_pixels_baseline_jpeg,
    )
    return Sandbox(
        limits,
        decoders=settings.decoders,
        timeout_seconds=settings.decode_timeout_seconds,
        memory_bytes=settings.decode_memory_bytes,
    )
