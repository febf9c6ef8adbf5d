"""What a process counts reaches the ledger, once, and is added to what the others have counted."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from thumbs.ledger import Ledger
from thumbs.metrics import JOBS_ENDED, STAGE_SECONDS
from thumbs.migrations import upgrade
from thumbs.tally import Tally


def read(ledger: Ledger) -> dict[tuple[str, str], float]:
    """Read the counts, by name and by the values of their labels."""
    counts = ledger.counts.list_all()
    return {(name, ",".join(json.loads(labels).values())): value for name, labels, value in counts}


def count(tally: Tally, times: int = 1) -> None:
    for _ in range(times):
        tally.count(JOBS_ENDED, status="failed", code="expired", reused="")


NAME = ("thumbs_jobs_ended_total", "expired,,failed")


def test_counts_of_all_processes_are_added_up(ledger: Ledger) -> None:
    for times in (2, 3):
        tally = Tally(ledger)
        count(tally, times)
        tally.flush()
    assert read(ledger) == {NAME: 5}


def test_what_was_written_is_not_written_again(ledger: Ledger) -> None:
    tally = Tally(ledger)
    count(tally)
    tally.flush()
    tally.flush()
    assert read(ledger) == {NAME: 1}


def test_counts_wait_for_a_ledger_that_does_not_answer(tmp_path: Path) -> None:
    """It has no tables yet."""
    url = f"sqlite:///{tmp_path}/ledger.db"
    with closing(Ledger(url)) as ledger:
        tally = Tally(ledger)
        count(tally)
        tally.flush()
        count(tally)
        upgrade(url)
        tally.flush()
        assert read(ledger) == {NAME: 2}


@pytest.mark.parametrize(("seconds", "bucket"), [(0, "0.005"), (0.005, "0.005"), (0.0051, "0.01"), (31, "+Inf")])
def test_value_is_counted_in_the_smallest_bucket_that_holds_it(ledger: Ledger, seconds: float, bucket: str) -> None:
    tally = Tally(ledger)
    tally.observe(STAGE_SECONDS, seconds, stage="fetched")
    tally.flush()
    assert read(ledger) == {
        ("thumbs_job_stage_seconds_bucket", f"{bucket},fetched"): 1,
        ("thumbs_job_stage_seconds_sum", "fetched"): seconds,
    }
