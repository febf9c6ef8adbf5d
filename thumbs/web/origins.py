"""Whose page sent this? Browsers let any site send requests to any other, also to a service on loopback without keys.

So a request that changes something is refused when a browser says that another site's page sent it. Programs say
nothing of that kind, and are let through. No answer has a CORS header: other sites' pages can read none either.
"""

from typing import Final

from flask import request
from werkzeug.exceptions import Forbidden

from thumbs.web.context import get_public_url

SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OWN_SITES: Final = frozenset({"same-origin", "none"})
"""`none`: typed by the user. `same-site` is not ours: it may be another port of this machine."""


def check_origin() -> None:
    """Raise Forbidden for a change that another site's page asks for (Fetch Metadata; RFC 6454 for older browsers)."""
    if request.method in SAFE_METHODS:
        return
    site, origin = request.headers.get("Sec-Fetch-Site"), request.headers.get("Origin")
    is_ours = site in OWN_SITES if site else origin in (None, *_list_own_origins())
    if not is_ours:
        raise Forbidden("A page of another site sent this: call the API from a server, with an API key.")


def _list_own_origins() -> list[str]:
    """List scheme, host and port as the caller sees them, and as THUMBS_PUBLIC_URL says."""
    scheme, _, rest = get_public_url().partition("://")
    return [request.host_url.rstrip("/"), f"{scheme}://{rest.partition('/')[0]}"]
