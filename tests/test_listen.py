"""`thumbs listen` against a server whose answers are scripted: options, refusals, its place, and a server that fails.

The real server is in tests/e2e/test_listen.py.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from ulid import ULID

from tests.support.authority import TestAuthority
from tests.support.exchanges import Request
from tests.support.listener import Listener
from tests.support.servers import Receiver
from tests.support.stack import find_free_port
from thumbs.cli import main
from thumbs.cli.stream import decide_pause

KEY = "tk_01K5Z8M3V7Q2X9T4B6N8R0WYCD_secret"


@pytest.fixture
def server() -> Iterator[Receiver]:
    """What answers `GET /v1/events`, as it is told."""
    with Receiver() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """What is forwarded to."""
    with Receiver() as server:
        yield server


def build_event(kind: str = "job.succeeded") -> dict[str, Any]:
    return {"id": f"evt_{ULID()}", "type": kind, "timestamp": "2026-11-23T20:05:30.538Z", "data": {"ü": 1}}


def build_page(*events: dict[str, Any]) -> bytes:
    return json.dumps({"items": events, "next_cursor": events[-1]["id"] if events else None}).encode()


def script(server: Receiver, *pages: bytes, date: str = "") -> None:
    """Answer the first request, which only says hello, and then these pages; hold every poll after them."""
    server.hang()
    server.answer_with(200, body=build_page(), headers={"Date": date} if date else {}, count=1)
    for page in pages:
        server.answer_with(200, body=page, count=1)


def run(*arguments: str, **environ: str) -> Result:
    """Run it to its end, which must come by itself."""
    unset: dict[str, str | None] = dict.fromkeys(["THUMBS_URL", "THUMBS_API_KEY", "THUMBS_CA_BUNDLE", "PORT"])
    return CliRunner().invoke(main, ["listen", *arguments], env=unset | environ)


def check_one_line_error(result: Result, status: int, *words: str) -> None:
    [line] = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (status, "")
    assert line.startswith("Error: ")
    assert all(word in line for word in words), line


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--server", "thumbs.example"], ["--server", "https://thumbs.example"]),
        (["--server", "http://user:pass@thumbs.example"], ["--server", "https://thumbs.example"]),
        (["--server", "http://thumbs.example:70000"], ["--server"]),
        (["--forward-to", "ftp://localhost/hooks"], ["--forward-to", "http://localhost:3000/hooks"]),
        (["--forward-to", "http://user:pass@localhost/"], ["--forward-to"]),
        (["--forward-to", "http://localhost/a b"], ["--forward-to"]),
        (["--events", "job.done"], ["--events", "job.succeeded", "ping"]),
        (["--events", ""], ["--events"]),
        (["--secret", "whsec_c2hvcnQ="], ["--secret", "24 to 64 bytes"]),
        (["--api-key", "tk_1\nX-Evil: 1"], ["--api-key", "thumbs keys create"]),
        (["--after", "job_01K5Z8M3V7Q2X9T4B6N8R0WYCD"], ["--after", "evt_"]),
        (["--after", "evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD", "--from-start"], ["--after", "--from-start"]),
    ],
)
def test_what_cannot_be_used_is_told_in_one_line(arguments: list[str], words: list[str]) -> None:
    result = run(*arguments)
    check_one_line_error(result, 2, *words)


def test_authorities_that_cannot_be_read_are_told_in_one_line(tmp_path: Path) -> None:
    check_one_line_error(run(THUMBS_CA_BUNDLE=str(tmp_path / "none.pem")), 1, "THUMBS_CA_BUNDLE")


def test_server_is_the_one_of_this_machine_unless_told(tmp_path: Path) -> None:
    """And one that is not there yet is waited for."""
    port = str(find_free_port())
    with Listener(tmp_path, PORT=port) as listener:
        assert listener.wait_for_note("waiting") == f"waiting     http://127.0.0.1:{port}: refused"


def test_server_and_key_come_from_the_environment_and_the_key_is_not_shown(tmp_path: Path, server: Receiver) -> None:
    script(server, build_page())
    with Listener(tmp_path, THUMBS_URL=server.url(), THUMBS_API_KEY=KEY) as listener:
        listener.wait_for_note("listening")
        assert server.wait_for(1)[0].headers["authorization"] == f"Bearer {KEY}"
        listener.stop()
        assert not any("secret" in line for line in [*listener.lines, *listener.notes])


# ── refusals ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("arguments", "word"), [([], "wants an API key"), (["--api-key", KEY], "does not know")])
def test_401_says_how_to_make_a_key(server: Receiver, arguments: list[str], word: str) -> None:
    server.answer_with(401)
    result = run("--server", server.url(), *arguments)
    check_one_line_error(result, 1, word, "thumbs keys create NAME", "THUMBS_API_KEY")
    assert KEY not in result.output


def test_server_without_events_is_told_as_such(server: Receiver) -> None:
    server.answer_with(404)
    check_one_line_error(run("--server", server.url()), 1, "/v1/events", "older")


def test_what_else_the_server_refuses_is_told_in_its_words(server: Receiver) -> None:
    server.answer_with(422, body=json.dumps({"detail": "No\x1b[2J such\nthing."}).encode())
    check_one_line_error(run("--server", server.url()), 1, "422", "No [2J such thing.")


def test_redirect_is_not_followed(server: Receiver, receiver: Receiver) -> None:
    """The key is for the server that was named."""
    server.answer_with(302, headers={"Location": receiver.url("/v1/events?x=1")})
    result = run("--server", server.url(), "--api-key", KEY)
    check_one_line_error(result, 1, "302", receiver.url("").rstrip("/"))
    assert receiver.requests == []


def test_key_that_is_revoked_meanwhile_ends_it(tmp_path: Path, server: Receiver) -> None:
    script(server, build_page(build_event()))
    server.answer_with(401, count=1)
    with Listener(tmp_path, "--from-start", "--server", server.url()) as listener:
        assert listener.wait() == 1
        assert len(listener.lines) == 1
        assert listener.notes[-1].startswith("Error: ")


# ── its place ───────────────────────────────────────────────────────────────────────────────────────────


def read_query(request: Request) -> tuple[str, str, str]:
    return request.query("after"), request.query("limit"), request.headers.get("prefer", "")


def test_poll_goes_on_behind_the_last_event(tmp_path: Path, server: Receiver) -> None:
    first, second = build_event(), build_event("job.failed")
    script(server, build_page(first), build_page(second))
    with Listener(tmp_path, "--from-start", "--server", server.url("/base")) as listener:
        lines = listener.wait_for_lines(2)
        requests = server.wait_for(4)
    assert [line.split()[1:] for line in lines] == [
        [first["id"], "job.succeeded", "verified"],
        [second["id"], "job.failed", "verified"],
    ]
    assert {request.path for request in requests} == {"/base/v1/events"}
    waited = ("100", "wait=25")
    expected = [("", "1", ""), ("", *waited), (first["id"], *waited), (second["id"], *waited)]
    assert [read_query(request) for request in requests] == expected


def test_after_begins_behind_that_event(tmp_path: Path, server: Receiver) -> None:
    script(server)
    with Listener(tmp_path, "--after", "evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD", "--server", server.url()):
        requests = server.wait_for(2, timeout_seconds=20)
    assert read_query(requests[1]) == ("evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD", "100", "wait=25")


def test_now_is_the_servers_and_what_it_has_is_skipped(tmp_path: Path, server: Receiver) -> None:
    """Our clock may be wrong; the server repeats a few seconds of events for an id that it does not know."""
    old, new = [build_event() for _ in range(101)], build_event()
    pages = build_page(*old[:100]), build_page(old[100]), build_page(old[100], new)
    script(server, *pages, date="Thu, 01 Jan 2026 00:00:00 GMT")
    with Listener(tmp_path, "--server", server.url()) as listener:
        [line] = listener.wait_for_lines(1)
        requests = server.wait_for(5)
    assert new["id"] in line
    begin, *behind = [request.query("after") for request in requests[1:]]
    assert ULID.from_str(begin.removeprefix("evt_")).datetime == datetime(2026, 1, 1, tzinfo=UTC)
    assert behind == [old[99]["id"], old[100]["id"], new["id"]]


def test_event_that_the_server_repeats_is_not_shown_again(tmp_path: Path, server: Receiver) -> None:
    """It does so when the event that we ask to go on behind has been deleted."""
    first, second, third = (build_event() for _ in range(3))
    script(server, build_page(first, second), build_page(first, third))
    with Listener(tmp_path, "--from-start", "--server", server.url()) as listener:
        lines = listener.wait_for_lines(3)
        server.wait_for(4)
    assert [line.split()[1] for line in lines] == [first["id"], second["id"], third["id"]]


def test_events_that_are_not_wanted_are_passed_by(tmp_path: Path, server: Receiver) -> None:
    failed, batch, other = build_event("job.failed"), build_event("batch.finished"), build_event()
    script(server, build_page(failed, batch, other))
    options = ("--events", "job.failed, batch.*", "--from-start", "--server", server.url())
    with Listener(tmp_path, *options) as listener:
        assert server.wait_for(3, timeout_seconds=20)[2].query("after") == other["id"]
        assert [line.split()[1] for line in listener.lines] == [failed["id"], batch["id"]]


def test_json_is_one_object_per_line(tmp_path: Path, server: Receiver) -> None:
    event = build_event("a.type_of.tomorrow")
    script(server, build_page(event))
    with Listener(tmp_path, "--json", "--from-start", "--server", server.url()) as listener:
        [line] = listener.wait_for_lines(1)
    told = {"id": event["id"], "type": event["type"], "timestamp": event["timestamp"], "verified": True}
    assert json.loads(line) == told | {"forward": None, "event": event}


def test_ctrl_c_ends_it_at_once_with_a_summary(tmp_path: Path, server: Receiver) -> None:
    event = build_event()
    script(server, build_page(event))
    with Listener(tmp_path, "--from-start", "--server", server.url()) as listener:
        listener.wait_for_lines(1)
        server.wait_for(3)
        status, seconds = listener.stop()
        assert (status, listener.notes[-1]) == (0, f"stopped     1 event; --after {event['id']} goes on from here")
    assert seconds < 2


def test_ctrl_c_ends_it_while_it_waits_for_a_server(tmp_path: Path) -> None:
    with Listener(tmp_path, PORT=str(find_free_port())) as listener:
        listener.wait_for_note("waiting")
        assert listener.stop()[0] == 0
        assert listener.notes[-1] == "stopped     0 events"


# ── trouble ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "headers", "reason"),
    [
        (503, {"Retry-After": "1"}, "it answers 503, and asks to wait 1 s"),
        (429, {"Retry-After": "1"}, "it answers 429, and asks to wait 1 s"),
        (500, {}, "it answers 500"),
        (404, {}, "it answers 404"),
        (200, {}, "what it answers is not a page of events"),
    ],
)
def test_server_that_fails_is_told_once_and_asked_again(
    tmp_path: Path, server: Receiver, status: int, headers: dict[str, str], reason: str
) -> None:
    script(server)
    server.answer_with(status, headers=headers, count=2)
    server.answer_with(200, body=build_page(build_event()), count=1)
    with Listener(tmp_path, "--from-start", "--server", server.url()) as listener:
        listener.wait_for_lines(1)
        base = server.url("")
        expected = [f"listening   to {base} from its oldest event on", f"lost        {base}: {reason}"]
        assert listener.notes == [*expected, f"back        {base}"]


def test_retry_after_is_heard(tmp_path: Path, server: Receiver) -> None:
    script(server)
    server.answer_with(503, headers={"Retry-After": "1"}, count=1)
    with Listener(tmp_path, "--from-start", "--server", server.url()):
        requests = server.wait_for(3, timeout_seconds=20)
    assert requests[2].received_at - requests[1].received_at >= 1


def test_poll_that_breaks_off_is_repeated_without_a_word(tmp_path: Path, server: Receiver) -> None:
    """A server that restarts does so, and some proxies do after a while."""
    event = build_event()
    script(server)
    server.reset(count=1)
    server.answer_with(200, body=build_page(event), count=1)
    with Listener(tmp_path, "--from-start", "--server", server.url()) as listener:
        listener.wait_for_lines(1)
        assert [note.split()[0] for note in listener.notes] == ["listening"]


def test_server_that_does_not_let_us_wait_is_asked_once_a_second(tmp_path: Path, server: Receiver) -> None:
    server.answer_with(200, body=build_page())
    with Listener(tmp_path, "--from-start", "--server", server.url()):
        requests = server.wait_for(4, timeout_seconds=20)
    pauses = [later.received_at - earlier.received_at for earlier, later in pairwise(requests[1:])]
    assert min(pauses) > 0.9


def test_pauses_grow_to_five_seconds() -> None:
    assert [decide_pause(count) for count in (0, 1, 2, 4, 5, 10_000)] == [0.25, 0.5, 1, 4, 5, 5]


def test_certificate_that_is_not_trusted_is_refused(tmp_path: Path) -> None:
    """The key is not sent over such a connection."""
    authority = TestAuthority(tmp_path)
    with Receiver(tls=authority.build_context("127.0.0.1")) as server:
        with Listener(tmp_path, "--server", server.url()) as listener:
            assert "certificate: " in listener.wait_for_note("waiting")
        assert server.requests == []


def test_authorities_may_be_named(tmp_path: Path) -> None:
    authority = TestAuthority(tmp_path)
    with Receiver(tls=authority.build_context("127.0.0.1")) as server:
        script(server, build_page(build_event()))
        variables = {"THUMBS_URL": server.url(), "THUMBS_CA_BUNDLE": str(authority.bundle)}
        with Listener(tmp_path, "--from-start", **variables) as listener:
            listener.wait_for_lines(1)
