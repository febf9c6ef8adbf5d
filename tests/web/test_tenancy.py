"""Tenancy: to one account, what another one has looks as if it did not exist, on every route that takes an id."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pytest
import sqlalchemy as sa
from flask.testing import FlaskClient
from ulid import ULID
from werkzeug.test import TestResponse

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, build_test_services
from tests.web.test_auth import bearer, create_key
from thumbs.accounts import create_account
from thumbs.ledger import Ledger
from thumbs.ledger.tables import metadata
from thumbs.process import process
from thumbs.services import Services

BODY: Final = {"source_url": "https://img.example/cat.jpg", "callback_url": "https://app.example/hooks"}
RECOVER: Final = {"since": "2020-01-01T00:00:00Z"}
ROUTES: Final[Mapping[tuple[str, str], dict[str, Any] | None]] = {
    ("GET", "/v1/jobs/<job_id>"): None,
    ("DELETE", "/v1/jobs/<job_id>"): None,
    ("GET", "/v1/jobs/<job_id>/deliveries"): None,
    ("GET", "/v1/batches/<batch_id>"): None,
    ("GET", "/v1/endpoints/<endpoint_id>"): None,
    ("PATCH", "/v1/endpoints/<endpoint_id>"): {"description": "changed"},
    ("DELETE", "/v1/endpoints/<endpoint_id>"): None,
    ("POST", "/v1/endpoints/<endpoint_id>/enable"): None,
    ("POST", "/v1/endpoints/<endpoint_id>/disable"): None,
    ("POST", "/v1/endpoints/<endpoint_id>/ping"): None,
    ("POST", "/v1/endpoints/<endpoint_id>/rotate-secret"): None,
    ("POST", "/v1/endpoints/<endpoint_id>/recover"): RECOVER,
    ("GET", "/v1/deliveries/<delivery_id>"): None,
    ("POST", "/v1/deliveries/<delivery_id>/redeliver"): None,
}
"""Every route with an id in its path, and the body that it takes. Who adds a route adds it here."""
LISTS: Final = ("/v1/jobs", "/v1/endpoints", "/v1/deliveries", "/v1/events")
FILTERS: Final = ("/v1/deliveries?endpoint_id={endpoint_id}", "/v1/deliveries?job_id={job_id}")
CURSORS: Final = (
    "/v1/jobs?cursor={job_id}",
    "/v1/endpoints?cursor={endpoint_id}",
    "/v1/deliveries?cursor={delivery_id}",
)


@dataclass(frozen=True, slots=True)
class Tenant:
    """An account that speaks through the API."""

    client: FlaskClient
    headers: Mapping[str, str]

    def send(self, method: str, path: str, **options: Any) -> TestResponse:
        """Send a request with the account's key."""
        options["headers"] = {**self.headers, **options.get("headers", {})}
        return self.client.open(path, method=method, **options)


@pytest.fixture
def services(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Services:
    return build_test_services(ledger, dispatcher, clock, outbound=ScriptedOutbound(), THUMBS_AUTH="required")


def make_tenant(client: FlaskClient, services: Services, name: str) -> Tenant:
    account = create_account(services, name)
    assert account is not None
    return Tenant(client, bearer(create_key(services, account)[1]))


@pytest.fixture
def owner(client: FlaskClient, services: Services) -> Tenant:
    return make_tenant(client, services, "owner")


@pytest.fixture
def stranger(client: FlaskClient, services: Services) -> Tenant:
    return make_tenant(client, services, "stranger")


@pytest.fixture
def ids(owner: Tenant, services: Services) -> dict[str, str]:
    """One of each that the owner has: a queued job, an endpoint and its ping's delivery, a batch, a job's events."""
    endpoint = owner.send("POST", "/v1/endpoints", json={"url": "https://app.example/endpoint"}).get_json()
    batch = owner.send("POST", "/v1/batches", json={"jobs": [BODY]}).get_json()
    process(services, batch["jobs"][0]["id"])
    return {
        "endpoint_id": endpoint["id"],
        "batch_id": batch["id"],
        "delivery_id": owner.send("GET", "/v1/deliveries").get_json()["items"][0]["id"],
        "event_id": owner.send("GET", "/v1/events").get_json()["items"][0]["id"],
        "job_id": owner.send("POST", "/v1/jobs", json=BODY).get_json()["id"],
    }


def fill(rule: str, ids: Mapping[str, str]) -> str:
    """Put the ids into a rule."""
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda match: ids[match[1]], rule)


def make_unknown(ids: Mapping[str, str]) -> dict[str, str]:
    """Make ids of the same kinds that nobody has."""
    return {name: f"{each.partition('_')[0]}_{ULID()}" for name, each in ids.items()}


