"""The OpenAPI document: what holds for every operation is told here, once; what is an operation's own, at its view.

Which problems an operation may answer with follows from what it takes: a key, an id, parameters, a body. A test sends
what the document allows, and what it does not, to the running service, and holds the answers against the document.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask
from flask_smorest.spec.plugins import FlaskPlugin
from marshmallow import fields
from werkzeug.routing import Rule

from thumbs.domain import CALLBACKS, EventType
from thumbs.web.forms import FORM_TYPE
from thumbs.web.problems import CODES, PROBLEM_TYPE, ProblemApi
from thumbs.web.schemas import EventSchema, ProblemSchema, write_pattern

DESCRIPTION: Final = """\
Source image URL in, exactly sized thumbnail and a signed webhook out.

Every answer has `X-Request-ID`: yours, if you sent one (1-200 of `A-Z a-z 0-9 . _ : / + = -`), else ours.
Unknown fields are refused.
"""
SECURITY_SCHEME: Final = "api_key"

PATH_PARAMETERS: Final[Mapping[str, tuple[str, str]]] = {
    "job_id": ("job_ULID", "A job's id."),
    "batch_id": ("bat_ULID", "A batch's id."),
    "delivery_id": ("dlv_ULID", "A delivery's id."),
    "endpoint_id": (
        f"(ep_ULID|{CALLBACKS})",
        f"An endpoint's id. `{CALLBACKS}`, for `rotate-secret` and `recover`, stands for the URLs of jobs and batches.",
    ),
    "name": ("[0-9a-f]{32}[^/]*", "The name of an output, as we told it: 32 hexadecimal digits and an extension."),
}
"""The pattern and the meaning of each parameter in a path."""

HEADERS: Final[Mapping[str, tuple[str, dict[str, Any]]]] = {
    "X-Request-ID": ("Names the request, in our log lines, too.", {"type": "string", "minLength": 1, "maxLength": 200}),
    "Location": ("The URL of what was made.", {"type": "string", "format": "uri"}),
    "Retry-After": ("After how many seconds to come back.", {"type": "integer", "minimum": 1}),
    "ETag": ("Names this version, for `If-None-Match`.", {"type": "string"}),
    "Cache-Control": ("How long it stays as it is.", {"type": "string"}),
    "Idempotent-Replayed": ("This is what an earlier request with the same key led to.", {"const": "true"}),
    "Preference-Applied": ("The wait that was asked for and kept.", {"type": "string", "pattern": "^wait=[0-9]+$"}),
    "X-RateLimit-Limit": ("How many requests the account may send in a window.", {"type": "integer", "minimum": 1}),
    "X-RateLimit-Remaining": ("How many of them are left.", {"type": "integer", "minimum": 0}),
    "X-RateLimit-Reset": ("When the window ends, in Unix seconds.", {"type": "integer", "minimum": 0}),
    "X-Thumbs-Error": ("Why there is no thumbnail: the code of the error.", {"type": "string"}),
    "WWW-Authenticate": ("How to authenticate.", {"type": "string"}),
}
"""The meaning and the shape of each header of an answer."""

IF_NONE_MATCH: Final[Mapping[str, Any]] = {
    "in": "header",
    "name": "If-None-Match",
    "description": "An `ETag` that you have: while it is right, the answer is 304.",
    "schema": {"type": "string"},
}
BYTES: Final[Mapping[str, str]] = {"type": "string", "format": "binary"}
"""The schema of an image."""

RATE_LIMIT_HEADERS: Final = ("X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")
"""On every answer to an account, unless the counters cannot be reached."""

PROBLEM_HEADERS: Final[Mapping[int, str]] = {401: "WWW-Authenticate", 429: "Retry-After", 503: "Retry-After"}
"""The header that a problem always has, apart from X-Request-ID."""

PROBLEMS: Final[Mapping[int, str]] = {
    400: "The request cannot be read: its body is not JSON, or its Host is none.",
    401: "There is no API key, or none that is known.",
    403: "A browser sent it on behalf of another site.",
    404: "There is no such thing, or it is another account's.",
    413: "The body, or the source that came along, has more bytes than are read.",
    414: "The first line of the request is too long.",
    415: "The body is of a type that is not taken here.",
    422: "A field or parameter is missing, unknown or out of range, and `errors` names it; or a URL is not allowed, or "
    "the idempotency key came with another body before: see `code`.",
    429: "The account sends more requests than it may.",
    431: "The headers of the request are too long.",
    500: "Our fault; the `request_id` names it in our log.",
    503: "Nothing was recorded: too many jobs wait, or something of ours does not answer.",
}
"""What each problem means that several operations may answer with. Their names in the document are their codes."""

EVENTS: Final[Mapping[EventType, str]] = {
    EventType.JOB_SUCCEEDED: "A job has its thumbnail.",
    EventType.JOB_FAILED: "A job has failed for good.",
    EventType.BATCH_FINISHED: "The last job of a batch has ended.",
    EventType.PING: "An endpoint was created, or pinged.",
    EventType.ENDPOINT_FAILING: "Another endpoint has had no 2xx for a day.",
    EventType.ENDPOINT_DISABLED: "Another endpoint was disabled.",
}
WEBHOOK_HEADERS: Final[Mapping[str, str]] = {
    "webhook-id": "The event's id: the same on every attempt, to every receiver.",
    "webhook-timestamp": "When this attempt was started, in Unix seconds.",
    "webhook-signature": "`v1,` and the HMAC-SHA256 in base64; several, with spaces between them, during a rotation.",
    "thumbs-delivery": "The delivery's id.",
    "thumbs-attempt": "Counts the delivery's attempts, from 1.",
}


def build_api(app: Flask) -> ProblemApi:
    """Build the Api whose document knows what is said here; blueprints are registered with it."""
    plugins = {"flask_plugin": ContractPlugin(), "marshmallow_plugin": SchemaPlugin()}
    api = ProblemApi(app, spec_kwargs=plugins)
    api.ma_plugin.converter.add_attribute_function(tell_names)
    components = api.spec.components
    del components.schemas["PaginationMetadata"]  # flask-smorest's, which nothing here refers to.
    components.security_scheme(SECURITY_SCHEME, {"type": "http", "scheme": "bearer"})
    components.schema("Event", schema=EventSchema)
    for status, description in PROBLEMS.items():
        components.response(CODES[status], _build_problem(status, description))
    api.spec.options |= {
        "info": {"description": DESCRIPTION},
        "security": [{SECURITY_SCHEME: []}],
        "webhooks": {str(kind): build_webhook(summary) for kind, summary in EVENTS.items()},
    }
    return api


def tell_headers(*names: str, sometimes: Collection[str] = ()) -> dict[str, Any]:
    """Tell of the headers that an answer has always, and of those that it has sometimes."""
    return {
        name: {"description": HEADERS[name][0], "required": name in names, "schema": HEADERS[name][1]}
        for name in (*names, *sometimes)
    }


def tell_problem(status: int, description: str, *, sometimes: Collection[str] = ()) -> dict[str, Any]:
    """Tell of a problem that is an operation's own, and its headers, as options for its `alt_response`."""
    response = _build_problem(status, description, sometimes)
    return {"status_code": status, "response": {**response, "content_type": None}}


