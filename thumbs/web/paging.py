"""Cuts pages out of lists that are newest first: the id of a page's last item is the cursor of the next one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def cut_page(found: Sequence[T], limit: int, name: Callable[[T], str]) -> tuple[Sequence[T], str | None]:
    """Cut a page out of what was found when one more than `limit` was asked for; None is the last page's cursor."""
    page = found[:limit]
    return page, name(page[-1]) if len(found) > limit else None
