"""What every answer carries: how browsers and caches may use it. Whoever says something about caching is heard."""

from typing import Final

from flask import Response

PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""No inline script anywhere; Swagger UI sets inline styles."""
DATA_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""Of everything that is no page: should a browser take it for one, it does nothing."""


def set_headers(response: Response) -> None:
    """Set the headers that do not depend on the request."""
    headers, is_page = response.headers, response.mimetype == "text/html"
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = PAGE_POLICY if is_page else DATA_POLICY
    headers["Cross-Origin-Resource-Policy"] = "cross-origin" if _is_picture(response) else "same-origin"
    if is_page:
        headers["Referrer-Policy"] = "no-referrer"
        headers["X-Frame-Options"] = "DENY"
    if "Cache-Control" not in headers:
        headers["Cache-Control"] = "private, no-cache" if "ETag" in headers else "no-store"


def _is_picture(response: Response) -> bool:
    """Tell whether this is what other sites show: a thumbnail. A 304 has no type, and the first answer counts."""
    return (response.mimetype or "").startswith("image/") or response.status_code == 304
