"""Services for tests: a real ledger, cipher and rules; around them small stand-ins for the network and the decoders.

The stand-ins answer as they are told, for tests that are about what follows from an answer. Tests that are about the
way there pass a real Outbound, a real Sandbox or another adapter by name.
"""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from random import Random
from typing import Any, NoReturn, TypeVar

from tests.support.builders import build_new_job
from tests.support.clock import FrozenClock
from thumbs.accounts import get_default_account
from thumbs.addresses import AddressPolicy
from thumbs.cipher import Cipher
from thumbs.deliver import deliver
from thumbs.domain import (
    Answer,
    Blob,
    Caching,
    Delivery,
    DeliveryFilter,
    Endpoint,
    EventFilter,
    EventType,
    FetchedSource,
    Job,
    Picture,
    Rendering,
    Result,
    ThumbnailSpec,
)
from thumbs.endpoints import NewEndpoint, create_endpoint
from thumbs.errors import UnavailableError
from thumbs.gauge import QueueGauge
from thumbs.holding import HeldLeases
from thumbs.intake import accept_job
from thumbs.lanes import LaneRules
from thumbs.ledger import Ledger
from thumbs.outbound import Outbound
from thumbs.process import process
from thumbs.protocols import Dispatcher
from thumbs.sandbox import Sandbox
from thumbs.services import Services
from thumbs.settings import Settings, read_settings
from thumbs.tally import Tally

SECRET_KEY = "a secret key for tests, of enough characters"
ENVIRON: Mapping[str, str] = {
    "THUMBS_SECRET_KEY": SECRET_KEY,
    "THUMBS_AUTH": "off",
    "THUMBS_ALLOW_CIDRS": "127.0.0.0/8,::1/128",
    "THUMBS_CALLBACK_SCHEMES": "https,http",
    "THUMBS_DECODERS": "1",
    "THUMBS_RATE_LIMIT": "1000000/second",
}
PICTURE = Picture(
    body=b"a thumbnail",
    content_type="image/jpeg",
    width=100,
    height=100,
    sha256="cd" * 32,
    thumbhash="3OcRJYB4d3h/iIeHeEh3eIhw+j2w",
    dominant_color="#7a5c43",
)
RENDERING = Rendering("image/png", 320, 240, (PICTURE,))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Post:
    """A webhook as it was handed to the network."""

    url: str
    body: bytes
    headers: Mapping[str, str]


class ScriptedOutbound(Outbound):
    """Reaches nobody: calls `on_fetch` and `on_post`, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.on_fetch: Callable[[], bytes] = lambda: b"a source"
        self.on_post: Callable[[], Answer] = build_answer
        self.caching = Caching(url="")
        self.fetched: list[str] = []
        self.seen: list[Result | None] = []
        self.posted: list[Post] = []

    def fetch(self, url: str, seen: Result | None = None, is_enough: object = None) -> FetchedSource:
        """Fetch as told; no bytes at all are those of a source that is unchanged."""
        self.fetched.append(url)
        self.seen.append(seen)
        body = self.on_fetch()
        return FetchedSource(body, replace(self.caching, url=url), len(body), is_unchanged=not body)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Post as told."""
        self.posted.append(Post(url, body, headers))
        return self.on_post()

    def close(self) -> None:
        """Do nothing."""


class ScriptedSandbox(Sandbox):
    """Decodes nothing: calls `on_render`, and remembers how long it might have waited."""

    def __init__(self) -> None:
        self.on_render: Callable[[], Rendering] = lambda: RENDERING
        self.waits_seconds: list[float] = []

    def start(self) -> None:
        """Do nothing."""

    def render(self, body: bytes, specs: Sequence[ThumbnailSpec], *, wait_seconds: float) -> Rendering:
        """Render as told."""
        self.waits_seconds.append(wait_seconds)
        return self.on_render()

    def close(self) -> None:
        """Do nothing."""


class UnavailableBlobs:
    """A blob store that does not answer."""

    def put(self, blob: Blob) -> None:
        """Refuse."""
        raise UnavailableError("the blob store is down, says the test")

    def find(self, name: str, now: datetime) -> Blob | None:
        """Refuse."""
        raise UnavailableError("the blob store is down, says the test")

    def delete(self, name: str) -> None:
        """Refuse."""
        raise UnavailableError("the blob store is down, says the test")

    def delete_expired(self, now: datetime, limit: int) -> int:
        """Refuse."""
        raise UnavailableError("the blob store is down, says the test")


def build_test_settings(**variables: str) -> Settings:
    """Build settings like those of `thumbs up`; each test names the variables that it is about."""
    return read_settings({**ENVIRON, "THUMBS_DATA_DIR": _make_data_dir(), **variables})


@functools.cache
def _make_data_dir() -> str:
    """Make a folder, once per test run: requests are counted there."""
    return tempfile.mkdtemp(prefix="thumbs-tests-")


