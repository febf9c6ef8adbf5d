"""`thumbs up`: the whole service for development, from the Procfile's own commands, with one Ctrl-C to stop it.

It sets defaults for settings that the environment leaves unset, and nothing else: what runs is what is deployed.
"""

import http.client
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from honcho import manager as honcho_manager
from honcho.environ import parse_procfile
from honcho.manager import Manager

from thumbs.accounts import get_default_account
from thumbs.cli.environment import load_settings, open_services
from thumbs.errors import SettingsError
from thumbs.settings import Settings
from thumbs.web.port import check_port_free

DEVELOPMENT_DEFAULTS: Final[Mapping[str, str]] = {
    "THUMBS_HOST": "127.0.0.1",
    "THUMBS_AUTH": "off",
    "THUMBS_ALLOW_CIDRS": "127.0.0.0/8,::1/128",
    "THUMBS_CALLBACK_SCHEMES": "https,http",
    "THUMBS_LOG_FORMAT": "text",
    "THUMBS_RATE_LIMIT": "6000/minute",
}
PROCESSES: Final = ("web", "worker", "courier")
KILL_AFTER_SECONDS: Final = 28
"""Honcho kills what is left so long after the first process has ended; each needs up to 20 s for its work in flight."""
READY_TIMEOUT_SECONDS: Final = 30


@click.command()
def up() -> None:
    """Run web, worker and courier on this machine, for development. Ctrl-C stops them all."""
    for variable, value in DEVELOPMENT_DEFAULTS.items():
        if not os.environ.get(variable):
            os.environ[variable] = value
    settings = load_settings()
    check_port_free(settings)
    commands = _read_procfile(Path.cwd())
    _migrate(commands["release"])
    threading.Thread(target=_greet_when_ready, args=(settings, _describe(settings)), daemon=True).start()
    sys.exit(_run(commands))


def _migrate(command: str) -> None:
    """Run the release phase, in a process of its own, as a platform does."""
    done = subprocess.run(shlex.split(command), env=_build_environment(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SettingsError(f"The ledger cannot be migrated: {(done.stderr or done.stdout).strip()}")


def _build_environment() -> dict[str, str]:
    """Build the processes' environment; gunicorn itself fails on an empty WEB_CONCURRENCY: empty is unset here."""
    filled = {name: value for name, value in os.environ.items() if value}
    return filled | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"}


def _read_procfile(folder: Path) -> dict[str, str]:
    """Read the commands from the Procfile here, or beside the package in a checkout."""
    for path in (folder / "Procfile", Path(__file__).parents[2] / "Procfile"):
        if path.is_file():
            return dict(parse_procfile(path.read_text(encoding="utf-8")).processes)
    raise SettingsError(f"There is no Procfile in {folder}: run `thumbs up` in the project's folder.")


def _run(commands: Mapping[str, str]) -> int:
    """Run the processes until one ends or we are told to stop; 0 when each of them ended well."""
    honcho_manager.KILL_WAIT = KILL_AFTER_SECONDS
    manager = Manager()
    for name in PROCESSES:
        manager.add_process(name, f"exec {commands[name]}", env=_build_environment())
    manager.loop()
    return 0 if all(_ended_well(process) for process in manager._processes.values()) else 1


def _ended_well(process: Mapping[str, Any]) -> bool:
    """Tell whether it stopped as it was told; a second SIGTERM while Python takes itself down is fine."""
    return process.get("returncode") in (0, -signal.SIGTERM)


def _describe(settings: Settings) -> str:
    """Describe what is needed for the first minute: where, the secret to verify with, and a request to paste."""
    base = settings.public_url or f"http://{settings.host}:{settings.port}"
    lines = ["", f"thumbs is ready at {base}  (data in {settings.data_dir}, reference at {base}/docs)", ""]
    if settings.auth == "off":
        with open_services() as services:
            secret = services.cipher.decrypt(get_default_account(services).callback_secret)
        lines += [f"callback secret  {secret}", ""]
    authorization = "" if settings.auth == "off" else " -H 'Authorization: Bearer tk_…'"
    body = f'{{"source_url": "{base}/static/sample.jpg"}}'
    lines += [
        "Try it:",
        "",
        f"curl -s {base}/v1/jobs -H 'Prefer: wait=10'{authorization} \\",
        f"  -H 'Content-Type: application/json' -d '{body}'",
        "",
    ]
    return "\n".join(lines)


def _greet_when_ready(settings: Settings, greeting: str) -> None:
    until = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < until:
        if _is_ready(settings):
            click.echo(greeting)
            return
        time.sleep(0.1)


def _is_ready(settings: Settings) -> bool:
    connection = http.client.HTTPConnection(settings.host, settings.port, timeout=2)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == http.HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()
