"""Every error as a problem document (RFC 9457), rendered in this one place: also 404, 405, 413, 415 and 500.

A 500 tells nothing but its request id; what happened is in the log under the same id.
"""

import http
import logging
from collections.abc import Mapping
from typing import Any, Final

from flask import Flask, Response, g, json, request
from flask_smorest import Api
from werkzeug.exceptions import HTTPException

from thumbs.errors import RequestError, UnavailableError
from thumbs.web.context import get_public_url
from thumbs.web.schemas import ProblemSchema

PROBLEM_TYPE: Final = "application/problem+json"
UNAVAILABLE_RETRY_SECONDS: Final = 5

CODES: Final[Mapping[int, str]] = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    409: "conflict",
    413: "body_too_large",
    414: "uri_too_long",
    415: "unsupported_media_type",
    422: "validation_failed",
    429: "rate_limited",
    431: "headers_too_large",
    500: "internal_error",
    503: "unavailable",
}
"""The code of each status that has no code of its own (docs/errors.md)."""

TITLES: Final[Mapping[str, str]] = {
    "validation_failed": "The request is not valid.",
    "body_too_large": "The request body is too large.",
    "internal_error": "Something went wrong on our side.",
    "unavailable": "The service cannot answer right now.",
}

logger = logging.getLogger(__name__)


class ProblemApi(Api):
    """flask-smorest's Api with problem documents for its errors."""

    ERROR_SCHEMA = ProblemSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # The document names each problem that there can be: web.openapi.

    def handle_http_exception(self, error: HTTPException) -> Response:
        """Render what werkzeug, webargs or flask-smorest raised; its headers (Allow, Retry-After) survive."""
        status = error.code or 500
        code = CODES.get(status, http.HTTPStatus(status).name.lower())
        errors = getattr(error, "data", {}).get("messages")
        headers = {
            name: value for name, value in error.get_headers() if name.lower() not in ("content-type", "content-length")
        }
        detail = _tell_first(errors) or error.description or http.HTTPStatus(status).phrase
        return build_problem(status, code, detail, errors=errors, headers=headers)


def register_error_handlers(app: Flask) -> None:
    """Render our own errors, and whatever else goes wrong."""
    app.register_error_handler(RequestError, _handle_request_error)
    app.register_error_handler(UnavailableError, _handle_unavailable)
    app.register_error_handler(Exception, _handle_unexpected)


def build_problem(
    status: int,
    code: str,
    detail: str,
    *,
    title: str | None = None,
    errors: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Build the answer for a problem."""
    problem: dict[str, Any] = {
        "type": f"{get_public_url()}/problems/{code}",
        "title": title or TITLES.get(code) or f"{http.HTTPStatus(status).phrase}.",
        "status": status,
        "code": code,
        "detail": detail,
    }
    if errors:
        problem["errors"] = errors
    problem["request_id"] = g.request_id
    return Response(json.dumps(problem), status, headers, mimetype=PROBLEM_TYPE)


def _handle_request_error(error: RequestError) -> Response:
    headers = {}
    if error.retry_after_seconds is not None:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if error.status == http.HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="thumbs"'
    place = "json" if request.method in ("POST", "PATCH") else "query"
    errors = {place: {error.field: [error.detail]}} if error.field else None
    return build_problem(error.status, error.code, error.detail, title=error.title, errors=errors, headers=headers)


def _handle_unavailable(error: UnavailableError) -> Response:
    headers = {"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)}
    return build_problem(503, "unavailable", f"Right now {error}; try again.", headers=headers)


def _handle_unexpected(_error: Exception) -> Response:
    logger.exception("a request failed")
    return build_problem(500, "internal_error", "Something went wrong; the request id names it in our log.")


def _tell_first(errors: Any, path: str = "") -> str | None:
    """Tell the first of marshmallow's messages in a sentence: `width: Must be at most 1024.`"""
    if isinstance(errors, Mapping) and errors:
        name, inner = next(iter(errors.items()))
        return _tell_first(inner, str(name) if path in ("", "json", "query", "_schema") else f"{path}.{name}")
    if isinstance(errors, list) and errors:
        return f"{path}: {errors[0]}" if path not in ("", "json", "query", "_schema") else str(errors[0])
    return None
