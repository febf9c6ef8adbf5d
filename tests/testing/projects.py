"""Somebody else's project, with tests: a folder outside this repository, and pytest in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TIMEOUT_SECONDS: Final = 90.0
STRICT: Final = ("-W", "error", "--strict-markers", "--strict-config", "-p", "no:cacheprovider")
"""As strict as a project can be."""


def write_project(folder: Path, files: Mapping[str, str]) -> Path:
    """Write the files of a project, and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def list_arguments(*options: str) -> list[str]:
    """List what starts pytest as strictly as can be."""
    return [sys.executable, "-m", "pytest", *STRICT, *options]


def run_project(folder: Path, *options: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a project's tests to their end, in its folder."""
    return subprocess.run(
        list_arguments(*options, "--basetemp", str(folder / "temporary")),
        cwd=folder,
        env=os.environ | environ,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
