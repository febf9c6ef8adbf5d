"""A service that is run once, to be searched afterwards: what everybody was told, what was stored, what was queued.

`run_embedded` is SQLite with text logs, `run_production` PostgreSQL and Redis with JSON logs; both log whatever there
is to log, and want keys of their callers. What is searched for is planted by those who use it.
"""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import psycopg
from redis import Redis

from tests.support.engines import Postgres
from tests.support.proxies import Proxy
from tests.support.secrets import RedisMonitor, Secret, read_files, read_postgres, read_redis
from tests.support.stack import ROOT, Answer, Stack, wait_until

SECRET_KEY: Final = "a planted secret key, which nobody may ever see"
PASSWORD: Final = "planted-password-of-a-store"
USER: Final = "thumbs"
DATABASE: Final = 9
"""The one of Valkey's databases that no other test uses."""
SETTINGS: Final = {
    "THUMBS_AUTH": "required",
    "THUMBS_LOG_LEVEL": "debug",
    "THUMBS_SECRET_KEY": SECRET_KEY,
    "THUMBS_WORKER_THREADS": "2",
    "THUMBS_COURIER_THREADS": "2",
    "THUMBS_DECODERS": "1",
    "THUMBS_SWEEP_SECONDS": "1",
    "THUMBS_WEBHOOK_SCHEDULE_SECONDS": "0.2,0.2",
}


@dataclass(slots=True)
class Run:
    """A running service, and what is left of it.

    `execute` runs a statement in its ledger, `stores` are the proxies in front of its databases, `key` is the API key
    of its caller. `told` is what anybody was answered, `stored` the ledger, `queued` the queues and whatever else there
    is beside the ledger; they hold all of it when the run is over.
    """

    stack: Stack
    execute: Callable[[str], None]
    stores: tuple[Proxy, ...] = ()
    key: str = ""
    secrets: list[Secret] = field(default_factory=list)
    told: dict[str, bytes] = field(default_factory=dict, repr=False)
    stored: dict[str, bytes] = field(default_factory=dict, repr=False)
    queued: dict[str, bytes] = field(default_factory=dict, repr=False)

    def plant(self, name: str, text: str, *, is_data: bool = False) -> str:
        """Remember a secret, and return it."""
        self.secrets.append(Secret(name, text, is_data))
        return text

    def call(
        self, method: str, path: str, *, is_telling: bool = False, key: str | None = None, **options: Any
    ) -> Answer:
        """Call the API; the answer is kept, unless it is the one that may tell a secret."""
        headers = {"Authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
        answer = self.stack.request(method, path, headers=headers, **options)
        if not is_telling:
            self.told[f"answer {len(self.told)} to {method} {path}"] = str(answer.headers).encode() + answer.body
        return answer

    def send_raw(self, head: str) -> None:
        """Send what an HTTP client would not."""
        with socket.create_connection(("127.0.0.1", self.stack.port), timeout=10) as sock:
            sock.sendall(f"{head}\r\n\r\n".encode())
            assert sock.recv(65536).startswith(b"HTTP/1.1 400")

    def run_command(self, *arguments: str, is_telling: bool = False, environ: Mapping[str, str] | None = None) -> str:
        """Run `thumbs`; what it prints is kept, unless it is to tell a secret."""
        command = [sys.executable, "-m", "thumbs", *arguments]
        whole = self.stack.environ | dict(environ or {})
        done = subprocess.run(command, cwd=ROOT, env=whole, capture_output=True, timeout=60, check=False)
        if not is_telling:
            self.told[f"output {len(self.told)} of thumbs {' '.join(arguments)}"] = done.stdout + done.stderr
        return done.stdout.decode()

    def wait_for_job(self, job_id: str, callback: str = "none") -> None:
        """Wait until a job has ended, and its callback has that status."""

        def is_over() -> bool:
            job = self.stack.request(
                "GET", f"/v1/jobs/{job_id}", headers={"Authorization": f"Bearer {self.key}"}
            ).json()
            return job["status"] in ("succeeded", "failed") and job["callback"]["status"] == callback

        wait_until(is_over, 20)

    def wait_for_log(self, text: str, count: int = 1) -> None:
        """Wait until the log has that text so many times."""
        wait_until(lambda: self.stack.read_log().count(text) >= count, 20)


# ── the two services ────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def run_embedded(folder: Path) -> Iterator[Run]:
    """Run on SQLite, with text logs."""
    stack = Stack(folder / "var", **SETTINGS, THUMBS_LOG_FORMAT="text")

    def execute(statement: str) -> None:
        with closing(sqlite3.connect(folder / "var" / "ledger.db", timeout=10)) as connection, connection:
            connection.execute(statement)

    with stack:
        run = Run(stack, execute)
        yield run
        _collect_files(run)
        stack.stop()
    _collect_files(run)


@contextmanager
def run_production(folder: Path, postgres: Postgres, valkey_url: str) -> Iterator[Run]:
    """Run on PostgreSQL and Redis, with JSON logs; both want a password, and can be taken away."""
    database_url = postgres.create_database(is_migrated=False)
    socket_path = Path(parse_qs(urlsplit(database_url).query)["host"][0]) / ".s.PGSQL.5432"
    redis_url = urlsplit(valkey_url)._replace(path=f"/{DATABASE}")
    monitor = RedisMonitor()
    with (
        Proxy(socket_path) as ledger,
        Proxy(redis_url.port or 0) as queue,
        Redis.from_url(redis_url.geturl()) as valkey,
        monitor.listening(valkey_url),
    ):
        valkey.acl_setuser(
            USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], channels=["*"], commands=["+@all"]
        )
        settings = SETTINGS | {
            "DATABASE_URL": f"postgresql://postgres:{PASSWORD}@127.0.0.1:{ledger.port}{urlsplit(database_url).path}",
            "REDIS_URL": f"redis://{USER}:{PASSWORD}@127.0.0.1:{queue.port}/{DATABASE}",
        }

        def execute(statement: str) -> None:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(statement.encode())

        with Stack(folder / "var", **settings, THUMBS_LOG_FORMAT="json") as stack:
            run = Run(stack, execute, (ledger, queue))
            yield run
            stack.stop()
        run.stored = read_postgres(database_url)
        run.queued = read_redis(valkey)
        valkey.acl_deluser(USER)
    run.queued["what Redis was told"] = "\n".join(monitor.commands).encode()


def _collect_files(run: Run) -> None:
    """Take the files as they are; while the service runs, the newest pages are in the journals."""
    for name, content in read_files(run.stack.data_dir).items():
        place = run.stored if name.startswith("ledger") else run.queued
        place[name] = place.get(name, b"") + content
