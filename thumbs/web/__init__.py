"""The web face: a Flask app that validates, records, answers and serves. It never fetches a URL or decodes an image."""

import re
import uuid
from collections.abc import Callable
from typing import Final

from flask import Flask, Response, g, request
from werkzeug.exceptions import BadRequest, NotFound
from werkzeug.middleware.proxy_fix import ProxyFix

from thumbs import __version__
from thumbs.services import Services
from thumbs.telemetry import bind_log_context, clear_log_context
from thumbs.web import batches, classic, deliveries, endpoints, events, jobs, metrics, pages, system, thumbnails
from thumbs.web.context import RATE_LIMIT, SERVICES, WAITING_ROOM, get_rate_limit
from thumbs.web.forms import FormRequest
from thumbs.web.headers import set_headers
from thumbs.web.limiting import RateLimit
from thumbs.web.openapi import build_api
from thumbs.web.origins import check_origin
from thumbs.web.parsing import MAX_BODY_BYTES
from thumbs.web.problems import register_error_handlers
from thumbs.web.waiting import WaitingRoom

BLUEPRINTS: Final = (
    jobs.blueprint,
    batches.blueprint,
    endpoints.blueprint,
    deliveries.blueprint,
    events.blueprint,
    thumbnails.blueprint,
    classic.blueprint,
    classic.media,
    system.blueprint,
    metrics.blueprint,
)
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,200}")


def create_app(services: Services, *, is_stopping: Callable[[], bool] = lambda: False) -> Flask:
    """Create the app; `is_stopping` tells those who wait that the process is about to end."""
    app = Flask(__name__, static_folder=None)
    app.request_class = FormRequest
    app.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY_BYTES,
        API_TITLE="thumbs",
        API_VERSION=__version__,
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    app.json.sort_keys = False  # type: ignore[attr-defined]  # Flask's default provider has it.
    app.extensions[SERVICES] = services
    app.extensions[WAITING_ROOM] = WaitingRoom(services, is_stopping=is_stopping)
    app.extensions[RATE_LIMIT] = RateLimit(app, services.settings)
    app.before_request(_begin_request)
    app.before_request(check_origin)
    app.after_request(_finish_response)
    app.teardown_request(lambda _error: clear_log_context())
    _register_routes(app)
    _trust_proxies(app, services.settings.trusted_proxies)
    return app


def _register_routes(app: Flask) -> None:
    api = build_api(app)
    for blueprint in BLUEPRINTS:
        api.register_blueprint(blueprint)
    app.register_blueprint(pages.blueprint)
    register_error_handlers(app)


def _trust_proxies(app: Flask, count: int) -> None:
    """Believe that many proxies' X-Forwarded-For, -Proto and -Host."""
    if count:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=count, x_proto=count, x_host=count)  # type: ignore[method-assign]


def _begin_request() -> None:
    """Take the caller's request id where it is sane, else draw one; it is on every log line and answer.

    A Host that is none is refused: without THUMBS_PUBLIC_URL it becomes part of the URLs that are recorded with a job.
    """
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    bind_log_context(request_id=g.request_id)
    if not _HOST.fullmatch(request.host):
        raise BadRequest("The Host header is not the name of a host.")
    request.environ.pop("HTTP_IF_MATCH", None)  # werkzeug would make it a 412 with a body that is no problem document.
    if "\0" in request.path:
        raise NotFound  # PostgreSQL's text cannot hold it, so nothing has such a name.


def _finish_response(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    response.headers.update(get_rate_limit().describe())
    set_headers(response)
    return response
