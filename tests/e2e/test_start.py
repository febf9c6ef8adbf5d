"""How a production start ends that would be unsafe: refused, or warned of, in one line by each process."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from honcho.environ import parse_procfile

from tests.support.stack import ROOT, find_free_port, wait_until

COMMANDS = {
    name: shlex.split(command)
    for name, command in parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes.items()
}
PROCESSES = ["web", "worker", "courier"]
START_SECONDS = 30
OPEN = {"THUMBS_AUTH": "off", "THUMBS_HOST": "0.0.0.0", "THUMBS_ALLOW_CIDRS": "10.0.0.0/8"}


def build_command(name: str) -> list[str]:
    program, *arguments = COMMANDS[name]
    return [str(Path(sys.executable).parent / program), *arguments]


def build_environment(data_dir: Path, settings: dict[str, str]) -> dict[str, str]:
    """Build what a platform gives a process: nothing of ours but what is named."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
    return clean | {"THUMBS_DATA_DIR": str(data_dir), "PORT": str(find_free_port())} | settings


@contextmanager
def starting(name: str, environ: dict[str, str]) -> Iterator["subprocess.Popen[str]"]:
    """Start a process of the Procfile; it is ended when the block is left."""
    with subprocess.Popen(
        build_command(name), cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process
        process.send_signal(signal.SIGTERM)


def read_until_started(process: "subprocess.Popen[str]") -> list[str]:
    """Read its lines until it says that it has started; gives them."""
    assert process.stdout is not None
    lines, until = [], time.monotonic() + START_SECONDS
    for line in process.stdout:
        lines.append(line)
        if "started" in line or "Listening at" in line:
            return lines
        assert time.monotonic() < until
    raise AssertionError(f"it ended: {''.join(lines)}")


@pytest.mark.parametrize(
    ("name", "settings", "told"),
    [
        *((name, {"REDIS_URL": "redis://127.0.0.1:1"}, "THUMBS_SECRET_KEY is not set: ") for name in PROCESSES),
        ("worker", {"DATABASE_URL": "postgres://127.0.0.1:1/thumbs"}, "THUMBS_SECRET_KEY is not set: "),
        ("web", {"DYNO": "web.1"}, "THUMBS_SECRET_KEY is not set: "),
        ("courier", {"THUMBS_SECRET_KEY": "too short"}, "THUMBS_SECRET_KEY=(secret) cannot be used: "),
    ],
)
def test_start_without_a_proper_key_is_refused(name: str, settings: dict[str, str], told: str, tmp_path: Path) -> None:
    """In one line that says what would be right, and nothing of what was set."""
    environ = build_environment(tmp_path, settings)
    done = subprocess.run(
        build_command(name), cwd=ROOT, env=environ, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"thumbs: {told}")
    assert done.stderr.count("\n") == 1
    assert "at least 32" in done.stderr


@pytest.mark.parametrize("name", PROCESSES)
def test_open_door_is_warned_of(name: str, tmp_path: Path) -> None:
    """By each process, since each has an environment of its own; once, not by every child."""
    environ = build_environment(tmp_path, OPEN | {"THUMBS_LOG_FORMAT": "json"})
    subprocess.run(build_command("release"), cwd=ROOT, env=environ, check=True, capture_output=True)
    with starting(name, environ) as process:
        warnings = [line for line in read_until_started(process) if '"warning"' in line.lower()]
    assert sum("THUMBS_AUTH=off on THUMBS_HOST=0.0.0.0" in line for line in warnings) == 1
    assert sum("THUMBS_ALLOW_CIDRS=10.0.0.0/8" in line for line in warnings) == 1
    assert len(warnings) == 2


def test_decoders_inherit_no_secret(tmp_path: Path) -> None:
    """Neither as their environment now, nor in what the kernel keeps of the one that they were started with."""
    secrets = {
        "THUMBS_SECRET_KEY": "a secret key that is long enough for tests",
        "DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db",
        "THUMBS_EGRESS_PROXY_URL": "http://user:word@127.0.0.1:1",
    }
    environ = build_environment(tmp_path, secrets)
    subprocess.run(build_command("release"), cwd=ROOT, env=environ, check=True, capture_output=True)
    with starting("worker", environ) as process:
        read_until_started(process)
        assert wait_until(lambda: len(psutil.Process(process.pid).children()) > 1, START_SECONDS)
        found = [child.environ() for child in psutil.Process(process.pid).children(recursive=True)]
    assert not any(name in each for each in found for name in secrets)
