"""POST /v1/jobs: what is accepted, what is refused and by which field, and when the answer comes."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import build_test_services, get_job
from tests.web.conftest import ActingClock
from thumbs.ledger import Ledger
from thumbs.process import process
from thumbs.services import Services
from thumbs.web import create_app

URL = "https://img.example/cat.jpg"
BODY = {"source_url": URL}

BAD_SIDES: list[Any] = [0, -1, 1025, 99.5, 1e300, "100", True, None, [], 10**400]
BAD_VALUES: dict[str, list[Any]] = {
    "source_url": [None, 7, True, "", [URL], {"href": URL}, "cat.jpg", "x" * 2_049],
    "callback_url": [7, "", [], "ftp://app.example/", "https://app.example/" + "x" * 2_048],
    "width": BAD_SIDES,
    "height": BAD_SIDES,
    "quality": [0, 101, 80.5, "80", True, None],
    "fit": ["COVER", "crop", "", None, 1, ["cover"]],
    "format": ["JPEG", "gif", "", None, 1],
    "background": ["#fff", "ffffff", "#ggg000", "#ffffff\n", "", None, 0xFFFFFF],
    "metadata": [None, [], "x", 1, {"x": "y" * 4_096}, {"x": "é" * 700}],
    "inline": [None, 0, 1, "true", "", []],
    "variants": [
        None,
        {},
        "x",
        [None],
        [{}],
        [{"name": ""}],
        [{"name": "x" * 33}],
        [{"name": "a b"}],
        [{"name": "a/b"}],
        [{"name": "a.b"}],
        [{"name": "é"}],
        [{"name": "a"}, {"name": "a"}],
        [{"name": "a"}, {"name": "A"}],
        [{"name": "a", "width": 0}],
        [{"name": "a", "variants": []}],
        [{"name": "a", "metadata": {}}],
        [{"name": f"v{number}"} for number in range(9)],
    ],
    "colour": ["#ffffff", None],
}
BAD_FIELDS = [(field, bad) for field, values in BAD_VALUES.items() for bad in values]

BAD_JSON = {
    "nothing": b"",
    "broken": b'{"source_url": ',
    "two documents": b"{} {}",
    "not UTF-8": b'{"source_url": "\xff"}',
    "NaN": b'{"source_url": "https://img.example/", "metadata": {"x": NaN}}',
    "Infinity": b'{"source_url": "https://img.example/", "metadata": {"x": -Infinity}}',
    "a float without bounds": b'{"source_url": "https://img.example/", "metadata": {"x": 1e999}}',
    "a number of 5,000 digits": b'{"source_url": "https://img.example/", "width": ' + b"9" * 5_000 + b"}",
    "33 levels": b'{"metadata": ' * 33 + b"1" + b"}" * 33,
    "30,000 levels": b"[" * 30_000 + b"]" * 30_000,
}


def test_accepted_job_is_told_as_it_is_on_disk(client: FlaskClient, services: Services) -> None:
    answer = client.post("/v1/jobs", json=BODY)
    assert answer.status_code == 202
    job = answer.get_json()
    assert get_job(services, job["id"]).source_url == URL
    assert (job["status"], job["source_url"], job["callback_url"]) == ("queued", URL, None)
    assert (job["callback"]["status"], job["metadata"], job["run_count"]) == ("none", {}, 0)


def test_accepted_job_tells_where_it_is_and_when_to_come_back(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", json=BODY)
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{answer.get_json()['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert client.get(answer.headers["Location"]).get_json() == answer.get_json()


def test_accepted_job_is_on_the_queue(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    job = client.post("/v1/jobs", json=BODY).get_json()
    assert dispatcher.processed == [(job["id"], 0)]


def test_defaults_are_those_of_the_documentation(client: FlaskClient) -> None:
    assert client.post("/v1/jobs", json=BODY).get_json()["spec"] == {
        "width": 100,
        "height": 100,
        "fit": "cover",
        "format": "auto",
        "quality": 80,
        "background": "#ffffff",
    }


def test_every_field_is_kept(client: FlaskClient, services: Services) -> None:
    spec = {"width": 1024, "height": 1, "fit": "inside", "format": "webp", "quality": 1, "background": "#aabbcc"}
    metadata = {"order": "4711", "nested": [{"x": [1.5, None, True]}]}
    body = BODY | spec | {"metadata": metadata, "callback_url": "https://app.example/hooks", "background": "#AAbbCC"}
    job = client.post("/v1/jobs", json=body).get_json()
    assert (job["spec"], job["metadata"]) == (spec, metadata)
    assert get_job(services, job["id"]).callback_url == "https://app.example/hooks"


def test_variants_are_kept_each_with_a_spec_of_its_own(client: FlaskClient) -> None:
    variants = [{"name": "big", "width": 400, "format": "webp"}, {"name": "A-z_9", "fit": "inside"}]
    told = client.post("/v1/jobs", json=BODY | {"width": 7, "variants": variants}).get_json()["variants"]
    assert {name: (each["thumbnail"], each["error"]) for name, each in told.items()} == {
        "big": (None, None),
        "A-z_9": (None, None),
    }
    assert (told["big"]["spec"]["width"], told["big"]["spec"]["format"]) == (400, "webp")
    assert (told["A-z_9"]["spec"]["width"], told["A-z_9"]["spec"]["fit"]) == (100, "inside")


def test_bad_variant_is_refused_by_its_place_and_field(shared_client: FlaskClient) -> None:
    answer = shared_client.post("/v1/jobs", json=BODY | {"variants": [{"name": "a"}, {"name": "b", "width": 0}]})
    assert answer.get_json()["errors"]["json"]["variants"].keys() == {"1"}
    assert answer.get_json()["detail"].startswith("variants.1.width: ")


def test_callback_may_be_null(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", json=BODY | {"callback_url": None})
    assert (answer.status_code, answer.get_json()["callback_url"]) == (202, None)


def test_metadata_may_have_4096_bytes_as_compact_ascii_json(client: FlaskClient) -> None:
    metadata = {"x": "y" * (4_096 - len('{"x":""}'))}
    assert client.post("/v1/jobs", json=BODY | {"metadata": metadata}).status_code == 202
    metadata["x"] += "y"
    assert client.post("/v1/jobs", json=BODY | {"metadata": metadata}).status_code == 422


def test_whole_number_may_be_written_as_a_fraction(client: FlaskClient) -> None:
    """JSON knows one kind of number, and JSON Schema counts 80.0 among the integers."""
    job = client.post("/v1/jobs", json=BODY | {"quality": 80.0}).get_json()
    assert repr(job["spec"]["quality"]) == "80"


@pytest.mark.parametrize(("field", "bad"), BAD_FIELDS, ids=lambda value: repr(value)[:24])
def test_bad_field_is_refused_by_its_name(shared_client: FlaskClient, field: str, bad: Any) -> None:
    answer = shared_client.post("/v1/jobs", json=BODY | {field: bad})
    assert answer.status_code == 422
    assert list(answer.get_json()["errors"]["json"]) == [field]


def test_refused_job_is_neither_recorded_nor_dispatched(client: FlaskClient, dispatcher: RecordingDispatcher) -> None:
    client.post("/v1/jobs", json=BODY | {"width": 0})
    assert client.get("/v1/jobs").get_json()["items"] == []
    assert dispatcher.processed == []


def test_missing_source_is_refused_by_its_name(shared_client: FlaskClient) -> None:
    answer = shared_client.post("/v1/jobs", json={})
    assert (answer.status_code, list(answer.get_json()["errors"]["json"])) == (422, ["source_url"])


def test_every_bad_field_is_named_at_once(shared_client: FlaskClient) -> None:
    answer = shared_client.post("/v1/jobs", json={"width": 0, "fit": "crop"})
    assert set(answer.get_json()["errors"]["json"]) == {"source_url", "width", "fit"}


@pytest.mark.parametrize("field", ["source_url", "callback_url"])
def test_url_against_policy_has_a_code_of_its_own(client: FlaskClient, field: str) -> None:
    answer = client.post("/v1/jobs", json=BODY | {field: "http://10.0.0.1/x"})
    problem = answer.get_json()
    assert (answer.status_code, problem["code"], list(problem["errors"]["json"])) == (422, "url_not_allowed", [field])


@pytest.mark.parametrize("body", ["null", "[]", '"x"', "7", "true"])
def test_body_that_is_no_object_is_refused(shared_client: FlaskClient, body: str) -> None:
    answer = shared_client.post("/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (422, "validation_failed")


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_body_that_is_not_sane_json_is_400(shared_client: FlaskClient, body: bytes) -> None:
    answer = shared_client.post("/v1/jobs", data=body, content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (400, "bad_request")


def test_body_may_be_nested_32_levels_deep(client: FlaskClient) -> None:
    """The body itself and `metadata` are the first two."""
    deep: Any = 1
    for _ in range(30):
        deep = [deep]
    assert client.post("/v1/jobs", json=BODY | {"metadata": {"x": deep}}).status_code == 202
    assert client.post("/v1/jobs", json=BODY | {"metadata": {"x": [deep]}}).status_code == 400


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/jso", ""])
def test_body_of_another_type_is_415(shared_client: FlaskClient, content_type: str) -> None:
    answer = shared_client.post("/v1/jobs", data=json.dumps(BODY), content_type=content_type)
    assert (answer.status_code, answer.get_json()["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON", "application/x+json"])
def test_json_by_any_of_its_names_is_read(client: FlaskClient, content_type: str) -> None:
    assert client.post("/v1/jobs", data=json.dumps(BODY), content_type=content_type).status_code == 202


def test_body_over_64_kib_is_413(client: FlaskClient) -> None:
    answer = client.post("/v1/jobs", data=b" " * 65_537, content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")


def test_body_of_64_kib_is_read(client: FlaskClient) -> None:
    body = json.dumps(BODY).encode().ljust(65_536)
    assert client.post("/v1/jobs", data=body, content_type="application/json").status_code == 202


def test_urls_are_under_the_base_that_the_caller_used(client: FlaskClient, services: Services) -> None:
    answer = client.post("/v1/jobs", json=BODY, base_url="https://thumbs.example")
    assert answer.headers["Location"].startswith("https://thumbs.example/v1/jobs/")
    assert get_job(services, answer.get_json()["id"]).public_url == "https://thumbs.example"


# ── Prefer: wait=N ──────────────────────────────────────────────────────────────────────────────────────


def test_wait_is_answered_by_the_final_job_when_it_ends_in_time(
    client: FlaskClient, services: Services, dispatcher: RecordingDispatcher, clock: ActingClock
) -> None:
    clock.on_sleep = lambda: process(services, dispatcher.processed[-1][0])
    answer = client.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.get_json()["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert "Retry-After" not in answer.headers
    assert answer.headers["Location"].endswith(answer.get_json()["id"])


def test_wait_that_is_too_short_is_answered_as_if_it_was_not_asked_for(client: FlaskClient, clock: ActingClock) -> None:
    began = clock.monotonic()
    answer = client.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=10"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (202, "1")
    assert "Preference-Applied" not in answer.headers
    assert clock.monotonic() - began == pytest.approx(10)


def test_wait_is_25_seconds_at_most(client: FlaskClient, clock: ActingClock) -> None:
    began = clock.monotonic()
    client.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=3600"})
    assert clock.monotonic() - began == pytest.approx(25)


class EagerDispatcher(RecordingDispatcher):
    """A worker that is faster than the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.run: Callable[[str], object] = lambda job_id: None

    def process(self, job_id: str, delay_seconds: float = 0) -> None:
        """Run the job at once."""
        self.run(job_id)


def test_job_that_is_final_before_its_answer_is_202_to_who_did_not_ask_to_wait(
    ledger: Ledger, clock: ActingClock
) -> None:
    dispatcher = EagerDispatcher()
    services = build_test_services(ledger, dispatcher, clock)
    dispatcher.run = lambda job_id: process(services, job_id)
    client = create_app(services).test_client()
    answer = client.post("/v1/jobs", json=BODY)
    assert (answer.status_code, answer.get_json()["status"]) == (202, "succeeded")
    assert client.post("/v1/jobs", json=BODY, headers={"Prefer": "wait=5"}).status_code == 200