def tell(answer: TestResponse, ids: Mapping[str, str]) -> tuple[int, str, list[str]]:
    """Tell what an answer says, without the ids that were asked for and what differs from request to request."""
    text = answer.get_data(as_text=True).replace(answer.headers["X-Request-ID"], "<request>")
    for name, each in ids.items():
        text = text.replace(each, f"<{name}>")
    return answer.status_code, text, sorted(answer.headers.keys())


def dump(ledger: Ledger) -> dict[str, list[Any]]:
    """Dump every row, but for when keys were used."""
    with ledger._database.reading() as connection:
        return {
            table.name: sorted(map(repr, connection.execute(sa.select(table))))
            for table in metadata.sorted_tables
            if table.name != "api_keys"
        }


def test_every_route_with_an_id_is_in_the_table(client: FlaskClient) -> None:
    rules = client.application.url_map.iter_rules()
    found = {(method, rule.rule) for rule in rules if rule.arguments for method in rule.methods or ()}
    assert {route for route in found if route[1].startswith("/v1") and route[0] not in ("HEAD", "OPTIONS")} == set(
        ROUTES
    )


@pytest.mark.parametrize(("method", "rule"), ROUTES, ids=" ".join)
def test_foreign_id_is_answered_as_an_unknown_one(
    owner: Tenant, stranger: Tenant, services: Services, ids: dict[str, str], method: str, rule: str
) -> None:
    before, unknown = dump(services.ledger), make_unknown(ids)
    foreign = stranger.send(method, fill(rule, ids), json=ROUTES[method, rule])
    assert foreign.status_code == 404
    assert tell(foreign, ids) == tell(stranger.send(method, fill(rule, unknown), json=ROUTES[method, rule]), unknown)
    assert dump(services.ledger) == before
    assert owner.send(method, fill(rule, ids), json=ROUTES[method, rule]).status_code < 300


@pytest.mark.parametrize("path", [*LISTS, *FILTERS, *CURSORS, "/v1/events?after={event_id}"])
def test_list_has_only_what_is_ones_own(owner: Tenant, stranger: Tenant, ids: dict[str, str], path: str) -> None:
    path = path.format(**ids)
    assert stranger.send("GET", path).get_json()["items"] == []
    assert owner.send("GET", path.partition("?")[0]).get_json()["items"] != []


@pytest.mark.parametrize("path", [*FILTERS, *CURSORS])
def test_foreign_id_in_a_query_is_answered_as_an_unknown_one(stranger: Tenant, ids: dict[str, str], path: str) -> None:
    unknown = make_unknown(ids)
    foreign = tell(stranger.send("GET", path.format(**ids)), ids)
    assert foreign == tell(stranger.send("GET", path.format(**unknown)), unknown)


def test_foreign_cursor_shows_no_more_than_ones_own(owner: Tenant, stranger: Tenant) -> None:
    """A cursor is a place in the order of ids, not a right to see what stands there."""
    for tenant in (owner, stranger, owner, stranger):
        tenant.send("POST", "/v1/jobs", json=BODY)
    cursor = owner.send("GET", "/v1/jobs?limit=1").get_json()["next_cursor"]
    own = {job["id"] for job in stranger.send("GET", "/v1/jobs").get_json()["items"]}
    assert {job["id"] for job in stranger.send("GET", f"/v1/jobs?cursor={cursor}").get_json()["items"]} < own


def test_same_idempotency_key_of_another_account_is_another_key(owner: Tenant, stranger: Tenant) -> None:
    """Neither the job nor the fact that the key is taken is told."""
    headers = {"Idempotency-Key": "order-4711"}
    first = owner.send("POST", "/v1/jobs", json=BODY, headers=headers)
    second = stranger.send("POST", "/v1/jobs", json=BODY | {"width": 7}, headers=headers)
    again = owner.send("POST", "/v1/jobs", json=BODY, headers=headers)
    assert [answer.status_code for answer in (first, second, again)] == [202, 202, 200]
    assert first.get_json()["id"] == again.get_json()["id"] != second.get_json()["id"]


def test_events_go_to_the_endpoints_of_their_account_only(
    owner: Tenant, stranger: Tenant, services: Services, ids: dict[str, str]
) -> None:
    stranger.send("POST", "/v1/endpoints", json={"url": "https://stranger.example/", "event_types": ["job.*"]})
    process(services, ids["job_id"])
    told = stranger.send("GET", "/v1/deliveries").get_json()["items"]
    assert [each["job_id"] for each in told] == [None]
    urls = {each["url"] for each in owner.send("GET", f"/v1/jobs/{ids['job_id']}/deliveries").get_json()["items"]}
    assert urls == {"https://app.example/endpoint", BODY["callback_url"]}
