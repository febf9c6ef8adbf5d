"""What the OpenAPI document says of the form of requests holds to the letter; each of these was found by sending it."""

from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

BODY = {"source_url": "https://img.example/cat.jpg"}
LISTS = ("/v1/jobs", "/v1/endpoints", "/v1/deliveries", "/v1/events")
PARAMETERS = [
    ("/v1/jobs", "status"),
    ("/v1/jobs", "cursor"),
    ("/v1/jobs", "created_after"),
    ("/v1/deliveries", "job_id"),
    ("/v1/deliveries", "endpoint_id"),
    ("/v1/events", "after"),
    ("/v1/events", "type"),
]


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["1_0", "٣", "+5", " 5", "5 ", "5.0", "1e1", ""])
def test_limit_that_is_no_plain_integer_is_refused(shared_client: FlaskClient, path: str, limit: str) -> None:
    """Python would read most of these as numbers."""
    answer = shared_client.get(f"{path}?limit={quote(limit)}")
    assert (answer.status_code, answer.get_json()["errors"]["query"].keys()) == (422, {"limit"})


@pytest.mark.parametrize(("path", "name"), PARAMETERS)
def test_parameter_that_is_there_and_empty_is_refused(shared_client: FlaskClient, path: str, name: str) -> None:
    assert shared_client.get(f"{path}?{name}=").status_code == 422


@pytest.mark.parametrize(
    "moment",
    [
        "2026-W01-1T00:00:00Z",
        "20260101T000000Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T00:00Z",
        "2026-01-01T00:00:00+00:00:30",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T23:59:60Z",
        "٢٠٢٦-01-01T00:00:00Z",
    ],
)
def test_moment_that_is_not_as_in_rfc_3339_is_refused(shared_client: FlaskClient, moment: str) -> None:
    assert shared_client.get(f"/v1/jobs?created_after={quote(moment)}").status_code == 422
    assert shared_client.post("/v1/endpoints/callbacks/recover", json={"since": moment}).status_code == 422


@pytest.mark.parametrize(
    "moment", ["2026-01-01t00:00:00z", "2026-01-01T00:00:00.1234567890Z", "2026-01-01T00:00:00-23:59"]
)
def test_moment_as_in_rfc_3339_is_understood(shared_client: FlaskClient, moment: str) -> None:
    assert shared_client.get(f"/v1/jobs?created_after={quote(moment)}").status_code == 200


def test_if_match_changes_nothing(client: FlaskClient) -> None:
    """A 412 is not among our answers, least of all one that has the job in it."""
    job = client.post("/v1/jobs", json=BODY).get_json()
    for path in (f"/v1/jobs/{job['id']}", "/static/sample.jpg"):
        assert client.get(path, headers={"If-Match": '"another"'}, buffered=True).status_code == 200


def test_batch_takes_no_wait(client: FlaskClient) -> None:
    """`Prefer` is for jobs and events; elsewhere it is not understood, which RFC 7240 allows."""
    answer = client.post("/v1/batches", json={"jobs": [BODY]}, headers={"Prefer": "wait=20"})
    assert (answer.status_code, answer.headers.get("Preference-Applied")) == (202, None)
