"""Whatever somebody sends as a body, a query or a header, to whichever route: told as a problem, never a 500."""

import gzip
import re
import time
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from thumbs.web.parsing import MAX_BODY_BYTES

START = b'{"source_url": "https://img.example/cat.jpg"'
JOB = START + b"}"
BAD: dict[str, tuple[int, bytes]] = {
    "too large": (413, b'{"a": "' + b"x" * MAX_BODY_BYTES + b'"}'),
    "nothing": (400, b""),
    "broken": (400, START),
    "two documents": (400, JOB + JOB),
    "not UTF-8": (400, b'{"source_url": "\xff\xfe"}'),
    "a surrogate in UTF-8": (400, b'{"source_url": "\xed\xa0\x80"}'),
    "UTF-16": (400, JOB.decode("ascii").encode("utf-16")),
    "UTF-8 with a byte order mark": (400, b"\xef\xbb\xbf" + JOB),
    "NUL": (400, b"\0"),
    "NaN": (400, START + b', "width": NaN}'),
    "a float without bounds": (400, START + b', "width": 1e999}'),
    "an integer of 5,000 digits": (400, START + b', "width": ' + b"9" * 5_000 + b"}"),
    "33 levels": (400, START + b', "metadata": ' + b'{"a":' * 33 + b"1" + b"}" * 34),
    "30,000 levels": (400, b"[" * 30_000),
    "a member twice": (400, START + b', "width": 1, "width": 2}'),
    "a member twice, deep inside": (400, START + b', "metadata": {"a": [{"b": 1, "b": 2}]}}'),
    "a member twice, spelled differently": (400, START + b', "width": 1, "\\u0077idth": 2}'),
    "an integer of 4,000 digits": (422, START + b', "width": ' + b"9" * 4_000 + b"}"),
    "a list": (422, b"[]"),
    "null": (422, b"null"),
    "a string": (422, b'"x"'),
    "5,500 members": (422, b"{" + b",".join(b'"%d":1' % number for number in range(5_500)) + b"}"),
    "strings that are no text": (422, b'{"source_url": "\\u0000", "url": "\\ud800", "jobs": "\\udfff", "x": 1}'),
}


def list_changes(client: FlaskClient) -> Iterator[tuple[str, str]]:
    """List method and path of every route that reads a body, with ids that nobody has."""
    for rule in client.application.url_map.iter_rules():
        for method in {"POST", "PATCH", "PUT"} & (rule.methods or set()):
            yield method, re.sub(r"<[^>]*>", "x", rule.rule)


def check_problem(answer: TestResponse, *statuses: int) -> None:
    assert answer.status_code in statuses
    assert answer.content_type == "application/problem+json"
    assert re.fullmatch("[a-z_]+", answer.get_json()["code"])


@pytest.mark.parametrize("name", BAD)
def test_bad_body_is_told_by_every_route(shared_client: FlaskClient, name: str) -> None:
    """A body that may be left out may be empty, too; then it is the id that is not found."""
    status, body = BAD[name]
    calls = list(list_changes(shared_client))
    assert len(calls) >= 8
    for method, path in calls:
        answer = shared_client.open(path, method=method, data=body, content_type="application/json")
        check_problem(answer, *([status] if body else [status, 404]))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "gzip, identity", "x"])
def test_encoded_body_is_refused(shared_client: FlaskClient, coding: str) -> None:
    """RFC 9110 section 15.5.16. Nothing is unpacked: 64 KiB can be 64 MiB."""
    headers = {"Content-Encoding": coding}
    body = gzip.compress(JOB)
    check_problem(shared_client.post("/v1/jobs", data=body, headers=headers, content_type="application/json"), 415)


def test_body_of_64_kib_is_read(client: FlaskClient) -> None:
    body = JOB + b" " * (MAX_BODY_BYTES - len(JOB))
    assert client.post("/v1/jobs", data=body, content_type="application/json").status_code == 202
    check_problem(client.post("/v1/jobs", data=body + b" ", content_type="application/json"), 413)


def test_list_that_is_too_long_is_refused_before_its_items_are_looked_at(shared_client: FlaskClient) -> None:
    """20,000 empty jobs: told by one line, not by 20,000."""
    body = b'{"jobs": [' + b"{}," * 20_000 + b"{}]}"
    began = time.process_time()
    answer = shared_client.post("/v1/batches", data=body, content_type="application/json")
    assert time.process_time() - began < 1
    check_problem(answer, 422)
    assert list(answer.get_json()["errors"]["json"]) == ["jobs"]
    assert len(answer.data) < 1_000


def test_list_within_a_list_is_measured_too(shared_client: FlaskClient) -> None:
    variants = b",".join([b"{}"] * 20_000)
    body = b'{"jobs": [{"source_url": "https://img.example/cat.jpg", "variants": [' + variants + b"]}]}"
    answer = shared_client.post("/v1/batches", data=body, content_type="application/json")
    check_problem(answer, 422)
    assert len(answer.data) < 1_000


@pytest.mark.parametrize(
    "query",
    ["limit=" + "9" * 5_000, "x=1" * 2_000, "&".join(f"a[{n}]=1" for n in range(2_000)), "cursor=%00", "limit=%ff&%ff"],
    ids=["digits", "equals", "members", "NUL", "not UTF-8"],
)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/endpoints", "/v1/deliveries", "/v1/events", "/generateThumbnail"])
def test_bad_query_is_told(shared_client: FlaskClient, path: str, query: str) -> None:
    check_problem(shared_client.get(f"{path}?{query}"), 422)


@pytest.mark.parametrize(
    "name", ["Idempotency-Key", "Prefer", "X-Request-ID", "If-None-Match", "Authorization", "Accept"]
)
@pytest.mark.parametrize("value", ["x" * 8_000, "\xff\xfe", "wait=" + "9" * 5_000, ",;=" * 1_000, "\t"])
def test_odd_header_is_no_error_of_ours(shared_client: FlaskClient, name: str, value: str) -> None:
    headers = {name: value}
    assert shared_client.get("/v1/jobs", headers=headers).status_code < 500
    assert shared_client.post("/v1/jobs", headers=headers, json={}).status_code < 500


@pytest.mark.parametrize("path", ["/v1/jobs/" + "x" * 8_000, "/t/%ff%fe", "/v1/jobs/..%2f..%2fetc"])
def test_odd_path_is_not_found(shared_client: FlaskClient, path: str) -> None:
    check_problem(shared_client.get(path), 404)
