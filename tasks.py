"""The queue: two Huey instances, a Dispatcher over them, and the thin tasks: an id in, a use case called.

`huey_consumer tasks.images` is the worker, `huey_consumer tasks.webhooks` the courier. Huey takes a message off the
queue before it runs it, so a message is only a hint: state, retries and delays are the ledger's (docs/architecture.md).
Huey's own retries and results are not used.
"""

import contextlib
import logging
import os
import re
import select
import signal
import sqlite3
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cached_property
from types import FrameType
from typing import Any, Final, TypeVar

from huey import Huey
from huey.consumer import Consumer
from huey.serializer import SignedSerializer
from huey.storage import PriorityRedisStorage, SqliteStorage
from redis import ConnectionPool, RedisError

from thumbs.cautions import list_cautions
from thumbs.deliver import deliver, dispatch_startable
from thumbs.errors import QueueUnavailable, SettingsError, UnavailableError
from thumbs.preparation import forget_secrets, prepare
from thumbs.process import process
from thumbs.services import Services, build, check_ledger
from thumbs.settings import Settings, read_settings
from thumbs.sweep import sweep
from thumbs.telemetry import configure_logging

POLL_SECONDS: Final = 0.1
"""Between two looks at an empty SQLite queue, should nobody ring."""
LISTEN_SECONDS: Final = 0.5
"""How long a thread waits for a message before it looks whether it is to stop."""
STOP_SECONDS: Final = 20
"""How long work in flight may take to finish after the first SIGTERM; platforms kill after 30 s."""

REDIS_TIMEOUT_SECONDS: Final = 2
"""A Redis that hangs is given up after that, or twice that when a connection broke before: redis-py opens another one.

It must be more than Huey's blocking pop, which is 1 s.
"""
LOOK_SECONDS: Final = 0.5
"""Between two looks of a courier for deliveries that may start: so late at most is what was held back until now."""
BREAK_SECONDS: Final = 2.0
"""How long a queue that failed is not asked again; what is not dispatched meanwhile, the sweep dispatches."""
UNAVAILABLE_PAUSE_SECONDS: Final = 1.0
STORAGE_ERRORS: Final = (sqlite3.Error, RedisError, OSError)

_PUT: Final = "INSERT INTO task (queue, data, priority) VALUES (?, ?, 0)"
_HAS_ANY: Final = "SELECT 1 FROM task WHERE queue = ? LIMIT 1"
_FIRST: Final = "SELECT id FROM task WHERE queue = ? ORDER BY priority DESC, id LIMIT 1"
_TAKE: Final = f"DELETE FROM task WHERE id = ({_FIRST}) RETURNING data"

_TASK_ID = re.compile(r"(\d{16})\.[0-9a-f]{32}")
T = TypeVar("T")

logger = logging.getLogger(__name__)


class QueueConsumer(Consumer):
    """A consumer that finishes its work on the first SIGTERM or SIGINT, ignores further ones, and sweeps."""

    huey: "Queue"

    def start(self) -> None:
        """Start the threads, the decoders where this is the worker, and the sweep."""
        _exit_unless_usable(self.huey.services)
        if self.huey is images:
            forget_secrets(os.environ)
            self.huey.services.sandbox.start()
        for caution in list_cautions(self.huey.settings):
            logger.warning(caution)
        self.huey.is_stopping = self.stop_flag
        threading.Thread(target=self._sweep_until_stopped, name="Sweep", daemon=True).start()
        if self.huey is webhooks:
            threading.Thread(target=self._look_until_stopped, name="Look", daemon=True).start()
        super().start()
        logger.info("%s started", self.huey.process_name)

    def run(self) -> None:
        """Run until stopped, then close what was opened."""
        try:
            super().run()
        finally:
            self.huey.services.held_leases.give_back_all()
            self.huey.services.tally.flush()
            self.huey.services.close()
            logger.info("%s stopped", self.huey.process_name)

    def _set_signal_handlers(self) -> None:
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(signum, self._handle_signal)

    def _handle_signal(self, signum: int, _frame: FrameType | None) -> None:
        """Stop gracefully; Heroku may send SIGTERM more than once, and the second one must not interrupt the work."""
        self._signum, self._restart, self._graceful = signum, False, True

    def _sweep_until_stopped(self) -> None:
        services = self.huey.services
        while True:
            try:
                services.tally.flush()
                sweep(services, self.huey.process_name)
            except UnavailableError:
                logger.warning("the sweep could not be made, the next one will be")
            except Exception:
                logger.exception("the sweep failed")
            if self.stop_flag.wait(services.settings.sweep_seconds):
                return

    def _look_until_stopped(self) -> None:
        """Dispatch deliveries that may start: time has passed, or their messages are gone."""
        while not self.stop_flag.wait(LOOK_SECONDS):
            try:
                dispatch_startable(self.huey.services)
            except UnavailableError:
                self.stop_flag.wait(UNAVAILABLE_PAUSE_SECONDS)
            except Exception:
                logger.exception("looking for deliveries failed")
                self.stop_flag.wait(UNAVAILABLE_PAUSE_SECONDS)


