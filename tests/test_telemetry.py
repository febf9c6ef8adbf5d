"""Log lines: one JSON object or one readable line per fact, on stdout, with the ids that are in scope.

Logging is set up for a whole process, so each test has one of its own.
"""

import json
import subprocess
import sys
from typing import Any

import pytest
import structlog

from thumbs.telemetry import bind_log_context, clear_log_context, log_context

SET_UP = """
import logging
from thumbs.telemetry import configure_logging, log_context
configure_logging({log_format!r}, {log_level!r})
logger = logging.getLogger("thumbs.test")
"""


def run(script: str, log_format: str = "json", log_level: str = "info") -> str:
    """Run a script whose logging is set up, and return what it printed."""
    code = SET_UP.format(log_format=log_format, log_level=log_level) + script
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stderr == ""
    return done.stdout


def parse_lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_line_has_severity_message_time_name_and_facts() -> None:
    [line] = parse_lines(run('logger.info("job ended", extra={"job_id": "job_1", "status": "failed"})'))
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "severity": "INFO",
        "message": "job ended",
        "logger": "thumbs.test",
        "job_id": "job_1",
        "status": "failed",
    }


def test_exception_is_one_json_line_with_its_traceback() -> None:
    [line] = parse_lines(run('try: 1 / 0\nexcept ZeroDivisionError: logger.exception("a task failed")'))
    assert (line["severity"], line["message"]) == ("ERROR", "a task failed")
    assert "ZeroDivisionError" in line["exception"]


def test_ids_in_scope_are_on_every_line_until_the_block_ends() -> None:
    script = 'with log_context(job_id="job_1"): logger.info("in")\nlogger.info("out")'
    inside, outside = parse_lines(run(script))
    assert (inside["job_id"], "job_id" in outside) == ("job_1", False)


def test_text_line_is_readable_and_without_colours_off_a_terminal() -> None:
    text = run('logger.warning("job ended", extra={"job_id": "job_1"})', log_format="text")
    assert "job ended" in text
    assert "job_id=job_1" in text
    assert "\x1b" not in text


def test_lines_below_the_level_are_not_printed() -> None:
    script = 'logger.info("small"); logger.warning("large")'
    assert [line["message"] for line in parse_lines(run(script, log_level="warning"))] == ["large"]


def test_libraries_that_repeat_us_are_quiet() -> None:
    script = 'logging.getLogger("huey").info("Executing"); logging.getLogger("huey").error("broken")'
    assert [line["message"] for line in parse_lines(run(script, log_level="debug"))] == ["broken"]


def test_line_break_in_a_value_does_not_make_another_line() -> None:
    """Nobody forges a log line with what he sends."""
    [line] = parse_lines(run('logger.info("accepted", extra={"request_id": "a\\n{\\"severity\\": \\"ERROR\\"}"})'))
    assert line["request_id"].startswith("a\n")


def test_bound_ids_stay_until_they_are_cleared() -> None:
    bind_log_context(request_id="r1")
    with log_context(job_id="job_1"):
        assert structlog.contextvars.get_contextvars() == {"request_id": "r1", "job_id": "job_1"}
    assert structlog.contextvars.get_contextvars() == {"request_id": "r1"}
    clear_log_context()
    assert structlog.contextvars.get_contextvars() == {}


HOSTILE = "\r\n2026-11-23T10:15:30Z [info     ] forged\x1b[2J\x9b31m\u202e\u2028\0"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_nobody_forges_a_line_or_steers_a_terminal_with_what_he_sends(log_format: str) -> None:
    """Neither in the message, nor in a value, nor inside a value, nor by what an error says."""
    script = (
        f"hostile = {HOSTILE!r}\n"
        'logger.warning("no " + hostile, extra={"url": hostile, "headers": {hostile: [hostile]}})\n'
        'try: raise ValueError(hostile)\nexcept ValueError: logger.exception("failed")'
    )
    text = run(script, log_format)
    lines = text.splitlines()
    assert all(char.isprintable() or char == "\n" for char in text)
    assert len([line for line in lines if line.startswith(("{", "20"))]) == 2
    assert all(line.startswith(("{", "20", "    ")) for line in lines)


def test_traceback_as_text_does_not_show_variables() -> None:
    """Where `rich` is installed, structlog's own choice would, and the keys and secrets in them."""
    script = 'secret = "hunter2"\ntry: 1 / 0\nexcept ZeroDivisionError: logger.exception("failed")'
    text = run(script, log_format="text")
    assert "ZeroDivisionError" in text
    assert "hunter2" not in text


def test_request_beyond_a_limit_is_not_worth_a_line_and_lost_counters_are_worth_one() -> None:
    script = (
        'limiter = logging.getLogger("flask-limiter")\n'
        "for _ in range(3):\n"
        '    limiter.info("exceeded")\n'
        '    try: raise OSError("away")\n'
        '    except OSError: limiter.exception("Failed to rate limit")\n'
    )
    [line] = parse_lines(run(script))
    assert line["message"] == "Failed to rate limit: away"
