"""Every backend of each protocol."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy.engine import Engine

from tests.support.engines import Postgres
from tests.support.ledgers import make_sqlite_ledger
from thumbs.ledger import Ledger
from thumbs.ledger.database import build_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where an empty, migrated ledger is, on each database."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return postgres.clear_database()
    make_sqlite_ledger(tmp_path).close()
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    """A migrated ledger, on each database."""
    with closing(Ledger(ledger_url)) as ledger:
        yield ledger


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    """An engine on the ledger's database, for tests that write what no method of it would."""
    engine = build_engine(ledger_url)
    yield engine
    engine.dispose()
