"""Every route needs a key, or is on the list of those that do not; every one is documented."""

import re
from typing import Any

import pytest
from flask import Flask

from tests.guards.sources import read_page
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import build_test_services
from thumbs.ledger import Ledger
from thumbs.web import create_app

PUBLIC = {
    "/",
    "/docs",
    "/docs/assets/<name>",
    "/generateThumbnail/black.jpg",
    "/healthz",
    "/media/<name>",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/static/<path:filename>",
    "/t/<name>",
}
"""Everybody may call these; whoever adds one here thinks about what it tells."""
NOT_IN_OPENAPI = {"/", "/docs", "/docs/assets/<name>", "/openapi.json", "/static/<path:filename>"}
"""Pages, and what they load."""


@pytest.fixture
def app(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> Flask:
    return create_app(build_test_services(ledger, dispatcher, clock, THUMBS_AUTH="required"))


@pytest.fixture
def document(app: Flask) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return document


def list_routes(app: Flask) -> list[tuple[str, str]]:
    """List method and path of every route, without those that Flask adds by itself."""
    return [
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})
    ]


def write_as_openapi(rule: str) -> str:
    return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)


def find_refs(value: Any) -> set[str]:
    """Find every $ref in a document."""
    if isinstance(value, list):
        return {ref for each in value for ref in find_refs(each)}
    if not isinstance(value, dict):
        return set()
    own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
    return own | {ref for each in value.values() for ref in find_refs(each)}


def resolve(document: dict[str, Any], ref: str) -> Any:
    value: Any = document
    for part in ref.removeprefix("#/").split("/"):
        value = value[part.replace("~1", "/").replace("~0", "~")]
    return value


def test_route_answers_401_without_a_key_unless_it_is_public(app: Flask) -> None:
    client = app.test_client()
    answers = {
        (method, rule): client.open(re.sub(r"<[^>]*>", "x", rule), method=method, buffered=True).status_code
        for method, rule in list_routes(app)
    }
    assert {route for route, status in answers.items() if status != 401 and route[1] not in PUBLIC} == set()
    assert {route for route, status in answers.items() if status == 401 and route[1] in PUBLIC} == set()


def test_every_route_is_in_the_documentation(app: Flask) -> None:
    page = read_page("docs/api.md")
    told = {f"{method} {write_as_openapi(rule)}" for method, rule in list_routes(app)}
    assert {route for route in told if not re.search(rf"`{re.escape(route)}[`?]", page)} == set()


def test_every_route_is_in_the_openapi_document(app: Flask, document: dict[str, Any]) -> None:
    told = {
        (method.upper(), path) for path, item in document["paths"].items() for method in item if method != "parameters"
    }
    ours = {(method, write_as_openapi(rule)) for method, rule in list_routes(app) if rule not in NOT_IN_OPENAPI}
    assert told == ours


def test_openapi_document_says_what_it_is(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    assert {"title", "version"} <= set(document["info"])
    assert document["components"]["securitySchemes"] == {"api_key": {"type": "http", "scheme": "bearer"}}


def test_every_reference_of_the_openapi_document_resolves(document: dict[str, Any]) -> None:
    refs = find_refs(document)
    assert refs
    assert all(resolve(document, ref) for ref in refs)


def test_every_operation_of_the_openapi_document_is_described(document: dict[str, Any]) -> None:
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    assert [(path, method) for path, method, operation in operations if not operation.get("summary")] == []
    assert [(path, method) for path, method, operation in operations if "default" in operation["responses"]] == []
    ids = [operation["operationId"] for _, _, operation in operations]
    assert len(ids) == len(set(ids))


def test_path_parameters_of_the_openapi_document_are_declared(document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        shared = item.get("parameters", [])
        for method, operation in item.items():
            if method != "parameters":
                declared = [*shared, *operation.get("parameters", [])]
                names = {each["name"] for each in declared if each.get("in") == "path"}
                assert names == set(re.findall(r"{(\w+)}", path)), (method, path)
