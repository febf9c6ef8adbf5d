"""What RQ and Celery run for us: the bare work of a job as most write it, their workers, and who enqueues.

`python -m bench.queues_python enqueue NAME REDIS_URL` reads a job per line, the URLs of its source and its callback;
`… work NAME REDIS_URL` runs two workers. `bench.queues` starts both. RQ and Celery are as they come: no ledger, no
signature, no retries, no sandbox, and nothing is kept of the thumbnail.
"""

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, Final

import requests
from PIL import Image, ImageOps

from bench.load import BARE

SIDE_PX: Final = 100
DRAFT_PX: Final = SIDE_PX * 3 // 2
QUALITY: Final = 80
WORKERS: Final = 2
TIMEOUT_SECONDS: Final = 10
TASK: Final = "bench.queues_python.do_bare_work"

Enqueue = Callable[[str, str], object]
"""From a source's URL and a callback's."""


def make_small(body: bytes) -> bytes:
    """Make a thumbnail of 100x100 with Pillow: the cheap decode of JPEG, one resize, and nothing that is rare."""
    image: Image.Image = Image.open(BytesIO(body))
    image.draft("RGB", (DRAFT_PX, DRAFT_PX))
    image = ImageOps.fit(image.convert("RGB"), (SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def do_bare_work(source_url: str, callback_url: str) -> None:
    """Fetch, make the thumbnail, and tell."""
    thumbnail = make_small(requests.get(source_url, timeout=TIMEOUT_SECONDS).content)
    event = {"type": BARE, "source_url": source_url, "thumbnail_bytes": len(thumbnail)}
    requests.post(callback_url, data=json.dumps(event), timeout=TIMEOUT_SECONDS).raise_for_status()


def main() -> None:
    """Enqueue what the input says, or work until we are killed."""
    role, name, url = sys.argv[1:]
    if role == "work":
        WORK[name](url)
        return
    enqueue = ENQUEUE[name](url)
    for line in sys.stdin:
        enqueue(*line.split())


def _build_rq_enqueue(url: str) -> Enqueue:
    rq, redis = importlib.import_module("rq"), importlib.import_module("redis")  # They are not there as a rule.
    queue = rq.Queue(connection=redis.Redis.from_url(url))
    return lambda source_url, callback_url: queue.enqueue(TASK, source_url, callback_url)


def _work_rq(url: str, class_name: str = "Worker") -> None:
    """Run RQ's own pool of workers; `Worker` forks for each job, `SimpleWorker` does not."""
    rq, redis = importlib.import_module("rq"), importlib.import_module("redis")
    pool: Any = importlib.import_module("rq.worker_pool").WorkerPool
    queues, connection = ["default"], redis.Redis.from_url(url)
    pool(queues, connection, num_workers=WORKERS, worker_class=getattr(rq, class_name)).start(logging_level="WARNING")


def _build_celery(url: str) -> Any:
    app: Any = importlib.import_module("celery").Celery("bench", broker=url)
    app.task(do_bare_work, name=TASK, ignore_result=True)
    return app


def _build_celery_enqueue(url: str) -> Enqueue:
    enqueue: Enqueue = _build_celery(url).tasks[TASK].delay
    return enqueue


def _work_celery(url: str) -> None:
    _build_celery(url).worker_main(["worker", f"--concurrency={WORKERS}", "--pool=prefork", "--loglevel=WARNING"])


ENQUEUE: Final[Mapping[str, Callable[[str], Enqueue]]] = {
    "RQ": _build_rq_enqueue,
    "RQ simple": _build_rq_enqueue,
    "Celery": _build_celery_enqueue,
}
WORK: Final[Mapping[str, Callable[[str], None]]] = {
    "RQ": _work_rq,
    "RQ simple": lambda url: _work_rq(url, "SimpleWorker"),
    "Celery": _work_celery,
}


if __name__ == "__main__":
    main()
