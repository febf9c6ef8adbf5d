"""The OpenAPI document is valid, and says of each operation what follows from its kind."""

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import build_test_services
from thumbs.domain import EventType
from thumbs.ledger import Ledger
from thumbs.web import create_app

Operation = dict[str, Any]


@pytest.fixture
def document(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> dict[str, Any]:
    client: FlaskClient = create_app(build_test_services(ledger, dispatcher, clock)).test_client()
    document: dict[str, Any] = client.get("/openapi.json").get_json()
    return document


@pytest.fixture
def operations(document: dict[str, Any]) -> list[tuple[str, str, Operation]]:
    """Path, method and operation, the path's parameters among its own."""
    return [
        (path, method, operation | {"parameters": item.get("parameters", []) + operation.get("parameters", [])})
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Walk over every object in a part of the document, without following references."""
    if isinstance(value, dict):
        yield value
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        yield from walk(child)


def find_schemas(document: dict[str, Any], part: Any) -> dict[str, Any]:
    """Find the schemas that a part refers to, and those that they refer to."""
    found: dict[str, Any] = {}
    parts = [part]
    while parts:
        names = {str(each["$ref"]).rpartition("/")[2] for each in walk(parts.pop()) if "$ref" in each} - found.keys()
        new = {name: document["components"]["schemas"][name] for name in names}
        found |= new
        parts += new.values()
    return found


def test_document_is_valid(document: dict[str, Any]) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_requests_are_closed(document: dict[str, Any], operations: list[tuple[str, str, Operation]]) -> None:
    """Unknown members are refused."""
    schemas = find_schemas(document, [operation.get("requestBody") for _, _, operation in operations])
    assert len(schemas) >= 7
    assert {name for name, schema in schemas.items() if schema["additionalProperties"] is not False} == set()


def test_answers_are_open(document: dict[str, Any], operations: list[tuple[str, str, Operation]]) -> None:
    """Readers must expect further members: new ones break nobody."""
    answers = [response for _, _, operation in operations for response in operation["responses"].values()]
    own = [answer for answer in answers if "$ref" not in answer]
    schemas = find_schemas(document, [own, document["components"]["responses"]])
    assert {"Problem", "Job", "Event"} <= schemas.keys()
    assert {name for name, schema in schemas.items() if schema.get("additionalProperties") is False} == set()


def test_every_parameter_and_every_answer_is_described(operations: list[tuple[str, str, Operation]]) -> None:
    parameters = [(path, each) for path, _, operation in operations for each in operation["parameters"]]
    assert [(path, each["name"]) for path, each in parameters if not each.get("description")] == []
    answers = [(path, each) for path, _, operation in operations for each in operation["responses"].values()]
    assert [path for path, each in answers if "$ref" not in each and each["description"] in ("", "OK")] == []


def test_null_is_no_value_of_a_parameter(operations: list[tuple[str, str, Operation]]) -> None:
    schemas = [each["schema"] for _, _, operation in operations for each in operation["parameters"]]
    assert [schema for schema in schemas if "null" in schema.get("type", "")] == []


def test_problems_follow_from_what_an_operation_takes(operations: list[tuple[str, str, Operation]]) -> None:
    for path, method, operation in operations:
        statuses = {int(status) for status in operation["responses"]}
        has_body, is_public = "requestBody" in operation, operation.get("security") == []
        has_arguments = has_body or any(each["in"] == "query" for each in operation["parameters"])
        assert statuses >= {400, 500, 503}, path
        assert ({401, 429} <= statuses) is not is_public, path
        assert ("{" in path) <= (404 in statuses), path
        assert ({413, 415} <= statuses) is has_body, path
        assert has_arguments <= (422 in statuses), path
        assert (403 in statuses) is (method != "get"), path


def test_problems_say_when_to_come_back(document: dict[str, Any]) -> None:
    responses = document["components"]["responses"]
    for name in ("rate_limited", "unavailable"):
        assert responses[name]["headers"]["Retry-After"]["required"]


def test_every_type_of_event_is_a_webhook(document: dict[str, Any]) -> None:
    assert document["webhooks"].keys() == {str(kind) for kind in EventType}


@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/batches"])
def test_callback_is_told_of_where_its_url_is_taken(document: dict[str, Any], path: str) -> None:
    (callback,) = document["paths"][path]["post"]["callbacks"].values()
    assert list(callback) == ["{$request.body#/callback_url}"]
