"""The classic routes: the thumbnail itself, or a black image with the error's code in a header."""

import pytest
from flask.testing import FlaskClient

from tests.support.dispatcher import RecordingDispatcher
from tests.support.images import open_result
from tests.support.services import PICTURE, ScriptedOutbound, fail_with, get_job
from tests.web.conftest import ActingClock
from thumbs.domain import OutputFormat, Picture
from thumbs.errors import ImageCorrupt
from thumbs.process import process
from thumbs.services import Services

QUERY = "?url=https://img.example/cat.jpg"


@pytest.fixture
def worker(services: Services, dispatcher: RecordingDispatcher, clock: ActingClock) -> None:
    """A worker that runs the newest job as soon as somebody waits for it."""
    clock.on_sleep = lambda: process(services, dispatcher.processed[-1][0])


def test_thumbnail_is_the_answer(client: FlaskClient, worker: None) -> None:
    answer = client.get(f"/generateThumbnail{QUERY}")
    assert (answer.status_code, answer.content_type, answer.data) == (200, "image/jpeg", PICTURE.body)


def test_source_that_is_no_image_is_a_black_one(client: FlaskClient, worker: None, outbound: ScriptedOutbound) -> None:
    outbound.on_fetch = fail_with(ImageCorrupt())
    answer = client.get(f"/generateThumbnail{QUERY}")
    image = open_result(Picture(answer.data, "", 0, 0, "", "", ""))
    assert (answer.status_code, answer.headers["X-Thumbs-Error"]) == (200, "image_corrupt")
    assert (image.format, image.size, image.convert("L").getextrema()) == ("JPEG", (100, 100), (0, 0))
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("url", ["http://10.0.0.1/", "file:///etc/passwd", "cat"])
def test_url_against_policy_is_a_black_image(client: FlaskClient, url: str) -> None:
    answer = client.get(f"/generateThumbnail?url={url}")
    assert (answer.status_code, answer.content_type) == (200, "image/jpeg")
    assert answer.headers["X-Thumbs-Error"] == "url_not_allowed"


def test_thumbnail_that_is_not_ready_is_told_where_it_will_be(client: FlaskClient, clock: ActingClock) -> None:
    began = clock.monotonic()
    answer = client.get(f"/generateThumbnail{QUERY}")
    assert (answer.status_code, answer.get_json()["status"]) == (202, "queued")
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{answer.get_json()['id']}"
    assert clock.monotonic() - began == pytest.approx(25)


def test_output_is_named_before_it_is_made(client: FlaskClient, services: Services) -> None:
    answer = client.get(f"/generateThumbnailAsync{QUERY}")
    job = get_job(services, answer.get_json()["job"]["id"])
    assert (answer.status_code, answer.get_json()["outputFileName"]) == (200, f"{job.blob_name}.jpg")
    assert answer.headers["Location"] == f"http://localhost/v1/jobs/{job.id}"
    assert job.spec.format is OutputFormat.JPEG


def test_output_is_served_when_it_is_ready(client: FlaskClient, services: Services) -> None:
    told = client.get(f"/generateThumbnailAsync{QUERY}").get_json()
    early = client.get(f"/media/{told['outputFileName']}")
    assert (early.status_code, early.headers["Retry-After"]) == (404, "1")
    process(services, told["job"]["id"])
    ready = client.get(f"/media/{told['outputFileName']}")
    assert (ready.status_code, ready.data) == (200, PICTURE.body)


def test_output_that_will_never_be_ready_says_why(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    outbound.on_fetch = fail_with(ImageCorrupt())
    told = client.get(f"/generateThumbnailAsync{QUERY}").get_json()
    process(services, told["job"]["id"])
    answer = client.get(f"/media/{told['outputFileName']}")
    assert (answer.status_code, answer.headers["X-Thumbs-Error"]) == (404, "image_corrupt")
    assert "Retry-After" not in answer.headers


def test_unknown_output_is_404(shared_client: FlaskClient) -> None:
    answer = shared_client.get("/media/nothing.jpg")
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize("path", ["/generateThumbnail", "/generateThumbnailAsync"])
@pytest.mark.parametrize("query", ["", "?url=", "?url=" + "x" * 2_049])
def test_missing_url_is_refused_by_its_name(shared_client: FlaskClient, path: str, query: str) -> None:
    answer = shared_client.get(path + query)
    assert (answer.status_code, list(answer.get_json()["errors"]["query"])) == (422, ["url"])


def test_url_against_policy_is_refused_by_its_name_where_nothing_is_waited_for(shared_client: FlaskClient) -> None:
    answer = shared_client.get("/generateThumbnailAsync?url=http://10.0.0.1/")
    problem = answer.get_json()
    assert (answer.status_code, problem["code"], list(problem["errors"]["query"])) == (422, "url_not_allowed", ["url"])
