"""HTTP itself: waiting, caching, the classic routes."""

from io import BytesIO

from PIL import Image

from tests.e2e.conftest import serve_late
from tests.support.images import build_photo, encode
from tests.support.servers import SourceServer
from tests.support.stack import Stack, wait_until


def serve_photo(source: SourceServer) -> str:
    return source.serve("/image.png", encode(build_photo(), "PNG"), content_type="image/png")


def test_create_with_wait_answers_the_final_job(stack: Stack, source: SourceServer) -> None:
    answer = stack.request("POST", "/v1/jobs", json={"source_url": serve_photo(source)}, headers={"Prefer": "wait=10"})
    assert answer.status == 200
    assert answer.headers["Preference-Applied"] == "wait=10"
    assert answer.json()["status"] == "succeeded"
    assert "Retry-After" not in answer.headers


def test_create_without_wait_answers_where_to_poll(stack: Stack, source: SourceServer) -> None:
    answer = stack.request("POST", "/v1/jobs", json={"source_url": source.url("/slow?seconds=1")})
    assert (answer.status, answer.headers["Retry-After"]) == (202, "1")
    job = answer.json()
    assert answer.headers["Location"] == f"{stack.base}/v1/jobs/{job['id']}"
    assert job["status"] in ("queued", "running")
    polled = stack.request("GET", answer.headers["Location"])
    assert polled.headers["Retry-After"] == "1"


def test_get_with_wait_answers_at_the_end(stack: Stack, source: SourceServer) -> None:
    url = serve_late(source, "/late.png", encode(build_photo(), "PNG"), 0.5)
    job = stack.submit(source_url=url)
    answer = stack.request("GET", f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=10"})
    assert answer.json()["status"] == "succeeded"


def test_unchanged_job_is_not_sent_again(stack: Stack, source: SourceServer) -> None:
    job = stack.wait_for_job(stack.submit(source_url=serve_photo(source))["id"])
    path = f"/v1/jobs/{job['id']}"
    etag = stack.request("GET", path).headers["ETag"]
    assert stack.request("GET", path, headers={"If-None-Match": etag}).status == 304


def test_thumbnail_is_served_with_caching_headers(stack: Stack, source: SourceServer) -> None:
    job = stack.wait_for_job(stack.submit(source_url=serve_photo(source))["id"])
    url = job["thumbnail"]["url"]
    answer = stack.request("GET", url)
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert answer.headers["ETag"] == f'"{job["thumbnail"]["sha256"]}"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    directives = answer.headers["Cache-Control"].split(", ")
    assert {"public", "immutable"} <= set(directives)
    assert any(each.startswith("max-age=") and int(each[8:]) > 29 * 86_400 for each in directives)
    head = stack.request("HEAD", url)
    assert (head.status, head.body, head.headers["Content-Length"]) == (200, b"", str(len(answer.body)))
    assert stack.request("GET", url, headers={"If-None-Match": answer.headers["ETag"]}).status == 304
    assert stack.request("GET", "/t/00000000000000000000000000000000.jpg").status == 404


def test_classic_route_answers_the_thumbnails_bytes(stack: Stack, source: SourceServer) -> None:
    answer = stack.request("GET", "/generateThumbnail", params={"url": serve_photo(source)})
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/jpeg")
    assert "X-Thumbs-Error" not in answer.headers
    with Image.open(BytesIO(answer.body)) as image:
        assert image.size == (100, 100)


def test_classic_route_answers_a_black_image_and_the_code_for_a_bad_source(stack: Stack, source: SourceServer) -> None:
    for url, code in ((source.url("/status/404"), "source_http_error"), ("http://10.0.0.1/", "url_not_allowed")):
        answer = stack.request("GET", "/generateThumbnail", params={"url": url})
        assert (answer.status, answer.headers["X-Thumbs-Error"]) == (200, code)
        with Image.open(BytesIO(answer.body)) as image:
            assert (image.size, image.getextrema()) == ((100, 100), ((0, 0), (0, 0), (0, 0)))


def test_classic_async_route_names_its_output_at_once(stack: Stack, source: SourceServer) -> None:
    url = serve_late(source, "/late.png", encode(build_photo(), "PNG"), 0.5)
    answer = stack.request("GET", "/generateThumbnailAsync", params={"url": url})
    assert answer.status == 200
    assert stack.request("GET", answer.headers["Location"]).json()["id"] == answer.json()["job"]["id"]
    path = f"/media/{answer.json()['outputFileName']}"
    early = stack.request("GET", path)
    assert (early.status, early.headers["Retry-After"]) == (404, "1")
    assert wait_until(lambda: stack.request("GET", path).status == 200, 10)


def test_classic_media_of_a_failed_job_says_why(stack: Stack, source: SourceServer) -> None:
    answer = stack.request("GET", "/generateThumbnailAsync", params={"url": source.url("/status/404")}).json()
    stack.wait_for_job(answer["job"]["id"])
    media = stack.request("GET", f"/media/{answer['outputFileName']}")
    assert (media.status, media.headers["X-Thumbs-Error"]) == (404, "source_http_error")
    assert "Retry-After" not in media.headers


def test_text_that_postgresql_cannot_hold_is_no_error_of_ours(stack: Stack, source: SourceServer) -> None:
    """NUL is in no name, and escaped in metadata; a lone surrogate is kept as it was sent."""
    for path in ("/v1/jobs/%00", "/v1/batches/a%00b", "/t/%00.jpg", "/media/%00.jpg"):
        assert stack.request("GET", path).status == 404
    job = stack.submit(source_url=serve_photo(source), metadata={"nul": "\0", "half": "\ud800"})
    assert stack.wait_for_job(job["id"])["metadata"] == {"nul": "\0", "half": "\ud800"}
