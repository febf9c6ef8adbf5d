"""The one seam where Pillow's exceptions become ours; used by `pipeline` around each half of the way."""

from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from thumbs.errors import ImageTooLarge, JobError

MAX_DETAIL_CHARS = 200
"""As much of a library's message as our logs want of it."""


@contextmanager
def translate_failures(failure: type[JobError]) -> Iterator[None]:
    """Turn whatever a decoder or encoder raises into `failure`, and want of memory into ImageTooLarge.

    Plugins raise anything on hostile bytes (struct.error, IndexError, SyntaxError, …), so every Exception is meant.
    """
    try:
        yield
    except JobError:
        raise
    except (MemoryError, Image.DecompressionBombError) as error:
        raise ImageTooLarge(_describe(error)) from error
    except Exception as error:
        raise failure(_describe(error)) from error


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:MAX_DETAIL_CHARS]