class RingingSqliteStorage(SqliteStorage):
    """A SQLite queue that wakes its consumers: who enqueues rings a bell, a FIFO beside the file, to which they listen.

    One thread of a consumer listens, the others wait for their turn. With each of 8 + 32 threads polling on its own, a
    webhook came 42 ms after its POST and the courier used 5 % of a core at rest; with the bell 33 ms and 0.4 %. The
    bell is a hint, too: a message that nobody heard of is found after POLL_SECONDS. A message is put and taken by one
    statement, which is a transaction: Huey's own are three and five.
    """

    blocking = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._turn = threading.Lock()
        self._bell = _open_bell(f"{self.filename}.bell")

    def enqueue(self, data: bytes, priority: float | None = None) -> None:  # noqa: ARG002  Ours have none.
        """Write a message and ring."""
        self._run(_PUT, self.name, data)
        for bell in self._bell:
            with contextlib.suppress(BlockingIOError):  # Full: it has been ringing for long.
                os.write(bell, b"!")

    def dequeue(self) -> bytes | None:
        """Take a message, waiting for one for up to LISTEN_SECONDS."""
        if not self._turn.acquire(timeout=LISTEN_SECONDS):
            return None
        try:
            return self._listen()
        finally:
            self._turn.release()

    def queue_size(self) -> int:
        """Count the messages: their numbers are given and taken in order, so the first and the last one tell."""
        query = "SELECT coalesce((SELECT max(id) FROM task) - (SELECT min(id) FROM task) + 1, 0)"
        return int(self.sql(query, results=True)[0][0])

    def close(self) -> bool:
        """Close the file and the bell; the file is opened again when it is needed, and then looked at by polling."""
        for bell in self._bell:
            os.close(bell)
        self._bell = []
        return bool(super().close())

    def _listen(self) -> bytes | None:
        until = time.monotonic() + LISTEN_SECONDS
        while True:
            data = self._take()
            if data is not None or time.monotonic() >= until:
                return data
            for bell in select.select(self._bell, [], [], POLL_SECONDS)[0]:
                with contextlib.suppress(BlockingIOError):  # Another consumer was quicker.
                    os.read(bell, 4096)

    def _take(self) -> bytes | None:
        """Take the first message; whether there is one is asked before, since that needs no lock."""
        taken = self._run(_TAKE, self.name) if self._run(_HAS_ANY, self.name) else []
        return taken[0][0] if taken else None

    def _run(self, statement: str, *values: str | bytes) -> list[Any]:
        with self.lock:
            found: list[Any] = self.conn.execute(statement, values).fetchall()
            return found


def _open_bell(path: str) -> list[int]:
    """Open the FIFO for both ends, so that neither waits for the other; none where the file system has no FIFOs."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkfifo(path, 0o600)
        return [os.open(path, os.O_RDWR | os.O_NONBLOCK)]
    except OSError:
        return []


class Queue(Huey):
    """One of the two queues; `process_name` is the Procfile's name of the process that empties it."""

    def __init__(self, name: str, settings: Settings, *, process_name: str, threads: int) -> None:
        self.settings, self.process_name, self.threads = settings, process_name, threads
        self.is_stopping = threading.Event()
        super().__init__(
            f"thumbs-{name}",
            results=False,
            serializer=SignedSerializer(secret=settings.secret_key),
            **_choose_storage(settings, name),
        )

    @cached_property
    def services(self) -> Services:
        """The services of this process; built when its consumer starts."""
        return build(self.settings, dispatcher)

    def is_revoked(self, *_arguments: Any, **_options: Any) -> bool:
        """Tell that nothing is: Huey would ask the storage about each task it has popped, and lose it to an error."""
        return False

    def delete(self, _key: str) -> bool:
        """Clear nothing: Huey would write to the storage after each task, to forget that it was revoked."""
        return False

    def create_consumer(self, **_options: Any) -> QueueConsumer:
        """Create the consumer that the settings describe; huey_consumer's own options are not used."""
        configure_logging(self.settings.log_format, self.settings.log_level)
        return QueueConsumer(
            self,
            workers=self.threads,
            periodic=False,
            initial_delay=POLL_SECONDS,
            backoff=1.0,
            max_delay=POLL_SECONDS,
            shutdown_timeout=STOP_SECONDS,
            graceful_signal="TERM",
        )


