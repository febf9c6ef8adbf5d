"""What strangers send comes back as data: escaped in JSON and on pages, and never as a header of ours."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.services import ScriptedOutbound, accept, build_answer, get_job
from thumbs.deliver import deliver
from thumbs.process import process
from thumbs.services import Services

HOSTILE = "</script><script>alert(1)</script>\r\nSet-Cookie: a=b\0\x1b[2J\u202e\u2028"


def walk_strings(value: Any) -> Iterator[str]:
    """Walk every string of a JSON value."""
    if isinstance(value, str):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk_strings(child)


def check_data(client: FlaskClient, path: str) -> Any:
    """Check that an answer is JSON of printable ASCII, with no header of the stranger's; returns it."""
    answer = client.get(path)
    text = answer.get_data().decode("ascii")
    assert (answer.status_code, answer.mimetype, answer.headers["X-Content-Type-Options"]) == (
        200,
        "application/json",
        "nosniff",
    )
    assert text.rstrip("\n").isprintable()
    assert "Set-Cookie" not in answer.headers
    return json.loads(text)


def test_metadata_comes_back_as_it_was_sent(client: FlaskClient, services: Services) -> None:
    metadata = {HOSTILE: [HOSTILE, {"a": HOSTILE}]}
    job = accept(services, metadata=metadata)
    process(services, job.id)
    assert check_data(client, f"/v1/jobs/{job.id}")["metadata"] == metadata
    assert check_data(client, "/v1/events")["items"][0]["data"]["job"]["metadata"] == metadata


def test_what_a_receiver_answers_is_data(client: FlaskClient, services: Services, outbound: ScriptedOutbound) -> None:
    outbound.on_post = lambda: build_answer(500, HOSTILE.encode(), x_evil="<script>", content_type="text/html")
    job = accept(services)
    process(services, job.id)
    [delivery] = client.get(f"/v1/jobs/{job.id}/deliveries").get_json()["items"]
    deliver(services, delivery["id"])
    [attempt] = check_data(client, f"/v1/deliveries/{delivery['id']}")["attempts"]
    assert "</script><script>" in attempt["response_body"]
    assert get_job(services, job.id)


def test_description_comes_back_as_it_was_sent(client: FlaskClient) -> None:
    description = HOSTILE.replace("\0", "")
    endpoint = client.post("/v1/endpoints", json={"url": "https://app.example/", "description": description})
    assert check_data(client, f"/v1/endpoints/{endpoint.get_json()['id']}")["description"] == description


@pytest.mark.parametrize(
    ("method", "path", "options"),
    [
        ("GET", "/v1/jobs/<script>alert(1)<%2fscript>%0d%0aSet-Cookie:%20a=b", {}),
        ("GET", "/v1/jobs?status=<script>&cursor=%0d%0aSet-Cookie:%20a=b", {}),
        ("GET", "/v1/jobs?<script>=1", {}),
        ("POST", "/v1/jobs", {"json": {"source_url": HOSTILE}}),
        ("POST", "/v1/jobs", {"json": {HOSTILE: 1}}),
        ("GET", "/generateThumbnailAsync?url=<script>%0d%0aSet-Cookie:%20a=b", {}),
        ("GET", "/t/<script>%0d%0aSet-Cookie:%20a=b", {}),
    ],
)
def test_problem_is_data(shared_client: FlaskClient, method: str, path: str, options: dict[str, Any]) -> None:
    answer = shared_client.open(path, method=method, headers={"Accept": "text/html"}, **options)
    assert 400 <= answer.status_code < 500
    assert answer.content_type == "application/problem+json"
    assert answer.get_data().decode("ascii").isprintable()
    assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/docs", "/?a=<script>alert(1)</script>"])
def test_page_has_nothing_of_what_was_sent(shared_client: FlaskClient, path: str) -> None:
    headers = {"Accept": "text/html", "User-Agent": HOSTILE[:20], "Referer": "https://<script>alert(1)</script>"}
    assert "alert(1)" not in shared_client.get(path, headers=headers).get_data(as_text=True)
