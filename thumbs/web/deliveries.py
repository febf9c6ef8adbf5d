"""`/v1/deliveries`: what became of every webhook, and sending one again."""

from typing import Any

from flask import Response, g, jsonify

from thumbs import endpoints
from thumbs.documents import describe_delivery
from thumbs.domain import Delivery, DeliveryFilter, DeliveryStatus
from thumbs.web.auth import require_account
from thumbs.web.context import get_services
from thumbs.web.openapi import tell_problem
from thumbs.web.paging import cut_page
from thumbs.web.parsing import StrictBlueprint
from thumbs.web.schemas import DeliveryPageSchema, DeliveryQuerySchema, DeliverySchema, NothingSchema

blueprint = StrictBlueprint(
    "deliveries", __name__, url_prefix="/v1/deliveries", description="Webhooks on their way, and what became of them."
)
blueprint.before_request(require_account)


@blueprint.get("")
@blueprint.arguments(DeliveryQuerySchema, location="query")
@blueprint.response(200, DeliveryPageSchema, description="A page of deliveries.")
def list_deliveries(query: dict[str, Any]) -> Response:
    """List deliveries, newest first, each with its attempts."""
    where = DeliveryFilter(
        status=DeliveryStatus(query["status"]) if query["status"] else None,
        endpoint_id=query["endpoint_id"],
        job_id=query["job_id"],
        before_id=query["cursor"],
    )
    found = get_services().ledger.deliveries.list_for_account(g.account.id, where, query["limit"] + 1)
    page, next_cursor = cut_page(found, query["limit"], lambda each: each[0].id)
    items = [describe_delivery(delivery, attempts) for delivery, attempts in page]
    return jsonify({"items": items, "next_cursor": next_cursor})


@blueprint.get("/<delivery_id>")
@blueprint.response(200, DeliverySchema, description="The delivery.")
def get_delivery(delivery_id: str) -> Response:
    """Get a delivery with its attempts."""
    return _render(get_services().ledger.deliveries.get(g.account.id, delivery_id))


@blueprint.post("/<delivery_id>/redeliver")
@blueprint.arguments(NothingSchema, required=False)
@blueprint.response(202, DeliverySchema, description="On its way, once more.")
@blueprint.alt_response(**tell_problem(409, "It is being sent right now."))
@blueprint.alt_response(**tell_problem(410, "Its endpoint is deleted."))
def redeliver(_: dict[str, Any], delivery_id: str) -> Response:
    """Send a delivery again at once: one attempt with the same id and bytes, signed with the keys of today."""
    response = _render(endpoints.redeliver(get_services(), g.account, delivery_id))
    response.status_code = 202
    return response


def _render(delivery: Delivery) -> Response:
    attempts = get_services().ledger.deliveries.list_attempts(delivery.id)
    response: Response = jsonify(describe_delivery(delivery, attempts))
    return response
