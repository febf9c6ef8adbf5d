"""The ledger's schema: from nothing to today's, repeatable, and without losing a row."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Engine

from tests.support.builders import record_ended_job
from tests.support.engines import Postgres
from thumbs.errors import LedgerUnavailable
from thumbs.ledger import SCHEMA_REVISION, Ledger
from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import metadata
from thumbs.migrations import build_config, upgrade


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        return postgres.create_database(is_migrated=False)
    return f"sqlite:///{tmp_path}/ledger.db"


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    """A ledger on that database."""
    with closing(Ledger(url)) as ledger:
        yield ledger


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """An engine on that database."""
    engine = build_engine(url)
    yield engine
    engine.dispose()


def list_revisions(url: str) -> list[str]:
    """List every revision, oldest first."""
    scripts = ScriptDirectory.from_config(build_config(url))
    return [script.revision for script in scripts.walk_revisions()][::-1]


def test_database_without_a_schema_has_no_revision(ledger: Ledger) -> None:
    assert ledger.upkeep.find_schema_revision() is None


def test_upgrade_from_nothing_gives_a_ledger_that_works(url: str, ledger: Ledger) -> None:
    upgrade(url)
    conclusion = record_ended_job(ledger)
    assert ledger.jobs.find(conclusion.job.id) == conclusion.job
    assert ledger.upkeep.find_schema_revision() == SCHEMA_REVISION


def test_upgrade_can_be_repeated_and_keeps_every_row(url: str, ledger: Ledger) -> None:
    upgrade(url)
    conclusion = record_ended_job(ledger)
    upgrade(url)
    assert ledger.jobs.find(conclusion.job.id) == conclusion.job
    assert ledger.deliveries.find_callback(conclusion.job.id) == conclusion.deliveries[0]


def test_upgrade_step_by_step_ends_where_the_whole_one_does(url: str, engine: Engine, ledger: Ledger) -> None:
    for revision in list_revisions(url):
        upgrade(url, revision)
        assert ledger.upkeep.find_schema_revision() == revision
    assert set(sa.inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}


def test_newest_revision_is_the_one_that_the_code_asks_for(url: str) -> None:
    assert list_revisions(url)[-1] == SCHEMA_REVISION


def test_migrated_schema_is_the_one_that_the_code_knows(url: str, engine: Engine) -> None:
    """Columns, types, indices and keys: whoever changes a table adds a migration."""
    upgrade(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []


def test_database_that_cannot_be_reached_is_told(tmp_path: Path) -> None:
    with closing(Ledger(f"sqlite:///{tmp_path}/no/such/folder/ledger.db")) as ledger, pytest.raises(LedgerUnavailable):
        ledger.upkeep.find_schema_revision()