def tell_callback(summary: str) -> dict[str, Any]:
    """Tell of the webhook to the URL that a request brings along, as options for its operation's `doc`."""
    return {"callbacks": {"end": {"{$request.body#/callback_url}": build_webhook(summary)}}}


def tell_form(schema: type[ma.Schema]) -> dict[str, Any]:
    """Tell that a request may be sent as a form, too, as options for its operation's `doc`."""
    return {"requestBody": {"content": {FORM_TYPE: {"schema": schema}}}}


def tell_unchanged() -> dict[str, Any]:
    """Tell that a caller may have the answer already, as options for an operation's `alt_response`."""
    return {
        "status_code": 304,
        "description": "Unchanged since the ETag of `If-None-Match`.",
        "headers": tell_headers("ETag"),
    }


def build_webhook(summary: str) -> dict[str, Any]:
    """Build the description of a webhook: the same for each type of event, apart from its summary."""
    headers = [
        {"in": "header", "name": name, "description": meaning, "required": True, "schema": {"type": "string"}}
        for name, meaning in WEBHOOK_HEADERS.items()
    ]
    body = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Event"}}}}
    answers = {
        "2XX": {"description": "Taken."},
        "410": {"description": "Never again: a registered endpoint is disabled."},
    }
    operation = {"summary": summary, "security": [], "parameters": headers, "requestBody": body, "responses": answers}
    return {"post": operation}


