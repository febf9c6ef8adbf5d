"""Alembic's entry: runs the migrations on the ledger's own engine."""

from typing import Final

from alembic import context
from sqlalchemy.engine import Connection

from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import metadata

LOCK_TIMEOUT_MS: Final = 10_000
"""PostgreSQL: longer than that a migration does not stand in the way of everybody, behind a transaction that hangs."""


def run() -> None:
    """Run the migrations that are due, inside one transaction."""
    engine = build_engine(context.config.attributes["database_url"])
    try:
        with engine.connect().execution_options(thumbs_writing=True) as connection, connection.begin():
            _take_time(connection)
            context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


def _take_time(connection: Connection) -> None:
    """Let statements take as long as it takes: writing to each row of a large ledger is not the stuck server."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")


run()
