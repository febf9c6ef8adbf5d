"""`thumbs listen` as a real process, and what it has printed so far."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tests.support.stack import ROOT, wait_until

START_SECONDS = 20.0


class Listener:
    """Runs `thumbs listen` with these arguments and variables until it is stopped, or the block ends."""

    def __init__(self, directory: Path, *arguments: str, **environ: str) -> None:
        """Take what to run; it prints into files of the directory."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
        self._environ = clean | environ
        self._command = [sys.executable, "-m", "thumbs", "listen", *arguments]
        self._stdout, self._stderr = directory / "listen.out", directory / "listen.err"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def lines(self) -> list[str]:
        """The events' lines."""
        return self._stdout.read_text(encoding="utf-8").splitlines()

    @property
    def notes(self) -> list[str]:
        """The other lines."""
        return self._stderr.read_text(encoding="utf-8").splitlines()

    def wait_for_lines(self, count: int, timeout_seconds: float = 20.0) -> list[str]:
        """Wait until there are lines of that many events, and return them."""
        return self._wait(lambda: self.lines if len(self.lines) >= count else None, timeout_seconds)

    def wait_for_note(self, word: str, timeout_seconds: float = START_SECONDS) -> str:
        """Wait until there is a note that begins with the word, and return the latest."""
        found = self._wait(lambda: [note for note in self.notes if note.startswith(word)], timeout_seconds)
        return found[-1]

    def stop(self) -> tuple[int, float]:
        """Press Ctrl-C; returns the exit status, and after how many seconds it ended."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(20), time.monotonic() - began

    def wait(self) -> int:
        """Wait until it ends by itself; returns the exit status."""
        assert self._process is not None
        return self._process.wait(20)

    def __enter__(self) -> Self:
        with self._stdout.open("wb") as stdout, self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, env=self._environ, stdout=stdout, stderr=stderr, start_new_session=True
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def _wait(self, condition: Callable[[], list[str] | None], timeout_seconds: float) -> list[str]:
        try:
            return wait_until(condition, timeout_seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it printed {self.lines} and {self.notes}") from None
