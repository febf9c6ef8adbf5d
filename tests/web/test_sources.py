"""Sources that come along with their jobs: in base64, or as the file of a form."""

import json
from base64 import b64decode, b64encode
from io import BytesIO
from typing import Any

import pytest
from flask.testing import FlaskClient
from urllib3 import encode_multipart_formdata
from werkzeug.test import TestResponse

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import build_test_services, get_job
from thumbs.domain import Fit
from thumbs.ledger import Ledger
from thumbs.services import Services
from thumbs.web import create_app
from thumbs.web.parsing import MAX_BODY_BYTES

IMAGE = bytes(range(256)) * 1_000
"""Four times what a body without a source may have."""
TEXT = b64encode(IMAGE).decode("ascii")
MAX_UPLOAD_BYTES = 300_000


@pytest.fixture
def client(ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock) -> FlaskClient:
    """A caller of an app that takes small sources only."""
    settings = {"THUMBS_MAX_UPLOAD_BYTES": str(MAX_UPLOAD_BYTES)}
    return create_app(build_test_services(ledger, dispatcher, clock, **settings)).test_client()


def send_form(client: FlaskClient, *files: bytes, **fields: str) -> TestResponse:
    """Send a form with files, all called `file`; werkzeug's client would leave temporary files open."""
    parts: list[tuple[str, Any]] = [*fields.items(), *(("file", ("cat.jpg", body)) for body in files)]
    body, content_type = encode_multipart_formdata(parts)
    return client.post("/v1/jobs", data=body, content_type=content_type)


def read_upload(client: FlaskClient, answer: TestResponse) -> bytes | None:
    assert answer.status_code == 202, answer.data
    services: Services = client.application.extensions["thumbs.services"]
    return services.ledger.uploads.find(answer.get_json()["id"])


# ── in base64 ───────────────────────────────────────────────────────────────────────────────────────────


def test_source_in_base64_is_kept_with_its_job(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", json={"source_data": TEXT, "width": 50})
    assert read_upload(client, answer) == IMAGE
    assert answer.get_json()["source_url"] is None


def test_source_may_be_written_as_php_writes_it(client: FlaskClient) -> None:
    """`/` as two characters: 4,000 more than are counted."""
    padding = "x" * (MAX_BODY_BYTES - 1_000)
    body = json.dumps({"source_data": TEXT, "metadata": {}, "callback_url": None}).replace("/", "\\/")
    assert read_upload(client, client.post("/v1/jobs", data=body, content_type="application/json")) == IMAGE
    assert client.post("/v1/jobs", json={"source_data": TEXT, "x": padding}).status_code == 422


def test_source_may_be_written_as_dot_net_writes_it(client: FlaskClient) -> None:
    """`+` as six characters: 68,000 in this source, more than the rest of a body may have."""
    image = b64decode("+" * 18_000)
    body = json.dumps({"source_data": b64encode(image).decode()}).replace("+", "\\u002B")
    assert read_upload(client, client.post("/v1/jobs", data=body, content_type="application/json")) == image


def test_list_of_a_form_is_measured_before_its_items_are_looked_at(client: FlaskClient) -> None:
    """21,000 empty variants took 1.4 s."""
    answer = send_form(client, IMAGE, variants=json.dumps([{}] * 15_000))
    assert (answer.status_code, len(answer.data) < 1_000) == (422, True)


@pytest.mark.parametrize(
    "text", ["", "a", "aGk", "aGk=\n", " aGk=", "a-_=", "é", "data:image/png;base64,aGk=", 7, None]
)
def test_source_that_is_no_base64_is_refused_by_its_name(client: FlaskClient, text: Any) -> None:
    answer = client.post("/v1/jobs", json={"source_data": text})
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (422, ["source_data"])


def test_job_has_one_source(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", json={"source_data": TEXT, "source_url": "https://img.example/cat.jpg"})
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (422, ["source_data"])


def test_rest_of_the_body_has_its_own_limit(client: FlaskClient) -> None:
    body = {"source_data": TEXT, "metadata": {}, "x": "y" * MAX_BODY_BYTES}
    assert client.post("/v1/jobs", json=body).status_code == 413


def test_body_of_many_objects_is_refused_before_they_are_made(client: FlaskClient) -> None:
    """400 kB of empty lists would be 150,000 objects."""
    body = b'{"source_data": "' + b'aGk=", "x": [' + b"[]," * 100_000 + b"[]]}"
    assert client.post("/v1/jobs", data=body, content_type="application/json").status_code == 413


@pytest.mark.parametrize("size_bytes", [MAX_UPLOAD_BYTES + 1, 2 * MAX_UPLOAD_BYTES])
def test_source_in_base64_that_is_too_large_is_413(client: FlaskClient, size_bytes: int) -> None:
    """Just too large, and larger than any body may be."""
    answer = client.post("/v1/jobs", json={"source_data": b64encode(bytes(size_bytes)).decode()})
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")


def test_source_of_the_largest_size_is_taken(client: FlaskClient) -> None:
    body = {"source_data": b64encode(bytes(MAX_UPLOAD_BYTES)).decode(), "metadata": {"x": "y" * 4_000}}
    assert len(read_upload(client, client.post("/v1/jobs", json=body)) or b"") == MAX_UPLOAD_BYTES


def test_other_routes_take_no_more_than_before(client: FlaskClient) -> None:
    assert client.post("/v1/batches", json={"jobs": [{"source_data": TEXT}]}).status_code == 413
    answer = client.post("/v1/batches", json={"jobs": [{"source_data": "aGk="}]})
    assert answer.status_code == 202


# ── as a form ───────────────────────────────────────────────────────────────────────────────────────────


def test_file_of_a_form_is_kept_with_its_job(client: FlaskClient) -> None:
    assert read_upload(client, send_form(client, IMAGE)) == IMAGE


def test_fields_of_a_form_are_those_of_json(client: FlaskClient) -> None:
    variants = [{"name": "big", "width": 400}]
    fields = {"width": "50", "fit": "fill", "metadata": '{"n": 1}', "variants": json.dumps(variants), "inline": "true"}
    answer = send_form(client, IMAGE, callback_url="https://app.example/hooks", **fields)
    job = get_job(client.application.extensions["thumbs.services"], answer.get_json()["id"])
    assert (job.spec.width, job.spec.fit, job.metadata, job.is_inline) == (50, Fit.FILL, {"n": 1}, True)
    assert (job.callback_url, job.variants["big"].spec.width) == ("https://app.example/hooks", 400)


def test_form_may_name_a_url_instead(client: FlaskClient) -> None:
    answer = send_form(client, source_url="https://img.example/cat.jpg", height="7")
    assert (answer.status_code, answer.get_json()["spec"]["height"]) == (202, 7)


def test_text_of_a_form_stays_text(client: FlaskClient) -> None:
    """A URL that is a number is no URL, but no number either."""
    answer = send_form(client, source_url="7")
    assert answer.get_json()["code"] == "url_not_allowed"


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"width": "wide"}, "width"),
        ({"width": "1.5"}, "width"),
        ({"inline": "yes"}, "inline"),
        ({"metadata": "x=1"}, "metadata"),
        ({"metadata": '{"a": 1, "a": 2}'}, "metadata"),
        ({"variants": "[{}]"}, "variants"),
        ({"colour": "#ffffff"}, "colour"),
        ({"source_data": "aGk="}, "source_data"),
    ],
)
def test_bad_field_of_a_form_is_refused_by_its_name(client: FlaskClient, fields: dict[str, str], name: str) -> None:
    answer = send_form(client, IMAGE, **fields)
    [errors] = answer.get_json()["errors"].values()
    assert (answer.status_code, list(errors)) == (422, [name])


