"""`/v1/batches`: jobs that belong together, accepted all or none, with one event at their end."""

from typing import Any

from flask import Response, g, jsonify

from thumbs.documents import describe_batch
from thumbs.intake import accept_batch
from thumbs.web.auth import require_account
from thumbs.web.context import get_public_url, get_services
from thumbs.web.jobs import RETRY_AFTER_SECONDS, build_new_job, mark_replay
from thumbs.web.openapi import tell_callback, tell_headers
from thumbs.web.parsing import StrictBlueprint
from thumbs.web.schemas import BatchRequestSchema, BatchSchema, KeyHeaderSchema

blueprint = StrictBlueprint("batches", __name__, url_prefix="/v1/batches", description="Jobs that belong together.")
blueprint.before_request(require_account)


@blueprint.post("")
@blueprint.doc(**tell_callback("The last job has ended: `batch.finished`."))
@blueprint.arguments(BatchRequestSchema)
@blueprint.arguments(KeyHeaderSchema, location="headers")
@blueprint.response(
    202,
    BatchSchema,
    description="All are accepted.",
    headers=tell_headers("Location", sometimes=("Retry-After",)),
)
@blueprint.alt_response(
    200,
    schema=BatchSchema,
    description="Accepted before, with the same idempotency key.",
    headers=tell_headers("Location", "Idempotent-Replayed", sometimes=("Retry-After",)),
)
def create_batch(body: dict[str, Any], headers: dict[str, Any]) -> Response:
    """Create up to 100 jobs: all are accepted, or none. `batch.finished` goes to `callback_url` after the last one."""
    news = [build_new_job(job) for job in body["jobs"]]
    accepted = accept_batch(get_services(), g.account, news, body["callback_url"], key=headers["idempotency_key"])
    response = _render(accepted.id)
    response.status_code = 200 if accepted.is_replayed else 202
    response.headers["Location"] = f"{get_public_url()}/v1/batches/{accepted.id}"
    mark_replay(response, accepted)
    return response


@blueprint.get("/<batch_id>")
@blueprint.response(200, BatchSchema, description="The batch.", headers=tell_headers(sometimes=("Retry-After",)))
def get_batch(batch_id: str) -> Response:
    """Get a batch with the status of each of its jobs."""
    return _render(batch_id)


def _render(batch_id: str) -> Response:
    ledger = get_services().ledger
    batch = ledger.batches.get(g.account.id, batch_id)
    response: Response = jsonify(describe_batch(batch, ledger.batches.list_jobs(batch_id)))
    if batch.finished_at is None:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response
