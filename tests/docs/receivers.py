"""Runs the receivers of docs/receivers.md as processes of their own, moved to a free port."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.docs.pages import list_blocks
from tests.support.stack import find_free_port, wait_until
from thumbs.testing import sample_event

PAGE: Final = "receivers.md"
PORT: Final = "9000"
"""As the page has it."""
START_SECONDS: Final = 20.0
NPM_SECONDS: Final = 100.0
NPM: Final = ("npm", "install", "--no-audit", "--no-fund", "--no-save", "standardwebhooks")


@dataclass(frozen=True, slots=True)
class RunningReceiver:
    """A receiver of the page: where it takes webhooks, and what it has printed."""

    url: str
    log: Path

    def read(self) -> str:
        """Read what it has printed."""
        return self.log.read_text(encoding="utf-8")


def install_library(folder: Path) -> None:
    """Install the JavaScript library; skips where Node.js is missing."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program}: install Node.js 18 or newer to run the JavaScript of docs/{PAGE}")
    done = subprocess.run(NPM, cwd=folder, capture_output=True, text=True, timeout=NPM_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


@contextmanager
def run_python(folder: Path, secret: str) -> Iterator[RunningReceiver]:
    """Run the Python receiver, with the command that the page tells."""
    [source] = list_blocks(PAGE, "python")
    (folder / "receiver.py").write_text(source, encoding="utf-8")
    port = str(find_free_port())
    with _run([sys.executable, "-m", "flask", "--app", "receiver", "run", "--port", port], folder, secret, port) as it:
        yield it


@contextmanager
def run_javascript(folder: Path, secret: str) -> Iterator[RunningReceiver]:
    """Run the JavaScript receiver in a folder where the library is installed."""
    [source] = list_blocks(PAGE, "javascript")
    port = str(find_free_port())
    (folder / "receiver.mjs").write_text(source.replace(PORT, port), encoding="utf-8")
    with _run(["node", "receiver.mjs"], folder, secret, port) as it:
        yield it


@contextmanager
def _run(command: list[str], folder: Path, secret: str, port: str) -> Iterator[RunningReceiver]:
    receiver = RunningReceiver(f"http://127.0.0.1:{port}/hooks", folder / "receiver.log")
    environ = os.environ | {"CALLBACK_SECRET": secret}
    with receiver.log.open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environ, stdout=log, stderr=log)
        try:
            wait_until(lambda: _answers(receiver.url), START_SECONDS)
            yield receiver
        finally:
            process.kill()
            process.wait()


def _answers(url: str) -> bool:
    try:
        return sample_event("ping").tamper().send(url) == 401
    except OSError:
        return False
