"""The whole service for tests, as real processes: `thumbs up` in a directory of its own, on a free port.

Nothing of the service is imported here: it runs beside the tests, with the settings that it is given and no others.
"""

import json as json_module
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from http.client import HTTPConnection, HTTPException, HTTPMessage
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlencode, urlsplit

import thumbs
from thumbs.settings import list_settings

READY_SECONDS: Final = 30.0
STOP_SECONDS: Final = 30.0
"""Within which one SIGTERM stops all of it."""
REQUEST_SECONDS: Final = 40.0
"""Longer than `Prefer: wait` may take."""
POLL_SECONDS: Final = 0.05
FOREIGN_VARIABLES: Final = ("DYNO", "GUNICORN_CMD_ARGS", "PYTHONWARNINGS")
"""What the tests' environment may have for other programs, and what the service would follow."""
PROCFILE: Final = """\
release: thumbs migrate
web: gunicorn --config python:thumbs.web.server wsgi:app
worker: huey_consumer tasks.images
courier: huey_consumer tasks.webhooks
"""
"""The project's own; an installed package does not bring it along."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer; the names of `headers` may be asked for in any case."""

    status: int
    headers: HTTPMessage
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """Parse the body."""
        return json_module.loads(self.body)


class ThumbsServer:
    """web, worker and courier, started by `thumbs up`; `environ` is its settings, such as THUMBS_SWEEP_SECONDS="1"."""

    def __init__(self, data_dir: Path, **environ: str) -> None:
        """Choose a free port; nothing is started or written yet."""
        self.data_dir = data_dir.absolute()
        self.port = find_free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = self.data_dir.with_name(f"{self.data_dir.name}.log")
        self.environ = _build_environ() | {
            "PORT": str(self.port),
            "THUMBS_DATA_DIR": str(self.data_dir),
            "WEB_CONCURRENCY": "1",
            **environ,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    # ── its life ────────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Start it and wait until everything is ready; AssertionError with the log when it does not get so."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        (self.data_dir / "Procfile").write_text(PROCFILE, encoding="utf-8")
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "thumbs.testing.service", "up"],
                cwd=self.data_dir,
                env=self.environ,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        try:
            wait_until(self._is_ready, READY_SECONDS)
        except AssertionError:
            self.kill()
            raise AssertionError(f"not ready in {READY_SECONDS} s:\n{self.read_log()}") from None

    def stop(self, signum: int = signal.SIGTERM) -> int:
        """Stop it with one signal and return its exit status; AssertionError when it takes longer than promised."""
        assert self._process is not None
        self._process.send_signal(signum)
        try:
            return self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {STOP_SECONDS} s after a signal:\n{self.read_log()}") from None
        finally:
            self._cut_life_line()

    def kill(self) -> None:
        """Kill every process of it at once, as a crash of the machine would."""
        for pid in self.list_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._cut_life_line()

    def list_pids(self) -> list[int]:
        """List every process that was started with this data directory, children of children too (on Linux only)."""
        mark = f"THUMBS_DATA_DIR={self.data_dir}".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def read_log(self) -> str:
        """Read what its processes have printed."""
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    # ── talking to it ───────────────────────────────────────────────────────────────────────────────────

    @cached_property
    def secret(self) -> str:
        """The callback secret that its webhooks are signed with. Blocking, the first time."""
        command = [sys.executable, "-m", "thumbs.testing.service", "secret"]
        done = subprocess.run(
            command, cwd=self.data_dir, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode != 0:
            raise AssertionError(f"the callback secret cannot be read:\n{done.stderr}")
        return done.stdout.split()[-1]

    @property
    def sample_url(self) -> str:
        """The URL of a photo that it serves itself: a source for jobs."""
        return f"{self.url}/static/sample.jpg"

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        data: bytes | None = None,
        params: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send a request, with `json` or `data` for its body; `path` may be a whole URL, redirects are not followed.

        Raises OSError, HTTPException.
        """
        parts = urlsplit(path if path.startswith("http") else self.url + path)
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        if params:
            target += f"?{urlencode(params)}"
        body, sent = (data, {}) if json is None else (json_module.dumps(json), {"Content-Type": "application/json"})
        connection = HTTPConnection(parts.netloc, timeout=REQUEST_SECONDS)
        try:
            connection.request(method, target, body, sent | dict(headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def submit(self, **body: Any) -> dict[str, Any]:
        """Submit a job (`source_url=…`, `callback_url=…`) that is to be accepted."""
        answer = self.request("POST", "/v1/jobs", json=body)
        assert answer.status == 202, answer.body
        job: dict[str, Any] = answer.json()
        return job

    def get_job(self, job_id: str) -> dict[str, Any]:
        """Get a job."""
        job: dict[str, Any] = self.request("GET", f"/v1/jobs/{job_id}").json()
        return job

    def wait_for_job(self, job_id: str, timeout_seconds: float = 20.0) -> dict[str, Any]:
        """Wait until a job is final."""
        return wait_until(lambda: _if_final(self.get_job(job_id)), timeout_seconds)

    def wait_for_callback(self, job_id: str, status: str, timeout_seconds: float = 20.0) -> dict[str, Any]:
        """Wait until a job's callback has that status."""
        return wait_until(lambda: _if_callback(self.get_job(job_id), status), timeout_seconds)

    def list_deliveries(self, job_id: str) -> list[dict[str, Any]]:
        """List a job's deliveries."""
        items: list[dict[str, Any]] = self.request("GET", f"/v1/jobs/{job_id}/deliveries").json()["items"]
        return items

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"ended with {self._process.returncode}:\n{self.read_log()}")
        try:
            return self.request("GET", "/readyz").status == 200
        except (OSError, HTTPException):
            return False

    def _cut_life_line(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()


def find_free_port() -> int:
    """Find a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_until(condition: Callable[[], T | None], timeout_seconds: float) -> T:
    """Wait until the condition gives something true, and return it; AssertionError when it does not in time."""
    until = time.monotonic() + timeout_seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"did not come true within {timeout_seconds} s; the last value was {value!r}")
        time.sleep(POLL_SECONDS)


def _build_environ() -> dict[str, str]:
    """Build the service's environment from ours, without what is meant for another one: its database, above all."""
    foreign = {setting.variable for setting in list_settings().values()} | set(FOREIGN_VARIABLES)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_") and name not in foreign}
    if "PYTHONPATH" in kept:
        # A `tasks.py` or `wsgi.py` of the project under test must not stand before ours.
        kept["PYTHONPATH"] = f"{Path(thumbs.__file__).parents[1]}{os.pathsep}{kept['PYTHONPATH']}"
    return kept


def _if_final(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in ("succeeded", "failed") else None


def _if_callback(job: dict[str, Any], status: str) -> dict[str, Any] | None:
    return job if job["callback"]["status"] == status else None
