"""A thousand mutated images through the real pool: each ends in time, as a picture or a known error; nothing leaks."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from tests.support.corpus import CORPUS, ROWS
from tests.support.decoders import MIB, RED_PNG, build_sandbox, list_decoders, render_in
from tests.support.images import EVERY_FORMAT, open_result
from tests.support.mutations import build_seeds, mutate
from thumbs.domain import Fit, OutputFormat, ThumbnailSpec
from thumbs.errors import JobError
from thumbs.sandbox import Sandbox

IMAGES = 1_000
SEED = 20_261_124
THREADS = 4
MAX_CORPUS_BYTES = 20_000
MAX_GROWTH_BYTES = 64 * MIB
SPECS = (
    ThumbnailSpec(width=16, height=16),
    ThumbnailSpec(width=33, height=7, fit=Fit.INSIDE, format=OutputFormat.WEBP),
    ThumbnailSpec(width=20, height=30, fit=Fit.CONTAIN, format=OutputFormat.PNG),
)


def list_seeds() -> list[bytes]:
    """List what is mutated: images made here, and small ones of the corpus where there is one."""
    paths = [CORPUS / row["path"] for row in ROWS if int(row["bytes"]) <= MAX_CORPUS_BYTES]
    return build_seeds() + [path.read_bytes() for path in paths]


def count_ends(sandbox: Sandbox, images: Iterable[bytes]) -> Counter[str]:
    """Render them in several threads, and count how they end."""

    def tell_end(numbered: tuple[int, bytes]) -> str:
        number, body = numbered
        try:
            picture = render_in(sandbox, body, SPECS[number % len(SPECS)])
        except JobError as error:
            return error.code
        open_result(picture)
        return "ok"

    with ThreadPoolExecutor(THREADS) as threads:
        return Counter(threads.map(tell_end, enumerate(images)))


def test_mutated_images_end_in_time_and_leak_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits in vain either: that would be DecodersBusy."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process, before = psutil.Process(), list_decoders()
    with build_sandbox(EVERY_FORMAT, decoders=2, timeout_seconds=30) as sandbox:
        assert render_in(sandbox, RED_PNG)
        files, memory, children = process.num_fds(), process.memory_info().rss, list_decoders()

        ends = count_ends(sandbox, mutate(list_seeds(), seed=SEED, count=IMAGES))

        assert sum(ends.values()) == IMAGES
        assert set(ends) <= {"ok", "image_corrupt", "image_too_large", "image_too_complex", "unsupported_format"}
        assert min(ends["ok"], ends["image_corrupt"]) > IMAGES // 10, "mutations are neither too weak nor too wild"
        assert list_decoders() == children, "no child died"
        assert process.num_fds() <= files
        assert process.memory_info().rss - memory < MAX_GROWTH_BYTES
    assert list_decoders() == before
    assert list(tmp_path.iterdir()) == []