def test_form_has_one_file_and_it_is_not_empty(client: FlaskClient) -> None:
    for files in ((), (b"",), (b"a", b"b")):
        assert send_form(client, *files, width="7").status_code == 422


def test_file_by_another_name_is_refused(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", data={"picture": (BytesIO(IMAGE), "cat.jpg")}, content_type="multipart/form-data")
    assert "picture" in answer.get_json()["errors"]["json"]


@pytest.mark.parametrize("size_bytes", [MAX_UPLOAD_BYTES + 1, 2 * MAX_UPLOAD_BYTES])
def test_file_that_is_too_large_is_413(client: FlaskClient, size_bytes: int) -> None:
    answer = send_form(client, bytes(size_bytes))
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")


def test_fields_of_a_form_that_are_too_long_are_413(client: FlaskClient) -> None:
    assert send_form(client, IMAGE, metadata=" " * MAX_BODY_BYTES + "{}").status_code == 413


def test_form_of_too_many_parts_is_413(client: FlaskClient) -> None:
    assert send_form(client, IMAGE, **{f"a{number}": "" for number in range(40)}).status_code == 413


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"--x\r\n"),
        ("multipart/form-data; boundary=x", b""),
        (
            "multipart/form-data; boundary=x",
            b"--x\r\nContent-Disposition: form-data; name=file; filename=a\r\n\r\nhalf",
        ),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\n\r\n--x--"),
        ("multipart/form-data; boundary=" + "x" * 5_000, b"--x"),
        ("multipart/form-data; boundary=\xff", b"--x"),
        ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nx\r\n--x--\r\n"),
    ],
)
def test_broken_form_is_told(client: FlaskClient, content_type: str, body: bytes) -> None:
    answer = client.post("/v1/jobs", data=body, headers={"Content-Type": content_type})
    assert answer.status_code in (400, 422)
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "image/jpeg", ""])
def test_other_types_are_415(client: FlaskClient, content_type: str) -> None:
    assert client.post("/v1/jobs", data=IMAGE[:100], content_type=content_type).status_code == 415


@pytest.mark.parametrize("path", ["/v1/batches", "/v1/endpoints"])
def test_routes_that_take_no_file_take_no_form(client: FlaskClient, path: str) -> None:
    answer = client.post(path, data={"file": (BytesIO(b"x"), "cat.jpg")}, content_type="multipart/form-data")
    assert answer.status_code == 415
