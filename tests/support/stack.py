"""The whole service as real processes: `thumbs up` in a temporary data directory, on a free port."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import requests

from thumbs.accounts import get_default_account
from thumbs.cli.environment import open_services

ROOT = Path(__file__).parents[2]
READY_SECONDS = 30.0
STOP_SECONDS = 30.0
"""Within which one SIGTERM stops all of it."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, parsed."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


class Stack:
    """web, worker and courier, started by `thumbs up`; `environ` changes its settings."""

    def __init__(self, data_dir: Path, **environ: str) -> None:
        self.data_dir = data_dir
        self.port = find_free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.log_path = data_dir.parent / f"{data_dir.name}.log"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
        changes = {"PORT": str(self.port), "THUMBS_DATA_DIR": str(data_dir), "WEB_CONCURRENCY": "1"}
        self.environ = clean | changes | environ
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until everything is ready; AssertionError with the log when it does not get so."""
        with self.log_path.open("ab") as log:
            command = [sys.executable, "-m", "thumbs", "up"]
            self._process = subprocess.Popen(command, cwd=ROOT, env=self.environ, stdout=log, stderr=log)
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

    def kill(self) -> None:
        """Kill every process of it at once, as a crash of the machine would."""
        for pid in self.list_pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if self._process is not None:
            self._process.wait()

    def list_pids(self) -> list[int]:
        """List every process that was started with this data directory, children of children too."""
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
        return self.log_path.read_text(encoding="utf-8")

    def read_secret(self) -> str:
        """Read the callback secret, as `thumbs up` prints it."""
        with open_services(self.environ) as services:
            return services.cipher.decrypt(get_default_account(services).callback_secret)

    def request(self, method: str, path: str, **options: Any) -> Answer:
        """Send a request; `path` may be a whole URL."""
        url = path if path.startswith("http") else self.base + path
        with requests.Session() as session:
            session.trust_env = False
            response = session.request(method, url, timeout=40, allow_redirects=False, **options)
            return Answer(response.status_code, response.headers, response.content)

    def submit(self, **body: Any) -> dict[str, Any]:
        """Submit a job that is to be accepted."""
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self.stop()

    def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError(f"ended with {self._process.returncode}:\n{self.read_log()}")
        try:
            return self.request("GET", "/readyz").status == 200
        except requests.RequestException:
            return False


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
        time.sleep(0.05)


def _if_final(job: dict[str, Any]) -> dict[str, Any] | None:
    return job if job["status"] in ("succeeded", "failed") else None


def _if_callback(job: dict[str, Any], status: str) -> dict[str, Any] | None:
    return job if job["callback"]["status"] == status else None
