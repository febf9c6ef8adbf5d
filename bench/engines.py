"""The databases under the service: SQLite inside it, or PostgreSQL and Valkey from pip as processes of their own."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redis import Redis

COMBINATIONS: Final = ("embedded", "production")
SECRET_KEY: Final = "a secret key that is long enough for benchmarks"


@dataclass(frozen=True, slots=True)
class Engines:
    """Databases that run: the processes that they are, and how to get an empty store in them.

    `create_store` gives the settings that lead to a new ledger, which is still to be migrated, and to a queue of its
    own. On SQLite they are empty: both are in THUMBS_DATA_DIR then.
    """

    pids: Mapping[str, int]
    create_store: Callable[[], dict[str, str]]


@contextmanager
def run_engines(combination: str, folder: Path) -> Iterator[Engines]:
    """Run the databases of a combination in a folder until the block ends; with "embedded" there are none to run."""
    if combination == "embedded":
        yield Engines({}, lambda: {"DATABASE_URL": "", "REDIS_URL": ""})
        return
    # Not at the top: importing it makes a folder in /tmp, and loads what the embedded run has no use for.
    from tests.support.engines import run_postgres, run_valkey  # noqa: PLC0415

    (folder / "postgres").mkdir()
    with run_postgres(folder / "postgres") as postgres, run_valkey() as valkey_url:
        numbers = itertools.count()

        def create_store() -> dict[str, str]:
            return {
                "DATABASE_URL": postgres.create_database(is_migrated=False),
                "REDIS_URL": choose_database(valkey_url, next(numbers)),
                "THUMBS_SECRET_KEY": SECRET_KEY,
            }

        pids = {"postgres": _read_postgres_pid(folder / "postgres"), "valkey": _ask_valkey_pid(valkey_url)}
        yield Engines(pids, create_store)


def choose_database(valkey_url: str, number: int) -> str:
    """Choose one of Valkey's 16 numbered databases."""
    return f"{valkey_url.rpartition('/')[0]}/{number}"


def _read_postgres_pid(folder: Path) -> int:
    return int((folder / "postmaster.pid").read_text(encoding="utf-8").split("\n", 1)[0])


def _ask_valkey_pid(url: str) -> int:
    with Redis.from_url(url) as client:
        told: dict[str, int] = client.info("server")
    return told["process_id"]
