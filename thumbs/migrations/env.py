"""Alembic's entry: runs the migrations on the ledger's own engine."""

from alembic import context

from thumbs.ledger.database import build_engine
from thumbs.ledger.tables import metadata


def run() -> None:
    """Run the migrations that are due, inside one transaction."""
    engine = build_engine(context.config.attributes["database_url"])
    try:
        with engine.connect().execution_options(thumbs_writing=True) as connection, connection.begin():
            context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
            with context.begin_transaction():
                context.run_migrations()
    finally:
        engine.dispose()


run()
