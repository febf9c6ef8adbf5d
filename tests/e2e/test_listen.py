"""`thumbs listen` beside the whole service: what is forwarded is what production sends, and nothing is lost."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.e2e.conftest import FAST
from tests.support.images import build_photo, encode
from tests.support.listener import Listener
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import ROOT, Stack, find_free_port

SECRET = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def local() -> Iterator[Receiver]:
    """The receiver on the developer's machine."""
    with Receiver() as server:
        yield server


@pytest.fixture
def photo_url(source: SourceServer) -> str:
    return source.serve("/photo.png", encode(build_photo(), "PNG"), content_type="image/png")


def read_job_ids(lines: list[str]) -> list[str]:
    return [json.loads(line)["event"]["data"]["job"]["id"] for line in lines]


def test_job_of_now_is_printed_and_forwarded(stack: Stack, local: Receiver, photo_url: str, tmp_path: Path) -> None:
    """With a secret that is drawn for the session, which any library verifies with."""
    stack.wait_for_job(stack.submit(source_url=photo_url)["id"])
    with Listener(tmp_path, "--server", stack.base, "--forward-to", local.url("/hooks")) as listener:
        listener.wait_for_note("listening")
        job = stack.submit(source_url=photo_url)
        [line] = listener.wait_for_lines(1)
        secret = listener.wait_for_note("secret").split()[1]
    [request] = local.requests
    event = Webhook(secret).verify(request.body, dict(request.headers))
    assert event["data"]["job"]["id"] == job["id"]
    assert line.split()[1:8] == [event["id"], "job.succeeded", "verified", "→", "200", "OK", "in"]


def test_what_is_forwarded_is_what_production_sends(
    stack: Stack, receiver: Receiver, local: Receiver, photo_url: str, tmp_path: Path
) -> None:
    """The same bytes and the same headers, but for the time, the signature, and the id of the delivery."""
    options = ("--forward-to", local.url(), "--secret", stack.read_secret(), "--events", "job.failed,job.succeeded")
    with Listener(tmp_path, "--server", stack.base, *options) as listener:
        listener.wait_for_note("listening")
        stack.submit(source_url=photo_url, callback_url=receiver.url(), metadata={"ü": [1.50, None], "a": "😀"})
        sent, forwarded = receiver.wait_for(1, 20)[0], local.wait_for(1, 20)[0]
    own = {"host", "webhook-timestamp", "webhook-signature", "thumbs-delivery"}
    assert forwarded.body == sent.body
    assert set(forwarded.headers) == set(sent.headers)
    same = set(sent.headers) - own
    assert {name: forwarded.headers[name] for name in same} == {name: sent.headers[name] for name in same}
    Webhook(stack.read_secret()).verify(forwarded.body, dict(forwarded.headers))


def test_receiver_that_fails_stops_nothing(stack: Stack, local: Receiver, photo_url: str, tmp_path: Path) -> None:
    local.answer_with(500, body=b"no such\ntable", count=1)
    local.reset(count=1)
    with Listener(tmp_path, "--server", stack.base, "--forward-to", local.url()) as listener:
        listener.wait_for_note("listening")
        for count in (1, 2, 3):
            stack.submit(source_url=photo_url)
            lines = listener.wait_for_lines(count)
        assert listener.stop()[0] == 0
        assert "3 events, 1 answered with 2xx, 2 not; --after evt_" in listener.notes[-1]
    answers = [line.partition("→ ")[2] for line in lines]
    assert answers[0].startswith("500 ")
    assert answers[0].endswith(" ms: no such table")
    assert answers[1] == "the connection broke off"
    assert answers[2].startswith("200 OK in ")