class HueyDispatcher:
    """Puts ids on the two queues (see thumbs.protocols.Dispatcher). Thread-safe.

    A queue that failed is not asked again for a moment: one that hangs would hold each caller for seconds.
    """

    def __init__(self) -> None:
        self._asks_again_at = 0.0

    def process(self, job_id: str, delay_seconds: float = 0) -> None:
        """Ask for one run of the job, not before the delay has passed."""
        self._enqueue(images, process_job, job_id, delay_seconds)

    def deliver(self, delivery_id: str, delay_seconds: float = 0) -> None:
        """Ask for one attempt of the delivery, not before the delay has passed."""
        self._enqueue(webhooks, attempt_delivery, delivery_id, delay_seconds)

    def count_jobs(self) -> int:
        """Count the messages about jobs that wait, for their turn or for their time."""
        with self._asking():
            return int(images.pending_count() + images.scheduled_count())

    def find_oldest_job_at(self) -> datetime | None:
        """Find since when the message about a job that is next in line has been there; None when none waits.

        One without a moment, of an older release, counts as the oldest that there can be.
        """
        with self._asking():
            return next((_read_moment(task.id) for task in images.pending(limit=1)), None)

    def count_deliveries(self) -> int:
        """Count the messages about deliveries that wait."""
        with self._asking():
            return int(webhooks.pending_count())

    def _enqueue(self, queue: Queue, task: Any, row_id: str, delay_seconds: float) -> None:
        """Put a message on the queue, or on its schedule. After an error it may or may not have arrived."""
        task_id = _name_task(time.time() + delay_seconds)
        with self._asking():
            if delay_seconds > 0:
                queue.add_schedule(task.s(row_id, id=task_id, delay=delay_seconds))
            else:
                queue.enqueue(task.s(row_id, id=task_id))

    @contextlib.contextmanager
    def _asking(self) -> Iterator[None]:
        if time.monotonic() < self._asks_again_at:
            raise QueueUnavailable("the queue did not answer a moment ago")
        try:
            yield
        except STORAGE_ERRORS as error:
            self._asks_again_at = time.monotonic() + BREAK_SECONDS
            raise QueueUnavailable("the queue does not answer") from error


def _name_task(moment: float) -> str:
    """Name a message, beginning with the microsecond since 1970 at which it is put on the queue."""
    return f"{int(moment * 1_000_000):016d}.{uuid.uuid4().hex}"


def _read_moment(task_id: str) -> datetime:
    moment = _TASK_ID.fullmatch(task_id)
    return datetime.fromtimestamp(int(moment[1]) / 1_000_000 if moment else 0, UTC)


def _choose_storage(settings: Settings, name: str) -> dict[str, Any]:
    """Choose Redis where there is one, else a SQLite file per queue; nothing is connected to Redis yet."""
    if settings.redis_url is None:
        return {"storage_class": RingingSqliteStorage, "filename": str(settings.data_dir / f"{name}.db")}
    pool = ConnectionPool.from_url(
        settings.redis_url,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )
    return {"storage_class": PriorityRedisStorage, "connection_pool": pool}


def _exit_unless_usable(services: Services) -> None:
    try:
        check_ledger(services)
    except SettingsError as error:
        sys.exit(f"thumbs: {error}")


def _read_settings() -> Settings:
    try:
        return prepare(read_settings(os.environ, is_terminal=sys.stdout.isatty()))
    except SettingsError as error:
        sys.exit(f"thumbs: {error}")


settings = _read_settings()
dispatcher = HueyDispatcher()
images = Queue("images", settings, process_name="worker", threads=settings.worker_threads)
webhooks = Queue("webhooks", settings, process_name="courier", threads=settings.courier_threads)


@images.task(name="process", retries=0)
def process_job(job_id: str) -> None:
    """Run one job."""
    _call(process, images, job_id)


@webhooks.task(name="deliver", retries=0)
def attempt_delivery(delivery_id: str) -> None:
    """Make one delivery attempt, and one of each delivery that is next in line."""
    next_id: str | None = delivery_id
    while next_id is not None:
        next_id = _call(deliver, webhooks, next_id)


def _call(use_case: Callable[[Services, str], T], queue: Queue, row_id: str) -> T | None:
    """Call a use case with an id. While the ledger does not answer, wait: there is nothing else to do."""
    while not queue.is_stopping.is_set():
        try:
            return use_case(queue.services, row_id)
        except UnavailableError as error:
            logger.warning("%s: waiting for it", error)
            queue.is_stopping.wait(UNAVAILABLE_PAUSE_SECONDS)
        except Exception:
            logger.exception("a task failed: the sweep takes it up again", extra={"id": row_id})
            return None
    return None