def tell_names(self: Any, field: fields.Field[Any], **_: Any) -> dict[str, Any]:
    """Tell which names the members of an object may have; apispec calls this for each field."""
    names = field.key_field if isinstance(field, fields.Dict) else None
    return {"propertyNames": self.field2property(names)} if names is not None and names.metadata else {}


class SchemaConverter(OpenAPIConverter):
    """Tells of a schema also what holds for several of its members together, which marshmallow checks in code."""

    def schema2jsonschema(self, schema: ma.Schema) -> dict[str, Any]:
        """Turn a schema into JSON Schema, with its `json_schema`."""
        told: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        return told | getattr(schema, "json_schema", {})


class SchemaPlugin(MarshmallowPlugin):
    """apispec's plugin for marshmallow with that converter."""

    Converter = SchemaConverter


class ContractPlugin(FlaskPlugin):
    """Adds to each operation what follows from its route, and from what it takes."""

    def rule_to_params(self, rule: Rule) -> list[dict[str, Any]]:
        """List the parameters in a path."""
        return [_tell_path_parameter(name) for name in sorted(rule.arguments)]

    def path_helper(self, rule: Rule, operations: dict[str, Any], parameters: list[Any], **kwargs: Any) -> str:
        """Complete the operations of a path, and return the path as OpenAPI writes it."""
        for method, operation in operations.items():
            is_public = operation.get("security") == []
            headers = tell_headers("X-Request-ID", sometimes=() if is_public else RATE_LIMIT_HEADERS)
            own = {int(status): each for status, each in operation["responses"].items() if isinstance(each, dict)}
            for response in own.values():
                response["headers"] = response.get("headers", {}) | headers
            if 304 in own:
                operation.setdefault("parameters", []).append(IF_NONE_MATCH)
            common = {status: _refer(status) for status in _list_problems(method, operation, rule)}
            operation["operationId"] = rule.endpoint.rpartition(".")[2]
            operation["responses"] = {str(status): each for status, each in sorted((common | own).items())}
        path: str = super().path_helper(rule=rule, operations=operations, parameters=parameters, **kwargs)
        return path


def _tell_path_parameter(name: str) -> dict[str, Any]:
    pattern, description = PATH_PARAMETERS[name]
    schema = {"type": "string", "pattern": write_pattern(pattern)}
    return {"in": "path", "name": name, "required": True, "description": description, "schema": schema}


def _list_problems(method: str, operation: Mapping[str, Any], rule: Rule) -> list[int]:
    """List the problems that an operation may answer with, going by what it takes."""
    has_body = "requestBody" in operation
    takes = {
        (400, 414, 431, 500, 503): True,
        (401, 429): operation.get("security") != [],
        (403,): method != "get",
        (404,): bool(rule.arguments),
        (413, 415): has_body,
        (422,): has_body or bool(operation.get("parameters")),
    }
    return [status for statuses, is_so in takes.items() if is_so for status in statuses]


def _refer(status: int) -> dict[str, str]:
    return {"$ref": f"#/components/responses/{CODES[status]}"}


def _build_problem(status: int, description: str, sometimes: Collection[str] = ()) -> dict[str, Any]:
    own = (PROBLEM_HEADERS[status],) if status in PROBLEM_HEADERS else ()
    headers = tell_headers("X-Request-ID", *own, sometimes=sometimes)
    return {"description": description, "headers": headers, "content": {PROBLEM_TYPE: {"schema": ProblemSchema}}}
