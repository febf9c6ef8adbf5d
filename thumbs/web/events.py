"""`/v1/events`: the events themselves, for those who cannot be called: receivers behind a firewall, `thumbs listen`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from flask import Response, g
from ulid import ULID

from thumbs.domain import Event, EventFilter, EventType
from thumbs.web.auth import require_account
from thumbs.web.context import get_services, get_waiting_room
from thumbs.web.jobs import RETRY_AFTER_SECONDS
from thumbs.web.openapi import tell_headers
from thumbs.web.parsing import StrictBlueprint
from thumbs.web.schemas import EventPageSchema, EventQuerySchema, WaitHeaderSchema
from thumbs.web.waiting import parse_wait

FLOOR_MS: Final = 10_000
"""An event has its id some time before it becomes known: by that much, at most, a younger id may have been first."""

blueprint = StrictBlueprint("events", __name__, url_prefix="/v1/events", description="What happened, to be fetched.")
blueprint.before_request(require_account)


@blueprint.get("")
@blueprint.arguments(EventQuerySchema, location="query")
@blueprint.arguments(WaitHeaderSchema, location="headers")
@blueprint.response(
    200,
    EventPageSchema,
    description="Events; none, if none came within the wait asked for.",
    headers=tell_headers(sometimes=("Preference-Applied", "Retry-After")),
)
def list_events(query: dict[str, Any], headers: dict[str, Any]) -> Response:
    """List events in the order in which they became known, oldest first; `Prefer: wait=N` waits for the next one."""
    services, where, limit = get_services(), _build_filter(query), query["limit"]

    def look() -> Sequence[Event]:
        return services.ledger.events.list_after(g.account.id, where, limit)

    wait_seconds = parse_wait(headers["prefer"])
    until = services.clock.monotonic() + wait_seconds
    events = get_waiting_room().wait_until(bool, look(), look, wait_seconds)
    response = Response(_join(events, where.after_id), mimetype="application/json")
    if wait_seconds and (events or services.clock.monotonic() >= until):
        response.headers["Preference-Applied"] = f"wait={wait_seconds}"
    elif not events:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _build_filter(query: Mapping[str, Any]) -> EventFilter:
    return EventFilter(
        after_id=query["after"],
        floor_id=_find_floor(query["after"]) if query["after"] else "",
        kind=EventType(query["type"]) if query["type"] else None,
        is_undelivered=query["undelivered"],
    )


def _find_floor(event_id: str) -> str:
    """Find the smallest id of the moment 10 seconds before an event's."""
    prefix, _, ulid = event_id.partition("_")
    milliseconds = max(0, ULID.from_str(ulid).milliseconds - FLOOR_MS)
    return f"{prefix}_{ULID.from_bytes(milliseconds.to_bytes(6, 'big') + bytes(10))}"


def _join(events: Sequence[Event], after_id: str | None) -> bytes:
    """Join the bodies as they are: who writes an item as compact ASCII JSON has the bytes that are signed."""
    cursor = json.dumps(events[-1].id if events else after_id).encode("ascii")
    return b'{"items":[' + b",".join(event.body for event in events) + b'],"next_cursor":' + cursor + b"}\n"
