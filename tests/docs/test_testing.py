"""docs/testing.md: its project runs as printed, and it tells everything that the plugin has."""

import inspect
import re
from pathlib import Path

import pytest

from tests.docs.pages import list_blocks, read_files, read_page
from tests.testing.projects import run_project, write_project
from thumbs.domain import EventType
from thumbs.testing import ReceivedDelivery, SampleEvent, ThumbsServer, WebhookReceiver, plugin

PAGE = "testing.md"


def test_project_of_the_page_passes_its_tests(tmp_path: Path) -> None:
    files = read_files(PAGE)
    assert set(files) == {"receiver.py", "test_receiver.py", "test_outage.py", "conftest.py"}
    done = run_project(write_project(tmp_path, files))
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


def test_every_python_block_is_a_file_that_is_run() -> None:
    """Code that nothing runs is wrong sooner or later."""
    assert len(list_blocks(PAGE, "python")) == len(read_files(PAGE))


def test_page_has_every_type_of_event() -> None:
    told = re.search(r"EVENT_TYPES = \[(.*)\]", read_page(PAGE))
    assert told is not None
    assert re.findall(r'"(.*?)"', told[1]) == [str(kind) for kind in EventType]


def list_fixtures() -> list[str]:
    """List the fixtures of the plugin."""
    return [name for name, value in vars(plugin).items() if type(value).__name__ == "FixtureFunctionDefinition"]


def test_page_tells_every_fixture() -> None:
    assert len(list_fixtures()) == 5
    assert [name for name in list_fixtures() if f"| `{name}` |" not in read_page(PAGE)] == []


LOW_LEVEL = {"data_dir", "log_path", "port", "environ", "start", "stop", "kill", "list_pids", "read_log"}
"""What a ThumbsServer has for our own tests, which stop and kill it."""


@pytest.mark.parametrize("kind", [ReceivedDelivery, SampleEvent, ThumbsServer, WebhookReceiver])
def test_page_tells_every_public_member(kind: type[object]) -> None:
    public = {name for name in (*vars(kind), *getattr(kind, "__slots__", ())) if not name.startswith("_")}
    assert {name for name in public - LOW_LEVEL if not re.search(rf"`[^`]*\b{name}\b[^`]*`", read_page(PAGE))} == set()


@pytest.mark.parametrize("name", ["wait_for", "fail", "hang", "gone", "answer"])
def test_page_tells_the_arguments_as_they_are(name: str) -> None:
    told = re.search(rf"`{name}\((.*?)\)`", read_page(PAGE))
    assert told is not None
    names = list(inspect.signature(getattr(WebhookReceiver, name)).parameters)
    assert {part.split("=")[0] for part in told[1].split(", ")} == set(names) - {"self"}
