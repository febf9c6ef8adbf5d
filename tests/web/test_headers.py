"""What every answer of every route tells browsers and caches, and that pages of other sites get nothing out of us."""

import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import accept, build_test_services
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services
from thumbs.web import create_app

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
ORIGIN = {"Origin": "https://evil.example"}
NOWHERE = ("GET", "/nothing/here"), ("PUT", "/v1/jobs"), ("GET", "/v1/jobs?limit=0")


def walk(client: FlaskClient, headers: dict[str, str]) -> Iterator[tuple[str, TestResponse]]:
    """Call every route with every method, as far as that is possible without knowing what it wants, and no route."""
    calls = [
        (method, re.sub(r"<[^>]*>", "x", rule.rule))
        for rule in client.application.url_map.iter_rules()
        for method in rule.methods or ()
    ]
    for method, path in [*calls, *NOWHERE]:
        yield f"{method} {path}", client.open(path, method=method, headers=headers, buffered=True)


def test_every_answer_says_how_browsers_may_use_it(shared_client: FlaskClient) -> None:
    """Its type is not guessed; nobody frames it; what is no page does nothing where it is taken for one."""
    pages = set()
    for call, answer in walk(shared_client, BROWSER):
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff", call
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= set(policy.split("; ")), call
        if answer.mimetype == "text/html":
            pages.add(call)
            assert "script-src 'self';" in policy, call
            assert (answer.headers["X-Frame-Options"], answer.headers["Referrer-Policy"]) == ("DENY", "no-referrer")
        else:
            assert "script-src" not in policy, call
    assert {"GET /", "GET /docs"} <= pages


def test_no_answer_lets_another_site_read_it(shared_client: FlaskClient) -> None:
    """No CORS header at all, whatever is asked for; a preflight finds that nothing is allowed."""
    preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    for call, answer in walk(shared_client, ORIGIN | preflight):
        assert [name for name, _ in answer.headers if name.lower().startswith("access-control")] == [], call


def test_every_answer_says_whether_it_may_be_stored(shared_client: FlaskClient) -> None:
    for call, answer in walk(shared_client, {}):
        assert "Cache-Control" in answer.headers, call
        if "/v1/" in call or answer.status_code >= 400:
            assert answer.headers["Cache-Control"] == "no-store", call


def test_answer_with_an_etag_is_stored_by_its_caller_alone_and_asked_for_again(
    client: FlaskClient, services: Services
) -> None:
    path = f"/v1/jobs/{accept(services).id}"
    answer = client.get(path)
    assert answer.headers["Cache-Control"] == "private, no-cache"
    again = client.get(path, headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.headers["Cache-Control"]) == (304, "private, no-cache")


def test_thumbnail_may_be_shown_by_every_site_and_nothing_else(client: FlaskClient, services: Services) -> None:
    """Also after its 304."""
    job = accept(services)
    process(services, job.id)
    url = client.get(f"/v1/jobs/{job.id}").get_json()["thumbnail"]["url"]
    thumbnail = client.get(url)
    again = client.get(url, headers={"If-None-Match": thumbnail.headers["ETag"]})
    for answer in (thumbnail, again):
        assert answer.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert "immutable" in answer.headers["Cache-Control"]
    assert client.get(f"/v1/jobs/{job.id}").headers["Cross-Origin-Resource-Policy"] == "same-origin"


# ── whose page sent it ──────────────────────────────────────────────────────────────────────────────────

FOREIGN = (
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "https://localhost"},
    {"Origin": "http://localhost.evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
)
OWN: tuple[dict[str, str], ...] = (
    {},
    {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
    {"Sec-Fetch-Site": "none"},
    {"Origin": "http://localhost"},
)
CHANGES = ("POST", "PUT", "PATCH", "DELETE")


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_change_that_a_page_of_another_site_asks_for_is_refused(
    client: FlaskClient, services: Services, headers: dict[str, str]
) -> None:
    """A form needs no leave of ours to send text/plain here, nor do browsers ask a service without keys for one."""
    job = accept(services)
    for method in CHANGES:
        answer = client.open(f"/v1/jobs/{job.id}", method=method, headers=headers)
        assert (answer.status_code, answer.get_json()["code"]) == (403, "forbidden")
        assert "another site" in answer.get_json()["detail"]
    assert client.post("/v1/jobs", json={"source_url": "https://img.example/"}, headers=headers).status_code == 403
    assert len(client.get("/v1/jobs").get_json()["items"]) == 1


@pytest.mark.parametrize("headers", OWN, ids=str)
def test_change_that_our_own_page_or_a_program_asks_for_is_made(client: FlaskClient, headers: dict[str, str]) -> None:
    """`/docs` is a page to try things on."""
    answer = client.post("/v1/jobs", json={"source_url": "https://img.example/"}, headers=headers)
    assert answer.status_code == 202


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_reading_is_the_browsers_to_refuse(client: FlaskClient, headers: dict[str, str]) -> None:
    """Other sites link to us, and show thumbnails."""
    statuses = [client.open("/v1/jobs", method=method, headers=headers).status_code for method in ("GET", "HEAD")]
    assert statuses == [200, 200]


def test_public_url_is_our_own_site(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    """Behind a proxy whose headers are not believed, the request itself says something else."""
    services = build_test_services(ledger, dispatcher, clock, THUMBS_PUBLIC_URL="https://thumbs.example/base")
    client = create_app(services).test_client()
    origins = {"https://thumbs.example": 422, "http://thumbs.example": 403, "https://thumbs.example/base": 403}
    for origin, status in origins.items():
        assert client.post("/v1/jobs", json={}, headers={"Origin": origin}).status_code == status
