"""Every error is a problem document with a request id; a 500 tells nothing else, a lost ledger when to return."""

import json
import logging
from datetime import datetime
from typing import Any, NoReturn

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import UnavailableBlobs, build_lost_ledger, build_test_services
from thumbs.ledger import Ledger
from thumbs.web import create_app

SECRET = "the password is 1234"

BAD_REQUESTS: dict[int, tuple[str, str, dict[str, Any]]] = {
    400: ("POST", "/v1/jobs", {"data": b"{", "content_type": "application/json"}),
    404: ("GET", "/nothing/here", {}),
    405: ("PUT", "/v1/jobs", {}),
    413: ("POST", "/v1/jobs", {"data": b" " * 70_000, "content_type": "application/json"}),
    415: ("POST", "/v1/jobs", {"data": b"{}", "content_type": "text/plain"}),
    422: ("POST", "/v1/jobs", {"json": {}}),
}


class BrokenBlobs(UnavailableBlobs):
    """A blob store with a bug."""

    def find(self, name: str, now: datetime) -> NoReturn:
        """Fail in a way that nobody thought of."""
        raise RuntimeError(SECRET)


@pytest.fixture
def broken_client(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> FlaskClient:
    """A caller of an app in which GET /t/… fails."""
    return create_app(build_test_services(ledger, dispatcher, clock, blobs=BrokenBlobs())).test_client()


@pytest.fixture
def lost_client(dispatcher: RecordingDispatcher, clock: FrozenClock) -> FlaskClient:
    """A caller of an app whose ledger is gone."""
    return create_app(build_test_services(build_lost_ledger(), dispatcher, clock)).test_client()


def check_problem(answer: TestResponse, status: int) -> None:
    problem = answer.get_json()
    assert (answer.status_code, answer.content_type, problem["status"]) == (status, "application/problem+json", status)
    assert problem["type"] == f"http://localhost/problems/{problem['code']}"
    assert problem["title"].endswith(".")
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]


@pytest.mark.parametrize("status", BAD_REQUESTS)
def test_every_error_is_a_problem_document(shared_client: FlaskClient, status: int) -> None:
    """RFC 9457."""
    method, path, options = BAD_REQUESTS[status]
    check_problem(shared_client.open(path, method=method, **options), status)


def test_method_that_is_not_allowed_is_told_which_are(shared_client: FlaskClient) -> None:
    answer = shared_client.put("/v1/jobs")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


def test_detail_tells_the_first_mistake_in_a_sentence(shared_client: FlaskClient) -> None:
    answer = shared_client.post("/v1/jobs", json={"source_url": "https://img.example/", "width": 0})
    assert answer.get_json()["detail"].startswith("width: Must be ")


def test_what_callers_sent_does_not_come_back_as_a_page(shared_client: FlaskClient) -> None:
    answer = shared_client.get("/v1/jobs/<script>alert(1)</script>")
    assert answer.content_type == "application/problem+json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ── request ids ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("request_id", ["a", "4711", "A-z_0.9:/+=-", "x" * 200])
def test_sane_request_id_is_taken(shared_client: FlaskClient, request_id: str) -> None:
    answer = shared_client.get("/healthz", headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] == request_id


@pytest.mark.parametrize("request_id", ["", " ", "a b", "x" * 201, "é", "<b>", 'a"b', "a;b"])
def test_insane_request_id_is_replaced(shared_client: FlaskClient, request_id: str) -> None:
    answer = shared_client.get("/healthz", headers={"X-Request-ID": request_id})
    assert answer.headers["X-Request-ID"] != request_id
    assert len(answer.headers["X-Request-ID"]) == 32


def test_each_request_without_an_id_gets_one_of_its_own(shared_client: FlaskClient) -> None:
    ids = {shared_client.get("/healthz").headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3


# ── 500 and 503 ─────────────────────────────────────────────────────────────────────────────────────────


def test_unexpected_error_tells_nothing_but_its_request_id(broken_client: FlaskClient) -> None:
    answer = broken_client.get("/t/x.jpg")
    check_problem(answer, 500)
    assert set(answer.get_json()) == {"type", "title", "status", "code", "detail", "request_id"}
    assert not any(word in answer.get_data(as_text=True) for word in (SECRET, "RuntimeError", "Traceback"))


def test_unexpected_error_is_logged_with_its_traceback(
    broken_client: FlaskClient, caplog: pytest.LogCaptureFixture
) -> None:
    broken_client.get("/t/x.jpg")
    [record] = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert record.exc_info is not None
    assert SECRET in str(record.exc_info[1])


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/jobs"), ("GET", "/v1/jobs"), ("GET", "/v1/jobs/job_1"), ("GET", "/t/x.jpg")]
)
def test_lost_ledger_is_503_with_when_to_come_back(lost_client: FlaskClient, method: str, path: str) -> None:
    body = json.dumps({"source_url": "https://img.example/"}) if method == "POST" else None
    answer = lost_client.open(path, method=method, data=body, content_type="application/json")
    check_problem(answer, 503)
    assert (answer.get_json()["code"], answer.headers["Retry-After"]) == ("unavailable", "5")
    assert "sqlite" not in answer.get_data(as_text=True).lower()


def test_lost_ledger_accepts_nothing(lost_client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    lost_client.post("/v1/jobs", json={"source_url": "https://img.example/"})
    assert dispatcher.processed == []


@pytest.mark.parametrize("host", ["x" * 256, "a b", 'a"b', "a<b", "a/b"])
def test_host_that_is_none_is_refused(shared_client: FlaskClient, host: str) -> None:
    """It would become part of the URLs that are recorded with a job."""
    answer = shared_client.post("/v1/jobs", json={}, headers={"Host": host})
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
