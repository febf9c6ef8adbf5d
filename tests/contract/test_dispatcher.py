"""The Dispatcher of tasks.py over real queues: an id in, a signed message out, on its schedule until it is due."""

import importlib.util
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from sqlite3 import connect
from typing import Any

import pytest

from tests.support.servers import SourceServer
from tests.support.services import SECRET_KEY
from thumbs.errors import QueueUnavailable
from thumbs.protocols import Dispatcher

Load = Callable[..., Any]
ROOT = Path(__file__).parents[2]
OURS = ("THUMBS_", "DATABASE_URL", "REDIS_URL", "PORT", "WEB_CONCURRENCY")


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Give this process just these settings until the block ends: tasks.py reads them when it is imported."""
    kept = dict(os.environ)
    for name in [name for name in kept if name.startswith(OURS)]:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def load_tasks(folder: Path, **variables: str) -> Any:
    """Import tasks.py afresh, with queues in a folder or wherever the variables say."""
    spec = importlib.util.spec_from_file_location("tasks_under_test", ROOT / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with environment(THUMBS_DATA_DIR=str(folder), **{"THUMBS_SECRET_KEY": SECRET_KEY, **variables}):
        spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["sqlite", "redis"])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    """Where the queues are."""
    return {"REDIS_URL": request.getfixturevalue("valkey_url")} if request.param == "redis" else {}


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Import tasks.py as a process of its own would, with queues in one folder; they are closed at the end."""
    loaded: list[Any] = []

    def load_one(**variables: str) -> Any:
        loaded.append(load_tasks(tmp_path, **variables))
        return loaded[-1]

    yield load_one
    for tasks in loaded:
        tasks.images.storage.close()
        tasks.webhooks.storage.close()


@pytest.fixture
def tasks(load: Load, variables: dict[str, str]) -> Any:
    """tasks.py over empty queues."""
    tasks = load(**variables)
    for queue in (tasks.images, tasks.webhooks):
        queue.flush()
    return tasks


def now(**after: float) -> datetime:
    """Tell the time as Huey has it: UTC without a time zone."""
    return datetime.now(UTC).replace(tzinfo=None) + timedelta(**after)


def test_dispatcher_is_one(tasks: Any) -> None:
    dispatcher: Dispatcher = tasks.dispatcher
    for name in (name for name in vars(Dispatcher) if not name.startswith("_")):
        assert callable(getattr(dispatcher, name))


def test_job_is_taken_off_the_images_queue(tasks: Any) -> None:
    tasks.dispatcher.process("job_1")
    task = tasks.images.dequeue()
    assert (task.name, task.args, tasks.webhooks.pending_count()) == ("process", ("job_1",), 0)


def test_delivery_is_taken_off_the_webhooks_queue(tasks: Any) -> None:
    tasks.dispatcher.deliver("dlv_1")
    task = tasks.webhooks.dequeue()
    assert (task.name, task.args, tasks.images.pending_count()) == ("deliver", ("dlv_1",), 0)


def test_messages_are_taken_in_their_order(tasks: Any) -> None:
    for number in range(3):
        tasks.dispatcher.process(f"job_{number}")
    assert [tasks.images.dequeue().args[0] for _ in range(3)] == ["job_0", "job_1", "job_2"]


def test_same_id_twice_is_two_messages(tasks: Any) -> None:
    """A message is a hint: that there is one run is the ledger's matter."""
    for _ in range(2):
        tasks.dispatcher.process("job_1")
    assert tasks.images.pending_count() == 2


@pytest.mark.parametrize(("queue", "method"), [("images", "process"), ("webhooks", "deliver")])
def test_delayed_message_is_on_the_schedule_and_not_before_its_time(tasks: Any, queue: str, method: str) -> None:
    getattr(tasks.dispatcher, method)("id_1", 30.5)
    its_queue = getattr(tasks, queue)
    assert (its_queue.pending_count(), its_queue.scheduled_count()) == (0, 1)
    assert its_queue.read_schedule(now(seconds=30)) == []
    [task] = its_queue.read_schedule(now(seconds=31))
    assert task.args == ("id_1",)


def test_message_holds_nothing_but_the_id(tasks: Any) -> None:
    """Whoever reads the queue learns neither a URL nor a secret."""
    tasks.dispatcher.process("job_1")
    data = tasks.images.storage.dequeue()
    message = tasks.images.serializer.deserialize(data)
    assert (message.args, message.kwargs, message.retries, message.on_complete) == (("job_1",), {}, 0, None)
    assert SECRET_KEY.encode() not in data


