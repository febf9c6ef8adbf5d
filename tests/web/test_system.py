"""The system routes and the pages: is it up, is it ready, and what a person may be shown."""

import socket
from contextlib import closing

import pytest
from flask.testing import FlaskClient

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_lost_ledger, build_test_services, build_test_settings
from thumbs.errors import SettingsError
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.sweep import sweep
from thumbs.web import create_app
from thumbs.web.port import check_port_free

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
def alive(services: Services) -> None:
    """A worker and a courier that were seen just now."""
    for process in ("worker", "courier"):
        sweep(services, process)


# ── healthz, readyz ─────────────────────────────────────────────────────────────────────────────────────


def test_health_is_about_the_process_alone(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    """A platform that restarts what is not healthy must not restart us because the ledger is away."""
    client = create_app(build_test_services(build_lost_ledger(), dispatcher, clock)).test_client()
    assert (client.get("/healthz").status_code, client.get("/healthz").get_json()) == (200, {"status": "ok"})


def test_ready_when_everything_answers(client: FlaskClient, alive: None) -> None:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "ok")
    assert {"ledger": "ok", "queue": "ok", "worker": "ok", "courier": "ok"}.items() <= answer.get_json()[
        "parts"
    ].items()


def test_ready_tells_how_long_the_oldest_job_has_waited(
    client: FlaskClient, services: Services, clock: FrozenClock, alive: None
) -> None:
    assert client.get("/readyz").get_json()["oldest_queued_seconds"] == 0
    accept(services)
    clock.move(12.5)
    accept(services)
    assert client.get("/readyz").get_json()["oldest_queued_seconds"] == 12.5


def list_failing(client: FlaskClient) -> set[str]:
    answer = client.get("/readyz")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert int(answer.headers["Retry-After"]) > 0
    parts: dict[str, str] = answer.get_json()["errors"]["parts"]
    failing = {name for name, state in parts.items() if state != "ok"}
    assert all(name in answer.get_json()["detail"] for name in failing)
    return failing


def test_not_ready_names_worker_and_courier_that_were_never_seen(client: FlaskClient) -> None:
    assert list_failing(client) == {"worker", "courier"}


def test_not_ready_names_a_courier_that_was_not_seen_for_a_minute(
    client: FlaskClient, services: Services, clock: FrozenClock, alive: None
) -> None:
    clock.move(60)
    assert client.get("/readyz").status_code == 200
    sweep(services, "worker")
    clock.move(1)
    assert list_failing(client) == {"courier"}


def test_not_ready_names_the_queue(client: FlaskClient, dispatcher: RecordingDispatcher, alive: None) -> None:
    dispatcher.is_down = True
    assert list_failing(client) == {"queue"}


def test_not_ready_names_the_ledger(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    client = create_app(build_test_services(build_lost_ledger(), dispatcher, clock)).test_client()
    assert "ledger" in list_failing(client)
    assert "queue" not in list_failing(client)


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────


def test_browser_is_greeted_by_a_page_and_everybody_else_by_json(shared_client: FlaskClient) -> None:
    assert "Hello world" in shared_client.get("/", headers=BROWSER).get_data(as_text=True)
    assert shared_client.get("/").get_json() == {
        "message": "hello world",
        "documentation": "http://localhost/docs",
        "openapi": "http://localhost/openapi.json",
    }


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_page_may_load_from_us_only_and_be_framed_by_nobody(shared_client: FlaskClient, path: str) -> None:
    headers = shared_client.get(path, headers=BROWSER).headers
    policy = dict(part.strip().partition(" ")[::2] for part in headers["Content-Security-Policy"].split(";"))
    assert (policy["default-src"], policy["script-src"], policy["frame-ancestors"]) == ("'none'", "'self'", "'none'")
    assert (headers["X-Frame-Options"], headers["Referrer-Policy"]) == ("DENY", "no-referrer")
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_page_has_no_inline_script_and_what_it_loads_is_there(shared_client: FlaskClient, path: str) -> None:
    page = shared_client.get(path, headers=BROWSER).get_data(as_text=True)
    urls = [part.split('"')[0] for part in page.replace('href="', 'src="').split('src="')[1:]]
    ours = [url for url in urls if url.startswith(("/static", "/docs/assets"))]
    assert ours
    assert {shared_client.get(url, buffered=True).status_code for url in ours} == {200}
    assert page.count("<script") == page.count("<script src=")


def test_host_that_a_caller_makes_up_is_escaped_on_a_page(shared_client: FlaskClient) -> None:
    page = shared_client.get("/", headers=BROWSER | {"Host": 'x"><script>alert(1)</script>'}).get_data(as_text=True)
    assert "<script>alert" not in page


@pytest.mark.parametrize("name", ["index.html", "nothing.js", "..%2f__init__.py", "%2e%2e"])
def test_other_files_of_swagger_ui_are_404(shared_client: FlaskClient, name: str) -> None:
    assert shared_client.get(f"/docs/assets/{name}").status_code == 404


# ── proxies, and the port ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "base"), [("0", "http://localhost"), ("1", "https://thumbs.example")])
def test_forwarded_headers_are_believed_as_far_as_they_are_trusted(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, count: str, base: str
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_TRUSTED_PROXIES=count)
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "thumbs.example"}
    answer = create_app(services).test_client().get("/", headers=headers)
    assert answer.get_json()["documentation"] == f"{base}/docs"


def test_public_url_of_the_settings_wins_over_the_request(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock
) -> None:
    services = build_test_services(ledger, dispatcher, clock, THUMBS_PUBLIC_URL="https://thumbs.example/base/")
    answer = create_app(services).test_client().post("/v1/jobs", json={"source_url": "https://img.example/"})
    assert answer.headers["Location"].startswith("https://thumbs.example/base/v1/jobs/")


def test_port_that_is_taken_is_told_in_one_line() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        settings = build_test_settings(PORT=str(port), THUMBS_HOST="127.0.0.1")
        with pytest.raises(SettingsError, match=rf"^PORT={port} cannot be used on 127\.0\.0\.1: ") as caught:
            check_port_free(settings)
    assert "\n" not in str(caught.value)


def test_port_that_is_free_is_fine() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    check_port_free(build_test_settings(PORT=str(port), THUMBS_HOST="127.0.0.1"))
