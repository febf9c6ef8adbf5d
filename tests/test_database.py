"""The lock that SQLite's writers queue behind: a courtesy, which a stuck process must not turn into a standstill."""

import fcntl
from pathlib import Path

import pytest

from tests.support.builders import NOW
from tests.support.ledgers import make_sqlite_ledger
from thumbs.errors import LedgerUnavailable


def test_writer_goes_on_without_a_lock_that_a_stuck_process_holds(tmp_path: Path) -> None:
    """It takes as long as SQLite itself would wait, 10 s."""
    ledger = make_sqlite_ledger(tmp_path)
    with (tmp_path / "ledger.db.lock").open("ab") as stuck:
        fcntl.flock(stuck, fcntl.LOCK_EX)
        ledger.upkeep.record_heartbeat("worker", NOW)
    assert ledger.upkeep.list_heartbeats() == {"worker": NOW}
    ledger.close()


def test_lock_file_that_cannot_be_opened_is_told_as_ours(tmp_path: Path) -> None:
    ledger = make_sqlite_ledger(tmp_path)
    (tmp_path / "ledger.db.lock").mkdir()
    with pytest.raises(LedgerUnavailable):
        ledger.upkeep.record_heartbeat("worker", NOW)
    ledger.close()
