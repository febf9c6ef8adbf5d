"""GET /t/…: the finished image, for everybody who was told its name, and never changing."""

import pytest
from flask.testing import FlaskClient

from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import PICTURE, build_test_services, get_job, record_delivery
from thumbs.domain import Blob
from thumbs.ledger import Ledger
from thumbs.retries import add_seconds
from thumbs.services import Services
from thumbs.web import create_app

LIFE_SECONDS = 3600


@pytest.fixture
def blob(services: Services) -> Blob:
    blob = Blob("8f0c.png", "image/png", "ab" * 32, b"bytes", add_seconds(services.clock.now(), LIFE_SECONDS))
    services.blobs.put(blob)
    return blob


def test_thumbnail_is_served_as_it_was_stored(client: FlaskClient, blob: Blob) -> None:
    answer = client.get("/t/8f0c.png")
    assert (answer.status_code, answer.content_type, answer.data) == (200, "image/png", b"bytes")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_thumbnail_may_be_cached_until_it_expires(client: FlaskClient, blob: Blob) -> None:
    assert client.get("/t/8f0c.png").headers["Cache-Control"] == f"public, immutable, max-age={LIFE_SECONDS}"


def test_etag_is_strong_and_the_hash_of_the_bytes(client: FlaskClient, blob: Blob) -> None:
    etag = client.get("/t/8f0c.png").headers["ETag"]
    assert etag == f'"{blob.sha256}"'
    unchanged = client.get("/t/8f0c.png", headers={"If-None-Match": etag})
    assert (unchanged.status_code, unchanged.data) == (304, b"")


def test_head_tells_the_length_and_sends_nothing(client: FlaskClient, blob: Blob) -> None:
    answer = client.head("/t/8f0c.png")
    assert (answer.status_code, answer.headers["Content-Length"], answer.data) == (200, "5", b"")


def test_expired_thumbnail_is_404(client: FlaskClient, blob: Blob, clock: FrozenClock) -> None:
    clock.move(LIFE_SECONDS)
    answer = client.get("/t/8f0c.png")
    assert (answer.status_code, answer.get_json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("name", ["nothing.jpg", "8f0c", "8f0c.jpg", "%00", "..%2f..%2fetc%2fpasswd"])
def test_any_other_name_is_404(client: FlaskClient, blob: Blob, name: str) -> None:
    assert client.get(f"/t/{name}").status_code == 404


def test_url_that_the_job_tells_is_the_thumbnails(client: FlaskClient, services: Services) -> None:
    job = get_job(services, str(record_delivery(services, public_url="http://localhost").job_id))
    url = client.get(f"/v1/jobs/{job.id}").get_json()["thumbnail"]["url"]
    assert client.get(url).data == PICTURE.body


def test_thumbnail_needs_no_key(
    ledger: Ledger, dispatcher: RecordingDispatcher, clock: FrozenClock, blob: Blob
) -> None:
    """Its name cannot be guessed, and browsers send no key for an image."""
    services = build_test_services(ledger, dispatcher, clock, THUMBS_AUTH="required")
    assert create_app(services).test_client().get("/t/8f0c.png").status_code == 200
