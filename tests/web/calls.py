"""What the tests of endpoints, deliveries and events do alike, through the API where there is a call for it."""

from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.services import accept
from thumbs.accounts import create_account
from thumbs.domain import Account, Delivery, DeliveryFilter
from thumbs.endpoints import NewEndpoint, create_endpoint
from thumbs.process import process
from thumbs.services import Services

URL = "https://receiver.example/hooks"


def register(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Register an endpoint; returns the answer, with its secret."""
    answer = client.post("/v1/endpoints", json={"url": URL} | changes)
    assert answer.status_code == 201, answer.get_json()
    endpoint: dict[str, Any] = answer.get_json()
    return endpoint


def register_foreign(services: Services) -> tuple[Account, str, str]:
    """Register an endpoint of another account; returns that, the endpoint's id, and the id of its ping's delivery."""
    account = create_account(services, "another")
    assert account is not None
    endpoint, _ = create_endpoint(services, account, NewEndpoint(URL, ("*",)))
    return account, endpoint.id, find_deliveries(services, account.id, endpoint.id)[0].id


def find_deliveries(services: Services, account_id: str, endpoint_id: str) -> list[Delivery]:
    """Find an endpoint's deliveries as the ledger has them, newest first."""
    found = services.ledger.deliveries.list_for_account(account_id, DeliveryFilter(endpoint_id=endpoint_id), 1_000)
    return [delivery for delivery, _ in found]


def list_deliveries(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    """List deliveries."""
    answer = client.get(f"/v1/deliveries{query}")
    assert answer.status_code == 200, answer.get_json()
    items: list[dict[str, Any]] = answer.get_json()["items"]
    return items


def end_job(services: Services, **changes: Any) -> str:
    """Let a job end, without a callback unless it is given one; returns its id."""
    job = accept(services, **{"callback_url": None} | changes)
    process(services, job.id)
    return job.id


def check_refused(answer: TestResponse, field: str, code: str | None = None) -> None:
    """Check that the body was refused for that one field."""
    problem = answer.get_json()
    assert answer.status_code == 422
    assert list(problem["errors"]["json"]) == [field]
    assert code in (None, problem["code"])
