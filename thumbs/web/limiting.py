"""How many requests an account may send (THUMBS_RATE_LIMIT): Flask-Limiter over `thumbs.counters`.

`auth` asks when it knows the account: whoever has no key is told so first, and counts for nobody.
"""

import math
import time
from collections.abc import Mapping
from typing import Final

from flask import Flask, g
from flask_limiter import Limiter, RateLimitExceeded
from limits.errors import StorageError
from werkzeug.exceptions import TooManyRequests

from thumbs.counters import choose_counters
from thumbs.settings import Settings

SCOPE: Final = "account"
"""All routes count together."""


class RateLimit:
    """Counts the requests of each account. While the counters cannot be reached, each process counts in memory.

    Flask-Limiter looks for them again 1, 2, 4 … 32 s later; no request fails because of them.
    """

    def __init__(self, app: Flask, settings: Settings) -> None:
        uri, options = choose_counters(settings)
        self._limiter = Limiter(
            _get_account_id,
            app=app,
            storage_uri=uri,
            storage_options=options,
            strategy="fixed-window",
            in_memory_fallback_enabled=True,
            swallow_errors=True,  # Those who waited for Redis beside the one that told of the fallback.
        )
        self._limiter.request_filter(lambda: "account" not in g)  # It would look before `auth` has.
        self._count = self._limiter.shared_limit(settings.rate_limit, scope=SCOPE)(_pass)

    def check(self) -> None:
        """Count a request of `g.account`, and raise TooManyRequests when it is one too many."""
        try:
            self._count()
        except RateLimitExceeded as error:
            limit = error.limit.limit
            window = self._find_window()
            left_seconds = window[1] - time.time() if window else limit.get_expiry()
            raise TooManyRequests(
                f"This account sends more than {limit.amount} requests in one {limit.GRANULARITY.name}: go on when "
                "`Retry-After` is over. `Prefer: wait=N`, batches and webhooks need fewer requests.",
                retry_after=max(1, math.ceil(left_seconds)),
            ) from error

    def describe(self) -> Mapping[str, str]:
        """Describe what is left, as headers of the answer; none where nothing was counted."""
        current, window = self._limiter.current_limit, self._find_window()
        if current is None or window is None:
            return {}
        return {
            "X-RateLimit-Limit": str(current.limit.amount),
            "X-RateLimit-Remaining": str(window[0]),
            "X-RateLimit-Reset": str(window[1]),
        }

    def _find_window(self) -> tuple[int, int] | None:
        """Find how many requests are left, and the second since 1970 by which they are new; None when not known."""
        current = self._limiter.current_limit
        try:
            return (current.remaining, current.reset_at) if current else None
        except StorageError:
            return None


def _get_account_id() -> str:
    account_id: str = g.account.id
    return account_id


def _pass() -> None:
    """Do nothing: Flask-Limiter counts the calls of a function."""
