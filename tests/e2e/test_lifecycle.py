"""Starting, stopping, starting again: nothing accepted is lost, and mistakes are told in one line."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import FAST, serve_late
from tests.support.images import build_photo, encode
from tests.support.servers import Receiver, SourceServer
from tests.support.stack import ROOT, Stack, find_free_port, wait_until


def run_thumbs(*arguments: str, cwd: Path = ROOT, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
    command = [sys.executable, "-m", "thumbs", *arguments]
    return subprocess.run(
        command, cwd=cwd, env=clean | environ, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_one_signal_stops_all_of_it_and_leaves_nobody(tmp_path: Path, signum: int) -> None:
    stack = Stack(tmp_path / "var", **FAST)
    stack.start()
    assert stack.stop(signum) == 0
    assert stack.list_pids() == []


def test_second_start_goes_on_where_the_first_left_off(
    tmp_path: Path, source: SourceServer, receiver: Receiver
) -> None:
    """A job whose source is slow and a webhook that is to be retried are both finished by the next start."""
    receiver.answer_with(503, count=1)
    settings = FAST | {"THUMBS_WEBHOOK_SCHEDULE_SECONDS": "3"}
    body = encode(build_photo(), "PNG")
    with Stack(tmp_path / "var", **settings) as first:
        job = first.submit(source_url=source.serve("/i", body), callback_url=receiver.url())
        receiver.wait_for(1, timeout_seconds=20)
        wait_until(lambda: first.list_deliveries(job["id"])[0]["status"] == "pending", 10)
        other = first.submit(source_url=source.url("/slow?seconds=1"))
        secret = first.read_secret()
    with Stack(tmp_path / "var", **settings) as second:
        assert second.read_secret() == secret
        assert second.wait_for_job(other["id"])["error"]["code"] == "unsupported_format"
        assert second.wait_for_callback(job["id"], "delivered")["callback"]["attempt_count"] == 2


def test_killed_machine_loses_nothing(tmp_path: Path, source: SourceServer, receiver: Receiver) -> None:
    """kill -9 of everything, while a source and a receiver hang: both are taken up again after their leases."""
    settings = FAST | {
        "THUMBS_FETCH_TIMEOUT_SECONDS": "2",
        "THUMBS_DECODE_TIMEOUT_SECONDS": "1",
        "THUMBS_LEASE_SECONDS": "14",
    }
    source.script("/i", lambda exchange: exchange.wait(30))
    receiver.hang(count=1)
    stack = Stack(tmp_path / "var", **settings)
    stack.start()
    sending = stack.submit(source_url=source.serve("/j", encode(build_photo(), "PNG")), callback_url=receiver.url())
    receiver.wait_for(1, timeout_seconds=20)
    running = stack.submit(source_url=source.url("/i"), callback_url=receiver.url())
    source.wait_for(2, timeout_seconds=20)
    stack.kill()
    assert wait_until(lambda: stack.list_pids() == [], 5)
    source.serve("/i", encode(build_photo(), "PNG"))
    with stack:
        assert stack.wait_for_callback(running["id"], "delivered", 40)["run_count"] == 2
        stack.wait_for_callback(sending["id"], "delivered", 40)
        [delivery] = stack.list_deliveries(sending["id"])
        assert [each["error_code"] for each in delivery["attempts"]] == ["abandoned", None]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 2


def test_work_in_flight_is_finished_however_often_the_signal_comes(
    tmp_path: Path, source: SourceServer, receiver: Receiver
) -> None:
    """Platforms may send SIGTERM more than once, to every process, decoders too."""
    url = serve_late(source, "/late.png", encode(build_photo(), "PNG"), 1)
    stack = Stack(tmp_path / "var", **FAST)
    stack.start()
    job = stack.submit(source_url=url)
    source.wait_for(1, timeout_seconds=20)
    for _ in range(3):
        for pid in stack.list_pids():
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.1)
    assert stack.stop() == 0
    with stack:
        assert stack.get_job(job["id"])["status"] == "succeeded"
        assert stack.get_job(job["id"])["run_count"] == 1


def test_bad_setting_stops_the_start_with_one_line(tmp_path: Path) -> None:
    done = run_thumbs("up", THUMBS_DATA_DIR=str(tmp_path), THUMBS_DECODE_TIMEOUT_SECONDS="soon")
    assert done.returncode == 1
    expected = "expected a number of seconds from 0.1 to 600"
    assert done.stderr == f"Error: THUMBS_DECODE_TIMEOUT_SECONDS='soon' cannot be used: {expected}.\n"


@pytest.mark.parametrize(
    "command", ["gunicorn --config python:thumbs.web.server wsgi:app", "huey_consumer tasks.images"]
)
def test_bad_setting_stops_each_process_with_one_line(tmp_path: Path, command: str) -> None:
    environ = os.environ | {"THUMBS_DATA_DIR": str(tmp_path), "PORT": "http"}
    path = [str(Path(sys.executable).parent / command.split(maxsplit=1)[0]), *command.split()[1:]]
    done = subprocess.run(path, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr == "thumbs: PORT='http' cannot be used: expected a whole number from 1 to 65535.\n"


def test_process_without_a_migrated_ledger_says_what_to_run(tmp_path: Path) -> None:
    environ = os.environ | {"THUMBS_DATA_DIR": str(tmp_path)}
    path = [str(Path(sys.executable).parent / "huey_consumer"), "tasks.images"]
    done = subprocess.run(path, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("run `thumbs migrate` first.")
    assert "Traceback" not in done.stderr


def test_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = run_thumbs("up", THUMBS_DATA_DIR=str(tmp_path), PORT=port)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: PORT={port} cannot be used on 127.0.0.1: Address already in use.")
    assert len(done.stderr.splitlines()) == 1


def test_data_directory_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """A file in its way: root may write into any directory."""
    (tmp_path / "file").touch()
    done = run_thumbs("up", THUMBS_DATA_DIR=str(tmp_path / "file" / "var"), PORT=str(find_free_port()))
    assert done.returncode == 1
    assert done.stderr.startswith("Error: THUMBS_DATA_DIR=")
    assert len(done.stderr.splitlines()) == 1


def test_demo_shows_a_verified_webhook_and_saves_the_thumbnail(tmp_path: Path) -> None:
    done = run_thumbs("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "verified    webhook-signature: v1," in done.stdout
    assert (tmp_path / "thumbs-demo.jpg").read_bytes().startswith(b"\xff\xd8\xff")
