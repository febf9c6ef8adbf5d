"""The Procfile's processes one by one, as a deployment runs them, where `thumbs up` would run all of them."""

import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import requests
from honcho.environ import parse_procfile

from tests.support.chaos import Program, Supervisor
from tests.support.stack import NO_RATE_LIMIT, ROOT, find_free_port, wait_until
from thumbs.cli.up import DEVELOPMENT_DEFAULTS
from thumbs.migrations import upgrade
from thumbs.preparation import prepare
from thumbs.settings import read_settings

READY_SECONDS: Final = 30.0
LOG_LINES: Final = 40
OURS: Final = ("THUMBS_", "DATABASE_URL", "REDIS_URL", "PORT", "WEB_CONCURRENCY")


def end_on_sigterm() -> None:
    """Let SIGTERM end us as Ctrl-C does: everything that was started is stopped."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def build_environ(data_dir: Path, store: Mapping[str, str], **changes: str) -> dict[str, str]:
    """Build the environment of a service on that store, without what the shell has set for another one."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ours = {**DEVELOPMENT_DEFAULTS, **NO_RATE_LIMIT, "THUMBS_DATA_DIR": str(data_dir)}
    return {**clean, **ours, **store, **changes}


def migrate(environ: Mapping[str, str]) -> None:
    """Make the data directory where it is needed, and bring the ledger to today's schema, as the release phase does."""
    upgrade(prepare(read_settings(environ)).database_url)


def start_web(supervisor: Supervisor, name: str, environ: Mapping[str, str]) -> int:
    """Start web on a free port, and return the port when it answers."""
    port = find_free_port()
    supervisor.add(_build_program("web", name, {**environ, "PORT": str(port)}))
    _wait(supervisor, name, lambda: _answers(port))
    return port


def start_consumer(supervisor: Supervisor, name: str, environ: Mapping[str, str]) -> None:
    """Start the worker or the courier; it takes messages when this returns."""
    supervisor.add(_build_program(name, name, environ))
    _wait(supervisor, name, lambda: f"{name} started" in supervisor.read_log(name))


@contextmanager
def telling_logs(supervisor: Supervisor, *names: str) -> Iterator[None]:
    """Show the ends of the programs' logs when the run fails."""
    try:
        yield
    except RuntimeError as error:
        ends = [f"{name}:\n" + "\n".join(supervisor.read_log(name).splitlines()[-LOG_LINES:]) for name in names]
        raise SystemExit("\n\n".join([*ends, str(error)])) from error


def _build_program(kind: str, name: str, environ: Mapping[str, str]) -> Program:
    command = parse_procfile((ROOT / "Procfile").read_text(encoding="utf-8")).processes[kind]
    executable, *arguments = shlex.split(command)
    return Program(name, [str(Path(sys.executable).parent / executable), *arguments], ROOT, environ)


def _wait(supervisor: Supervisor, name: str, is_ready: Callable[[], bool]) -> None:
    try:
        wait_until(is_ready, READY_SECONDS)
    except AssertionError:
        raise SystemExit(f"{name} is not ready in {READY_SECONDS} s:\n{supervisor.read_log(name)}") from None


def _answers(port: int) -> bool:
    try:
        with requests.Session() as session:
            session.trust_env = False
            return session.get(f"http://127.0.0.1:{port}/healthz", timeout=5).ok
    except requests.RequestException:
        return False