def test_tampered_message_is_refused(tasks: Any) -> None:
    """Huey's messages are pickles: writing to the queue must not be running code here."""
    tasks.dispatcher.process("job_1")
    data = tasks.images.storage.dequeue().replace(b"job_1", b"job_2")
    tasks.images.storage.enqueue(data)
    with pytest.raises(ValueError, match="mismatch"):
        tasks.images.dequeue()


def test_message_that_was_signed_with_another_key_is_refused(tasks: Any, load: Load, variables: dict[str, str]) -> None:
    stranger = load(**variables, THUMBS_SECRET_KEY="another key of at least 32 characters")
    stranger.dispatcher.process("job_1")
    with pytest.raises(ValueError, match="mismatch"):
        tasks.images.dequeue()


def test_message_outlives_its_process(tasks: Any, load: Load, variables: dict[str, str]) -> None:
    tasks.dispatcher.process("job_1")
    tasks.dispatcher.process("job_2", 60)
    later = load(**variables)
    assert later.images.dequeue().args == ("job_1",)
    assert [task.args for task in later.images.scheduled()] == [("job_2",)]


def test_dispatcher_counts_what_waits(tasks: Any) -> None:
    """Also a job that is to wait: a source that hangs must not make the queue look short."""
    for number in range(2):
        tasks.dispatcher.process(f"job_{number}")
    tasks.dispatcher.process("job_2", 60)
    tasks.dispatcher.deliver("dlv_1")
    assert (tasks.dispatcher.count_jobs(), tasks.dispatcher.count_deliveries()) == (3, 1)


def test_dispatcher_tells_since_when_the_next_message_about_a_job_waits(tasks: Any) -> None:
    assert tasks.dispatcher.find_oldest_job_at() is None
    before = datetime.now(UTC)
    tasks.dispatcher.process("job_1")
    between = datetime.now(UTC)
    tasks.dispatcher.process("job_2")
    assert before <= tasks.dispatcher.find_oldest_job_at() <= between
    tasks.images.dequeue()
    assert between <= tasks.dispatcher.find_oldest_job_at() <= datetime.now(UTC)


def test_message_of_an_older_release_counts_as_older_than_any_job(tasks: Any) -> None:
    """It does not tell since when it waits: what was dispatched after it is not taken for lost."""
    tasks.images.enqueue(tasks.process_job.s("job_1"))
    assert tasks.dispatcher.find_oldest_job_at() == datetime.fromtimestamp(0, UTC)


def break_sqlite(folder: Path) -> None:
    """Take the tables away under the queues, as a disk that fails would."""
    for path in folder.glob("*.db"):
        with connect(path) as connection:
            for table in ("task", "schedule"):
                connection.execute(f"DROP TABLE {table}")
        connection.close()


@pytest.mark.parametrize("delay_seconds", [0, 5])
def test_sqlite_that_fails_is_told_as_ours(load: Load, tmp_path: Path, delay_seconds: float) -> None:
    tasks = load()
    break_sqlite(tmp_path)
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.process("job_1", delay_seconds)
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.deliver("dlv_1", delay_seconds)
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.count_jobs()


def test_redis_that_is_down_is_told_as_ours_and_does_not_stop_the_start(load: Load) -> None:
    tasks = load(REDIS_URL="redis://127.0.0.1:1/0")
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.process("job_1")
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.deliver("dlv_1", 5)
    with pytest.raises(QueueUnavailable):
        tasks.dispatcher.count_deliveries()


def test_message_wakes_a_consumer_of_another_process(load: Load) -> None:
    """The bell: with half a minute between two looks, a message is taken at once all the same."""
    consumer, web = load(), load()
    consumer.POLL_SECONDS = consumer.LISTEN_SECONDS = 30
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(consumer.images.dequeue)
        web.dispatcher.process("job_1")
        assert taken.result(timeout=10).args == ("job_1",)


def test_message_is_found_without_a_bell(load: Load, tmp_path: Path) -> None:
    """A file system without FIFOs has none: something else is in its place here."""
    for name in ("images", "webhooks"):
        (tmp_path / f"{name}.db.bell").mkdir()
    tasks = load()
    tasks.dispatcher.process("job_1")
    assert tasks.images.dequeue().args == ("job_1",)


def test_queue_that_hangs_is_not_asked_again_for_a_moment(load: Load) -> None:
    """Else each request would wait for it."""
    with SourceServer() as silent:
        tasks = load(REDIS_URL=f"redis://127.0.0.1:{silent.port}/0")
        with pytest.raises(QueueUnavailable):
            tasks.dispatcher.process("job_1")
        connection_count = silent.connection_count
        with pytest.raises(QueueUnavailable):
            tasks.dispatcher.process("job_2")
        assert silent.connection_count == connection_count > 0