def test_receiver_that_is_not_there_is_told(stack: Stack, photo_url: str, tmp_path: Path) -> None:
    options = ("--forward-to", f"localhost:{find_free_port()}/hooks", "--json")
    with Listener(tmp_path, "--server", stack.base, *options) as listener:
        listener.wait_for_note("listening")
        stack.submit(source_url=photo_url)
        [line] = listener.wait_for_lines(1)
    told = json.loads(line)["forward"]
    assert (told["status"], told["error"]) == (None, "refused")


def test_restart_of_the_server_loses_nothing_and_doubles_nothing(tmp_path: Path, photo_url: str) -> None:
    stack = Stack(tmp_path / "var", **FAST)
    with Listener(tmp_path, "--server", stack.base, "--json", "--from-start") as listener:
        listener.wait_for_note("waiting")
        with stack:
            ids = [stack.submit(source_url=photo_url)["id"]]
            listener.wait_for_lines(1)
        listener.wait_for_note("lost")
        with stack:
            ids += [stack.submit(source_url=photo_url)["id"]]
            ids += [stack.submit(source_url=photo_url)["id"]]
            lines = listener.wait_for_lines(3)
        assert sorted(read_job_ids(lines)) == sorted(ids)
        assert [note.split()[0] for note in listener.notes][:4] == ["waiting", "listening", "lost", "back"]


def test_event_of_the_time_without_a_listener_is_found_again(stack: Stack, photo_url: str, tmp_path: Path) -> None:
    """What the summary says is where the next one goes on."""
    with Listener(tmp_path, "--server", stack.base, "--json") as listener:
        listener.wait_for_note("listening")
        stack.submit(source_url=photo_url)
        listener.wait_for_lines(1)
        listener.stop()
        after = listener.wait_for_note("stopped").split()[4]
    missed = stack.wait_for_job(stack.submit(source_url=photo_url)["id"])
    with Listener(tmp_path, "--server", stack.base, "--json", "--after", after) as listener:
        assert read_job_ids(listener.wait_for_lines(1)) == [missed["id"]]


def test_event_whose_predecessor_was_deleted_comes_once(stack: Stack, photo_url: str, tmp_path: Path) -> None:
    """The server does not know the event any more behind which it is asked to go on."""
    with Listener(tmp_path, "--server", stack.base, "--json") as listener:
        listener.wait_for_note("listening")
        ids = [stack.submit(source_url=photo_url)["id"] for _ in range(2)]
        last = read_job_ids(listener.wait_for_lines(2))[-1]
        assert stack.request("DELETE", f"/v1/jobs/{last}").status == 204
        ids += [stack.submit(source_url=photo_url)["id"]]
        assert sorted(read_job_ids(listener.wait_for_lines(3))) == sorted(ids)


def test_ctrl_c_ends_a_poll_at_once(stack: Stack, tmp_path: Path) -> None:
    with Listener(tmp_path, "--server", stack.base) as listener:
        listener.wait_for_note("listening")
        status, seconds = listener.stop()
        assert (status, listener.lines) == (0, [])
    assert seconds < 2


def run_thumbs(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "thumbs", *arguments]
    return subprocess.run(command, cwd=ROOT, env=stack.environ, capture_output=True, text=True, timeout=60, check=False)


def test_server_that_wants_a_key_is_listened_to_with_one(tmp_path: Path, source: SourceServer, photo_url: str) -> None:
    with Stack(tmp_path / "var", **FAST, THUMBS_AUTH="required") as stack:
        refused = run_thumbs(stack, "listen")
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "wants an API key (401): `thumbs keys create NAME`" in refused.stderr
        run_thumbs(stack, "accounts", "create", "acme")
        key = run_thumbs(stack, "keys", "create", "acme").stdout.strip()
        with Listener(tmp_path, THUMBS_URL=stack.base, THUMBS_API_KEY=key) as listener:
            listener.wait_for_note("listening")
            bearer = {"Authorization": f"Bearer {key}"}
            stack.request("POST", "/v1/jobs", json={"source_url": photo_url}, headers=bearer)
            assert "job.succeeded" in listener.wait_for_lines(1)[0]
