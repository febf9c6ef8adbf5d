"""`/v1/endpoints`: receivers that are registered once, their secrets, and what never reached them."""

from collections.abc import Sequence
from typing import Any

from flask import Response, g, jsonify

from thumbs import endpoints
from thumbs.documents import describe_endpoint, format_moment
from thumbs.domain import Endpoint
from thumbs.lanes import tell_health
from thumbs.web.auth import require_account
from thumbs.web.context import get_public_url, get_services
from thumbs.web.openapi import tell_headers, tell_problem
from thumbs.web.paging import cut_page
from thumbs.web.parsing import StrictBlueprint, refuse_field
from thumbs.web.schemas import (
    EndpointChangeSchema,
    EndpointPageSchema,
    EndpointRequestSchema,
    EndpointSchema,
    NewEndpointSchema,
    NothingSchema,
    PageQuerySchema,
    PingSchema,
    RecoverRequestSchema,
    RecoverySchema,
    RotateRequestSchema,
    RotationSchema,
)

blueprint = StrictBlueprint(
    "endpoints", __name__, url_prefix="/v1/endpoints", description="Receivers of every event that they ask for."
)
blueprint.before_request(require_account)


@blueprint.post("")
@blueprint.arguments(EndpointRequestSchema)
@blueprint.response(
    201, NewEndpointSchema, description="Registered; a ping is on its way.", headers=tell_headers("Location")
)
@blueprint.alt_response(**tell_problem(409, "The account has as many endpoints as it may."))
def create_endpoint(body: dict[str, Any]) -> Response:
    """Register a receiver. The answer holds its signing secret, which is not shown again."""
    endpoint, secret = endpoints.create_endpoint(get_services(), g.account, endpoints.NewEndpoint(**body))
    response: Response = jsonify(_describe([endpoint])[0] | {"secret": secret})
    response.status_code = 201
    response.headers["Location"] = f"{get_public_url()}/v1/endpoints/{endpoint.id}"
    return response


@blueprint.get("")
@blueprint.arguments(PageQuerySchema, location="query")
@blueprint.response(200, EndpointPageSchema, description="A page of endpoints.")
def list_endpoints(query: dict[str, Any]) -> Response:
    """List endpoints, newest first."""
    before_id, limit = query["cursor"], query["limit"]
    found = get_services().ledger.endpoints.list_for_account(g.account.id)
    rest = [endpoint for endpoint in found if before_id is None or endpoint.id < before_id]
    page, next_cursor = cut_page(rest, limit, lambda endpoint: endpoint.id)
    return jsonify({"items": _describe(page), "next_cursor": next_cursor})


@blueprint.get("/<endpoint_id>")
@blueprint.response(200, EndpointSchema, description="The endpoint.")
def get_endpoint(endpoint_id: str) -> Response:
    """Get an endpoint."""
    return _render(get_services().ledger.endpoints.get(g.account.id, endpoint_id))


@blueprint.patch("/<endpoint_id>")
@blueprint.arguments(EndpointChangeSchema)
@blueprint.response(200, EndpointSchema, description="The endpoint.")
@blueprint.alt_response(**tell_problem(409, "There is no value that the header could keep."))
def change_endpoint(body: dict[str, Any], endpoint_id: str) -> Response:
    """Change what is named; the rest stays as it is. What waits for the endpoint goes to its new URL."""
    return _render(endpoints.change_endpoint(get_services(), g.account, endpoint_id, body))


@blueprint.delete("/<endpoint_id>")
@blueprint.response(204, description="Deleted.")
def delete_endpoint(endpoint_id: str) -> Response:
    """Delete an endpoint. What waits for it fails as `endpoint_deleted`; its deliveries stay on record."""
    endpoints.delete_endpoint(get_services(), g.account, endpoint_id)
    return Response(status=204)


@blueprint.post("/<endpoint_id>/enable")
@blueprint.arguments(NothingSchema, required=False)
@blueprint.response(200, EndpointSchema, description="The endpoint.")
def enable_endpoint(_: dict[str, Any], endpoint_id: str) -> Response:
    """Enable an endpoint, with nothing held against it. What it missed comes by `recover`."""
    return _render(endpoints.enable_endpoint(get_services(), g.account, endpoint_id))


@blueprint.post("/<endpoint_id>/disable")
@blueprint.arguments(NothingSchema, required=False)
@blueprint.response(200, EndpointSchema, description="The endpoint.")
def disable_endpoint(_: dict[str, Any], endpoint_id: str) -> Response:
    """Disable an endpoint. What waits for it, and what happens meanwhile, is recorded as `endpoint_disabled`."""
    return _render(endpoints.disable_endpoint(get_services(), g.account, endpoint_id))


@blueprint.post("/<endpoint_id>/ping")
@blueprint.arguments(NothingSchema, required=False)
@blueprint.response(202, PingSchema, description="On its way.")
def ping_endpoint(_: dict[str, Any], endpoint_id: str) -> Response:
    """Send a `ping` event: one attempt, never repeated; it works while the endpoint is disabled."""
    ping = endpoints.ping_endpoint(get_services(), g.account, endpoint_id)
    response: Response = jsonify({"event_id": ping.event.id, "delivery_id": ping.deliveries[0].id})
    response.status_code = 202
    return response


@blueprint.post("/<endpoint_id>/rotate-secret")
@blueprint.arguments(RotateRequestSchema, required=False)
@blueprint.response(200, RotationSchema, description="The new secret.")
@blueprint.alt_response(**tell_problem(409, "Somebody else has rotated it at the same time."))
def rotate_secret(body: dict[str, Any], endpoint_id: str) -> Response:
    """Draw a new signing secret; the one before signs, too, until its time is up.

    The endpoint `callbacks` stands for the URLs that come with jobs and batches.
    """
    rotation = endpoints.rotate_secret(get_services(), g.account, endpoint_id, body["grace_seconds"])
    return jsonify({"secret": rotation.secret, "previous_expires_at": format_moment(rotation.previous_expires_at)})


@blueprint.post("/<endpoint_id>/recover")
@blueprint.arguments(RecoverRequestSchema)
@blueprint.response(202, RecoverySchema, description="On their way, a few each second.")
@blueprint.alt_response(**tell_problem(409, "The endpoint is disabled."))
def recover(body: dict[str, Any], endpoint_id: str) -> Response:
    """Send once more what was never delivered of the events that were made from `since` to `until`.

    The endpoint `callbacks` stands for the URLs that come with jobs and batches.
    """
    services, since, until = get_services(), body["since"], body["until"]
    if since >= (until or services.clock.now()):
        refuse_field("since", "Must be before `until`, which is now when it is left out.")
    response: Response = jsonify({"matched": endpoints.recover(services, g.account, endpoint_id, since, until)})
    response.status_code = 202
    return response


def _render(endpoint: Endpoint) -> Response:
    response: Response = jsonify(_describe([endpoint])[0])
    return response


def _describe(found: Sequence[Endpoint]) -> list[dict[str, Any]]:
    lanes = get_services().ledger.lanes.list_for_endpoints([endpoint.id for endpoint in found])
    return [describe_endpoint(endpoint, tell_health(lanes.get(endpoint.id))) for endpoint in found]
