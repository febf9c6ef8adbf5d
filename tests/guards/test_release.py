"""What is deployed: the Procfile's commands start, the lock satisfies what we ask for, and nothing in it floats."""

import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from honcho.environ import parse_procfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.guards.sources import ROOT, read_page
from tests.support.stack import find_free_port

CONSUMER_CODE = """
import sys
from huey.bin import huey_consumer
from huey.consumer import Consumer
from huey.utils import load_class
queue = load_class(sys.argv[1])
assert isinstance(queue.create_consumer(), Consumer)
print(queue.process_name)
"""
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", re.MULTILINE)


@pytest.fixture(scope="module")
def commands() -> dict[str, str]:
    return dict(parse_procfile(read_page("Procfile")).processes)


@pytest.fixture(scope="module")
def pins() -> dict[str, Version]:
    """The versions of requirements.txt by name."""
    return {canonicalize_name(name): Version(version) for name, version in PIN.findall(read_page("requirements.txt"))}


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a data directory of its own and the venv's programs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("THUMBS_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return kept | {"THUMBS_DATA_DIR": str(tmp_path / "var"), "PATH": path, "PORT": str(find_free_port())}


def run(command: list[str], environ: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_procfile_has_the_four_processes(commands: dict[str, str]) -> None:
    assert set(commands) == {"release", "web", "worker", "courier"}


def test_release_and_web_of_the_procfile_start(commands: dict[str, str], environ: dict[str, str]) -> None:
    """gunicorn reads its configuration and imports the app, which refuses a ledger that was not migrated."""
    run(commands["release"].split(), environ)
    program, *arguments = commands["web"].split()
    run([program, "--check-config", *arguments], environ)


@pytest.mark.parametrize("name", ["worker", "courier"])
def test_consumer_of_the_procfile_empties_its_own_queue(
    commands: dict[str, str], environ: dict[str, str], name: str
) -> None:
    program, target = commands[name].split()
    assert program == "huey_consumer"
    assert run([sys.executable, "-c", CONSUMER_CODE, target], environ).split()[-1] == name


def read_install_requires() -> list[Requirement]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return [Requirement(line) for line in parser["options"]["install_requires"].split("\n") if line]


@pytest.mark.parametrize("requirement", read_install_requires(), ids=str)
def test_lock_satisfies_what_the_package_asks_for(requirement: Requirement, pins: dict[str, Version]) -> None:
    """`make lock` writes it."""
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_every_line_of_the_lock_is_pinned_with_hashes() -> None:
    text = re.sub(r"\\\n", " ", read_page("requirements.txt"))
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert lines
    assert [line for line in lines if not PIN.match(line) or "--hash=sha256:" not in line] == []