def build_test_services(ledger: Ledger, dispatcher: Dispatcher, clock: FrozenClock, **changes: Any) -> Services:
    """Build the services of a test: `changes` are adapters by their field's name, or variables of settings."""
    adapters = {name: value for name, value in changes.items() if name in Services.__dataclass_fields__}
    settings = build_test_settings(**{name: value for name, value in changes.items() if name not in adapters})
    services = Services(
        settings=settings,
        ledger=ledger,
        blobs=ledger.blobs,
        outbound=ScriptedOutbound(),
        sandbox=ScriptedSandbox(),
        cipher=Cipher(SECRET_KEY),
        dispatcher=dispatcher,
        policy=AddressPolicy(settings.allow_cidrs),
        lane_rules=LaneRules.of(settings),
        queue_gauge=QueueGauge(ledger, dispatcher, clock),
        held_leases=HeldLeases(),
        tally=Tally(ledger),
        clock=clock,
        random=Random(7),
    )
    return replace(services, **adapters)


def build_outbound(settings: Settings) -> Outbound:
    """Build a real Outbound that may reach loopback; to be closed."""
    return Outbound(
        AddressPolicy(settings.allow_cidrs),
        user_agent="thumbs/test",
        fetch_timeout_seconds=settings.fetch_timeout_seconds,
        max_source_bytes=settings.max_source_bytes,
        webhook_timeout_seconds=settings.webhook_timeout_seconds,
        max_per_host=settings.fetch_max_per_host,
    )


def build_lost_ledger() -> Ledger:
    """Build a ledger whose file can be neither found nor made."""
    return Ledger("sqlite:////nonexistent/folder/ledger.db")


def build_answer(status: int = 200, body: bytes = b"", *, is_truncated: bool = False, **headers: str) -> Answer:
    """Build a receiver's answer; `retry_after="2"` is the header `retry-after`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, named, body, is_truncated)


def fail_with(error: BaseException) -> Callable[[], NoReturn]:
    """Make a script that raises."""

    def fail() -> NoReturn:
        raise error

    return fail


def meanwhile(act: Callable[[], object], script: Callable[[], T]) -> Callable[[], T]:
    """Make a script during which something happens."""

    def act_and_answer() -> T:
        act()
        return script()

    return act_and_answer


def answer_by_url(outbound: ScriptedOutbound, statuses: Mapping[str, int]) -> None:
    """Let each of these receivers answer with its status, and any other one with 200."""
    outbound.on_post = lambda: build_answer(statuses.get(outbound.posted[-1].url, 200))


def register(services: Services, url: str = "https://app.example/endpoint", **changes: Any) -> tuple[Endpoint, str]:
    """Register an endpoint of the default account, its ping delivered; returns it with its secret."""
    new = NewEndpoint(**{"url": url, "event_types": ("*",)} | changes)
    registered = create_endpoint(services, get_default_account(services), new)
    deliver_all(services)
    return registered


def get_endpoint(services: Services, endpoint: Endpoint) -> Endpoint:
    """Get an endpoint as the ledger has it."""
    return services.ledger.endpoints.get(endpoint.account_id, endpoint.id)


def list_deliveries(services: Services, endpoint_id: str, *kinds: EventType) -> list[Delivery]:
    """List the deliveries to an endpoint, or to CALLBACKS, oldest first; of any event but a ping, or of these."""
    account = get_default_account(services)
    found = services.ledger.deliveries.list_for_account(account.id, DeliveryFilter(endpoint_id=endpoint_id), 1000)
    events = services.ledger.events.list_after(account.id, EventFilter(), 1000)
    wanted = {event.id for event in events if event.type in (kinds or set(EventType) - {EventType.PING})}
    return [delivery for delivery, _ in reversed(found) if delivery.event_id in wanted]


def deliver_all(services: Services) -> None:
    """Make every attempt that may start now, one after the other, as a courier would."""
    while ids := services.ledger.lanes.find_startable(services.clock.now(), services.lane_rules, ()).delivery_ids:
        for delivery_id in ids:
            deliver(services, delivery_id)


def accept(services: Services, **changes: Any) -> Job:
    """Accept a job for the default account."""
    accepted = accept_job(services, get_default_account(services), build_new_job(**changes))
    return get_job(services, accepted.id)


def record_delivery(services: Services, **changes: Any) -> Delivery:
    """Accept a job and run it to its end; returns the delivery that is due now."""
    job = accept(services, **changes)
    process(services, job.id)
    return get_callback(services, job.id)


def get_job(services: Services, job_id: str | None) -> Job:
    """Get a job as the ledger has it."""
    job = services.ledger.jobs.find(job_id or "")
    assert job is not None
    return job


def get_callback(services: Services, job_id: str | None) -> Delivery:
    """Get the delivery to a job's callback."""
    delivery = services.ledger.deliveries.find_callback(job_id or "")
    assert delivery is not None
    return delivery
