"""What PostgreSQL is asked for, statement by statement: it writes them into its log for a while, and we count."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psycopg

ENTRY: Final = re.compile(r"^\S+ \S+ \S+ \[(\d+)\] LOG:  (?:statement|execute [^:]+): (.*(?:\n\t.*)*)", re.MULTILINE)
"""An entry of the log as initdb sets it up: time, process, and the statement, whose further lines begin with a tab."""
TABLE: Final = re.compile(r"^(INSERT INTO|UPDATE|DELETE FROM|SELECT(?=.*?\sFROM\s+(\w+)))(?:\s+(\w+))?", re.DOTALL)
ENDS: Final = ("COMMIT", "ROLLBACK")


@dataclass(slots=True)
class Asked:
    """Statements by what they do to which table, and transactions; a statement outside of any is one of its own."""

    statements: Counter[str] = field(default_factory=Counter)
    transactions: int = 0


@contextmanager
def logging_statements(url: str) -> Iterator[None]:
    """Let the server log every statement until the block ends."""
    _configure(url, "all")
    try:
        yield
    finally:
        _configure(url, "none")


def read_size(log: Path) -> int:
    """Read how long the log is, to read on from there later."""
    return log.stat().st_size


def count_asked(log: Path, start: int, end: int) -> Asked:
    """Count what has been logged from there to there."""
    text = log.read_bytes()[start:end].decode("utf-8", "replace")
    asked, inside = Asked(), set()
    for pid, statement in ENTRY.findall(text):
        name = _name(statement)
        asked.statements[name] += 1
        if name == "BEGIN":
            inside.add(pid)
        elif name in ENDS:
            inside.discard(pid)
        asked.transactions += name != "BEGIN" and pid not in inside
    return asked


def _name(statement: str) -> str:
    """Name a statement by its verb and its table; SQLAlchemy's ping of a pooled connection is an empty one."""
    found = TABLE.match(statement)
    if found:
        return f"{found[1]} {found[2] or found[3]}"
    return statement.split(maxsplit=1)[0] if statement.strip("; \n") else "ping"


def _configure(url: str, value: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"ALTER SYSTEM SET log_statement = '{value}'".encode())
        connection.execute("SELECT pg_reload_conf()")
