"""What the tests of the sandbox share."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.decoders import build_sandbox
from tests.support.images import build_slow_png
from thumbs.sandbox import Sandbox


@pytest.fixture(scope="session")
def slow_png() -> bytes:
    """An image that takes about half a second to decode."""
    return build_slow_png()


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    """One sandbox for the tests that leave it as it was."""
    with build_sandbox(decoders=2) as sandbox:
        yield sandbox


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Threads that render."""
    with ThreadPoolExecutor(8) as pool:
        yield pool
