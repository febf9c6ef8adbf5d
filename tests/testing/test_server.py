"""The server is the whole service, isolated from the environment of the tests, and never left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.stack import ROOT
from thumbs.signing import parse_secret
from thumbs.testing import ThumbsServer, WebhookReceiver
from thumbs.testing.server import PROCFILE, wait_until

STOPPED_SECONDS: Final = 30.0
HOLDER: Final = """
import sys, time
from pathlib import Path
from thumbs.testing import ThumbsServer
server = ThumbsServer(Path(sys.argv[1]))
server.start()
print("ready", flush=True)
time.sleep(600)
"""


def test_job_becomes_a_thumbnail_and_a_verified_webhook(
    thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver
) -> None:
    """All three fixtures together, as docs/testing.md promises."""
    job = thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    [delivery] = webhook_receiver.wait_for(type="job.succeeded")
    told = delivery.event["data"]["job"]
    assert (told["id"], told["status"]) == (job["id"], "succeeded")
    answer = thumbs_server.request("GET", told["thumbnail"]["url"])
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert len(answer.body) == told["thumbnail"]["bytes"]
    assert thumbs_server.wait_for_callback(job["id"], "delivered")["callback"]["attempt_count"] == 1


def test_failing_receiver_is_tried_again_at_once(
    thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver
) -> None:
    """The schedule of the fixture's server is for tests: nobody waits for minutes."""
    webhook_receiver.fail()
    webhook_receiver.hang()
    job = thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    deliveries = webhook_receiver.wait_for(3)
    assert [each.attempt for each in deliveries] == [1, 2, 3]
    assert len({each.body for each in deliveries}) == len({each.id for each in deliveries}) == 1
    thumbs_server.wait_for_callback(job["id"], "delivered")
    [delivery] = thumbs_server.list_deliveries(job["id"])
    assert [each["error_code"] for each in delivery["attempts"]] == ["http_5xx", "timeout", None]


def test_gone_ends_the_delivery(thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver) -> None:
    webhook_receiver.gone()
    job = thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    thumbs_server.wait_for_callback(job["id"], "failed")
    [delivery] = thumbs_server.list_deliveries(job["id"])
    assert (delivery["reason"], len(webhook_receiver.deliveries)) == ("gone", 1)


def test_breaker_does_not_hold_tests_up(thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver) -> None:
    """By default it would: after five failures of two deliveries, for a minute."""
    webhook_receiver.fail(times=5)
    submission = {"source_url": thumbs_server.sample_url, "callback_url": webhook_receiver.url}
    jobs = [thumbs_server.submit(**submission) for _ in range(2)]
    for job in jobs:
        thumbs_server.wait_for_callback(job["id"], "delivered")


def test_receiver_with_another_secret_refuses_every_attempt(
    thumbs_server: ThumbsServer, webhook_receiver: WebhookReceiver
) -> None:
    webhook_receiver.secret = "whsec_" + "A" * 44
    job = thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    thumbs_server.wait_for_callback(job["id"], "failed")
    assert {each.is_verified for each in webhook_receiver.deliveries} == {False}


def test_secret_is_the_one_that_the_service_prints(thumbs_server: ThumbsServer) -> None:
    assert parse_secret(thumbs_server.secret)
    assert f"callback secret  {thumbs_server.secret}\n" in wait_until(
        lambda: text if "callback secret" in (text := thumbs_server.read_log()) else None, 5
    )


def test_request_reads_what_the_service_answers(thumbs_server: ThumbsServer) -> None:
    answer = thumbs_server.request("GET", "/v1/jobs", params={"limit": 0})
    assert (answer.status, answer.headers["CONTENT-TYPE"]) == (422, "application/problem+json")
    assert answer.json()["code"] == "validation_failed"


def test_submit_of_what_is_refused_says_why(thumbs_server: ThumbsServer) -> None:
    with pytest.raises(AssertionError, match="url_not_allowed"):
        thumbs_server.submit(source_url="http://10.0.0.1/")


def test_procfile_is_the_projects_own() -> None:
    """An installed package does not bring the file along, so it is written out; the two must not part."""
    assert (ROOT / "Procfile").read_text(encoding="utf-8") == PROCFILE


def test_environment_of_the_tests_does_not_reach_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above all the database of the project under test, whose name is often the same as ours."""
    foreign = ("DATABASE_URL", "REDIS_URL", "THUMBS_AUTH", "GUNICORN_CMD_ARGS", "PYTHONWARNINGS", "DYNO")
    for name in foreign:
        monkeypatch.setenv(name, "postgres://theirs")
    monkeypatch.setenv("PORT", "1")
    server = ThumbsServer(tmp_path / "var", THUMBS_SWEEP_SECONDS="2")
    assert not set(foreign) & set(server.environ)
    assert server.environ["PORT"] == str(server.port) != "1"
    assert (server.environ["THUMBS_SWEEP_SECONDS"], server.environ["PATH"]) == ("2", os.environ["PATH"])


def test_modules_of_the_project_under_test_do_not_stand_before_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Many projects have a `tasks.py` or a `wsgi.py`, and a PYTHONPATH that leads to them."""
    for name in ("tasks.py", "wsgi.py"):
        (tmp_path / name).write_text("raise RuntimeError('theirs')\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with ThumbsServer(Path("var")) as server:
        assert server.wait_for_job(server.submit(source_url=server.sample_url)["id"])["status"] == "succeeded"


def test_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    server = ThumbsServer(tmp_path / "var", THUMBS_SWEEP_SECONDS="never")
    with pytest.raises(AssertionError, match="THUMBS_SWEEP_SECONDS='never' cannot be used"):
        server.start()
    assert server.list_pids() == []


def test_stopped_server_leaves_no_process(tmp_path: Path) -> None:
    with ThumbsServer(tmp_path / "var") as server:
        assert len(server.list_pids()) >= 4
    assert server.list_pids() == []


def test_server_does_not_outlive_the_tests_that_are_killed(tmp_path: Path) -> None:
    """A timeout or an impatient developer kills pytest, and no fixture gets to clean up."""
    server = ThumbsServer(tmp_path / "var")
    command = [sys.executable, "-c", HOLDER, str(server.data_dir)]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "ready\n"
        assert len(server.list_pids()) >= 4
        holder.send_signal(signal.SIGKILL)
    wait_until(lambda: server.list_pids() == [], STOPPED_SECONDS)
