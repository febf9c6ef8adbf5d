"""The plugin in somebody else's project: it is found, it is light, it does not mind strictness, and it helps."""

import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.testing.projects import TIMEOUT_SECONDS, list_arguments, run_project, write_project
from thumbs import testing

OTHER_SECRET: Final = "whsec_" + "B" * 44
NOTHING: Final = "def test_nothing() -> None:\n    pass\n"
FULL: Final = """
def test_everything(thumbs_server, webhook_receiver, webhook_sample):
    thumbs_server.submit(source_url=thumbs_server.sample_url, callback_url=webhook_receiver.url)
    webhook_receiver.wait_for(type="job.succeeded")
    assert webhook_sample("ping").send(webhook_receiver.url) == 200
"""
OVERRIDING: Final = f"""
import pytest

@pytest.fixture(scope="session")
def thumbs_settings():
    return {{"THUMBS_MAX_SOURCE_BYTES": "1024"}}

@pytest.fixture
def webhook_secret():
    return {OTHER_SECRET!r}
"""
OVERRIDDEN: Final = f"""
def test_setting(thumbs_server):
    job = thumbs_server.wait_for_job(thumbs_server.submit(source_url=thumbs_server.sample_url)["id"])
    assert job["error"]["code"] == "source_too_large"

def test_secret(webhook_receiver, webhook_sample):
    assert webhook_receiver.secret == {OTHER_SECRET!r}
    assert webhook_sample("ping").send(webhook_receiver.url) == 200
"""


def test_plugin_loads_next_to_nothing_until_it_is_used(tmp_path: Path) -> None:
    """It is imported whenever pytest starts, in every environment where thumbs is installed."""
    looking = """
import sys

def list_ours():
    return {name for name in sys.modules if name.split(".")[0] in ("thumbs", "tasks", "wsgi")}

def test_plugin_alone():
    assert list_ours() == {"thumbs", "thumbs.testing", "thumbs.testing.plugin"}

def test_service_runs_elsewhere(thumbs_server, webhook_receiver, webhook_sample):
    webhook_sample("ping")
    assert not list_ours() & {"thumbs.cli", "thumbs.ledger", "thumbs.outbound", "thumbs.services", "thumbs.web"}
    assert not {"flask", "huey", "PIL", "requests", "sqlalchemy"} & set(sys.modules)
"""
    folder = write_project(tmp_path, {"test_light.py": looking})
    # Without the plugins of others, which may load what they like.
    done = run_project(folder, "-p", "thumbs.testing.plugin", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert done.returncode == 0, done.stdout


def test_fixtures_are_listed_with_what_they_are_for(tmp_path: Path) -> None:
    done = run_project(write_project(tmp_path, {"test_nothing.py": NOTHING}), "--fixtures")
    for name in ("thumbs_server", "thumbs_settings", "webhook_receiver", "webhook_sample", "webhook_secret"):
        [told] = [line for line in done.stdout.splitlines() if line.split(" ")[0] == name]
        assert "thumbs/testing/plugin.py" in told
    assert "no docstring" not in done.stdout.partition("fixtures defined from thumbs.testing.plugin")[2]


def test_two_runs_at_once_do_not_meet(tmp_path: Path) -> None:
    """As the workers of pytest-xdist: each has a server, a port and directories of its own. Both are strict."""
    folders = [write_project(tmp_path / name, {"test_full.py": FULL}) for name in ("one", "two")]
    runs = [
        subprocess.Popen(list_arguments("--basetemp", str(each / "temporary")), cwd=each, stdout=subprocess.PIPE)
        for each in folders
    ]
    outputs = [run.communicate(timeout=TIMEOUT_SECONDS)[0].decode() for run in runs]
    assert [run.returncode for run in runs] == [0, 0], outputs


def test_settings_and_secret_can_be_overridden(tmp_path: Path) -> None:
    done = run_project(write_project(tmp_path, {"conftest.py": OVERRIDING, "test_theirs.py": OVERRIDDEN}))
    assert done.returncode == 0, done.stdout


def test_log_of_the_server_is_shown_with_a_test_that_fails_and_no_other(tmp_path: Path) -> None:
    tests = """
def test_good(thumbs_server):
    pass

def test_bad(thumbs_server):
    job = thumbs_server.submit(source_url=thumbs_server.sample_url)
    assert thumbs_server.wait_for_job(job["id"])["status"] == "failed"

def test_unrelated():
    assert False
"""
    done = run_project(write_project(tmp_path, {"test_theirs.py": tests}))
    assert "1 passed" in done.stdout
    assert "2 failed" in done.stdout
    assert done.stdout.count("log of thumbs_server") == 1
    assert "job ended" in done.stdout


def test_wait_for_that_fails_points_at_the_test(tmp_path: Path) -> None:
    """Our own lines are of no interest to those who read it."""
    tests = """
def test_missing(webhook_receiver):
    webhook_receiver.wait_for(timeout_seconds=0.01)  # here
"""
    done = run_project(write_project(tmp_path, {"test_theirs.py": tests}))
    assert ">       webhook_receiver.wait_for(timeout_seconds=0.01)  # here" in done.stdout
    assert "thumbs/testing/receiver.py" not in done.stdout


@pytest.mark.parametrize("name", testing.__all__)
def test_package_can_be_used_without_pytest(name: str) -> None:
    """By unittest, or by a script."""
    code = f"import sys; from thumbs.testing import {name}; sys.exit('pytest' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_package_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'sample_events'"):
        testing.sample_events  # type: ignore[attr-defined]  # noqa: B018
