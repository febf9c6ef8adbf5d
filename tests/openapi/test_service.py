"""The running service keeps to its OpenAPI document: schemathesis sends what the document allows, and what it does not.

No answer is a 500; every status, header, media type and body is as documented; what is wrong is refused, what is right
is not; without a key there is no answer. How: schemathesis.toml.
"""

import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.stack import ROOT, Stack

SETTINGS = {"THUMBS_AUTH": "required", "THUMBS_RATE_LIMIT": "1000000/minute"}
COMMAND = (
    str(Path(sys.executable).with_name("schemathesis")),
    f"--config-file={Path(__file__).with_name('schemathesis.toml')}",
    "run",
    "--report-ndjson-path=report.ndjson",
)
RUN_SECONDS = 280
"""It takes half a minute on a machine that does nothing else."""


@dataclass(frozen=True, slots=True)
class Run:
    """What schemathesis found; `statuses` has the statuses that each operation answered with."""

    exit_status: int
    output: str
    statuses: dict[str, set[int]] = field(repr=False)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The whole service, which asks for a key."""
    with Stack(tmp_path_factory.mktemp("stack") / "var", **SETTINGS) as stack:
        yield stack


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything that schemathesis.toml asks for, once."""
    folder, key = tmp_path_factory.mktemp("schemathesis"), make_key(stack)
    told = {"THUMBS_URL": stack.url, "THUMBS_KEY": key, "THUMBS_OUTPUT_NAME": make_output(stack, key)}
    done = subprocess.run(
        [*COMMAND, f"{stack.url}/openapi.json"],
        cwd=folder,
        env=stack.environ | told | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    return Run(done.returncode, done.stdout + done.stderr, read_statuses(folder / "report.ndjson"))


def make_key(stack: Stack) -> str:
    """Make an account, and return its API key."""
    command = [sys.executable, "-m", "thumbs", "accounts", "create", "fuzzer"]
    done = subprocess.run(command, env=stack.environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    return next(word for word in done.stdout.split() if word.startswith("tk_"))


def make_output(stack: Stack, key: str) -> str:
    """Make a thumbnail, and return the name that `/t` and `/media` serve it under."""
    headers = {"Authorization": f"Bearer {key}", "Prefer": "wait=20"}
    body = {"source_url": stack.sample_url, "format": "jpeg"}
    job = stack.request("POST", "/v1/jobs", json=body, headers=headers).json()
    assert job["status"] == "succeeded", job
    return str(job["thumbnail"]["url"]).rpartition("/")[2]


def read_statuses(report: Path) -> dict[str, set[int]]:
    """Read with which statuses each operation has answered."""
    statuses = defaultdict(set)
    for line in report.read_text(encoding="utf-8").splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case_id, interaction in recorder.get("interactions", {}).items():
            case, response = recorder["cases"][case_id]["value"], interaction["response"]
            if response is not None:
                statuses[f"{case['method']} {case['path']}"].add(response["status_code"])
    return statuses


@pytest.mark.timeout(RUN_SECONDS + 60)
def test_answers_are_as_documented(run: Run) -> None:
    assert run.exit_status == 0, run.output


def test_every_operation_was_met_with_a_request_that_it_grants(stack: Stack, run: Run) -> None:
    paths = stack.request("GET", "/openapi.json").json()["paths"]
    told = {f"{method.upper()} {path}" for path, item in paths.items() for method in item if method != "parameters"}
    assert told - {name for name, statuses in run.statuses.items() if min(statuses) < 300} == set()


def test_service_has_logged_no_error(stack: Stack, run: Run) -> None:
    assert run.statuses
    assert "Traceback" not in stack.read_log()
