"""The system routes: is the process up, and can the service do its work?"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from flask import Response, jsonify
from flask_smorest import Blueprint
from marshmallow import fields

from thumbs.errors import UnavailableError
from thumbs.services import Services
from thumbs.web.context import get_services
from thumbs.web.openapi import tell_problem
from thumbs.web.problems import UNAVAILABLE_RETRY_SECONDS, build_problem
from thumbs.web.schemas import AnswerSchema

HEARTBEAT_LIMIT: Final = timedelta(seconds=60)
"""A worker and a courier are told of at every sweep; one unseen for this long counts as gone."""

blueprint = Blueprint("system", __name__, description="For those who operate the service.")


class HealthSchema(AnswerSchema):
    """How it is."""

    status = fields.String(required=True, metadata={"enum": ["ok"]})


class ReadinessSchema(HealthSchema):
    """How everything is."""

    parts = fields.Dict(keys=fields.String(), values=fields.String(), required=True)
    oldest_queued_seconds = fields.Float(
        required=True, metadata={"description": "For how long the oldest queued job has waited.", "minimum": 0}
    )


@blueprint.get("/healthz")
@blueprint.doc(security=[])
@blueprint.response(200, HealthSchema, description="The process is up.")
def get_health() -> Response:
    """Tell that the process is up."""
    return jsonify({"status": "ok"})


@blueprint.get("/readyz")
@blueprint.doc(security=[])
@blueprint.response(200, ReadinessSchema, description="Everything answers.")
@blueprint.alt_response(**tell_problem(503, "Something does not answer: `errors` names the parts."))
def get_readiness() -> Response:
    """Tell whether ledger and queue answer, and whether a worker and a courier have been seen lately."""
    services = get_services()
    checks: dict[str, Callable[[], Any]] = {
        "ledger": services.ledger.upkeep.ping,
        "queue": services.dispatcher.count_jobs,
        "worker": lambda: _check_heartbeat(services, "worker"),
        "courier": lambda: _check_heartbeat(services, "courier"),
    }
    parts = {name: _try(check) for name, check in checks.items()}
    failing = sorted(name for name, state in parts.items() if state != "ok")
    if failing:
        told = ", ".join(f"{name}: {parts[name]}" for name in failing)
        headers = {"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)}
        return build_problem(503, "unavailable", f"Not ready: {told}.", errors={"parts": parts}, headers=headers)
    return jsonify({"status": "ok", "parts": parts, "oldest_queued_seconds": _age_oldest(services)})


def _check_heartbeat(services: Services, process: str) -> None:
    seen_at = services.ledger.upkeep.list_heartbeats().get(process)
    if seen_at is None or services.clock.now() - seen_at > HEARTBEAT_LIMIT:
        raise UnavailableError(f"no {process} has been seen in the last {HEARTBEAT_LIMIT.seconds} s")


def _try(check: Callable[[], Any]) -> str:
    try:
        check()
    except UnavailableError as error:
        return str(error)
    return "ok"


def _age_oldest(services: Services) -> float:
    oldest = services.ledger.upkeep.find_oldest_queued()
    return round(max(0.0, (services.clock.now() - oldest).total_seconds()), 3) if oldest else 0.0
