"""Finds secrets in what a run of the service has left behind: files, tables, Redis, logs and answers, as bytes.

A place is a name and the bytes that are there. A secret is looked for as it is and in the other forms that it travels
in, so that what is merely encoded does not pass for hidden.
"""

import base64
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
from psycopg.sql import SQL, Identifier
from redis import Redis

from thumbs.keys import parse_key
from thumbs.signing import SECRET_PREFIX, parse_secret

AROUND_BYTES: Final = 60
"""How much is shown on either side of a find."""
END_OF_BLOCK: Final = "the end of what is listened to"


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret by what it is; `is_data` marks what the ledger and answers hold by right, such as the query of a URL."""

    name: str
    text: str
    is_data: bool = False

    def list_forms(self) -> set[bytes]:
        """List what it looks like: as text, in a URL, in base64, in hex; of a key its secret part, of ours the key."""
        parts = {self.text.encode()}
        presented = parse_key(self.text)
        if presented is not None:
            parts.add(presented.secret.encode())
        if self.text.startswith(SECRET_PREFIX):
            parts.add(self.text.removeprefix(SECRET_PREFIX).encode())
            with suppress(ValueError):  # It is none.
                parts.add(parse_secret(self.text))
        encoded = {base64.b64encode(part).rstrip(b"=") for part in parts} | {part.hex().encode() for part in parts}
        return parts | encoded | {quote(part, safe="").encode() for part in parts}


def find_secrets(secrets: Iterable[Secret], places: Mapping[str, bytes]) -> list[str]:
    """Find every place that holds a secret, and tell which and where in it."""
    return [
        f"{secret.name} in {place}: {_quote(content, form)}"
        for secret in secrets
        for place, content in places.items()
        for form in sorted(secret.list_forms())
        if form in content
    ]


def read_files(folder: Path) -> dict[str, bytes]:
    """Read every file of a folder, byte for byte; a FIFO is none."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def read_postgres(url: str) -> dict[str, bytes]:
    """Read every table of a database, bytes as they are and all else as text."""
    with psycopg.connect(url) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {name: _join(connection.execute(SQL("SELECT * FROM {}").format(Identifier(name)))) for (name,) in tables}


def read_redis(client: Any) -> dict[str, bytes]:
    """Read every key of a database with all that is under it."""
    readers: dict[bytes, Callable[[bytes], Iterable[bytes]]] = {
        b"string": lambda key: [client.get(key)],
        b"list": lambda key: client.lrange(key, 0, -1),
        b"set": client.smembers,
        b"zset": lambda key: client.zrange(key, 0, -1),
        b"hash": lambda key: [part for pair in client.hgetall(key).items() for part in pair],
    }
    return {key.decode(): key + b"\n" + b"\n".join(readers[client.type(key)](key)) for key in client.scan_iter()}


class RedisMonitor:
    """Every command that a Redis server has been given, as its MONITOR shows them, which leaves out AUTH's words."""

    def __init__(self) -> None:
        self.commands: list[str] = []

    @contextmanager
    def listening(self, url: str) -> Iterator[None]:
        """Listen until the block ends."""
        # Nobody may say anything for a while.
        with Redis.from_url(url, socket_timeout=None) as client, client.monitor() as monitor:
            thread = threading.Thread(target=self._listen, args=(monitor,), daemon=True)
            thread.start()
            try:
                yield
            finally:
                client.echo(END_OF_BLOCK)
                thread.join()

    def _listen(self, monitor: Any) -> None:
        while not self.commands or END_OF_BLOCK not in self.commands[-1]:
            self.commands.append(monitor.next_command()["command"])


def _join(rows: Iterable[Iterable[Any]]) -> bytes:
    return b"\n".join(value if isinstance(value, bytes) else str(value).encode() for row in rows for value in row)


def _quote(content: bytes, form: bytes) -> str:
    at = content.index(form)
    return repr(content[max(0, at - AROUND_BYTES) : at + len(form) + AROUND_BYTES])
