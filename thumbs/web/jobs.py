"""`/v1/jobs`: create, read, list, and what became of the webhooks."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flask import Response, g, jsonify, request
from werkzeug.wrappers import Response as BaseResponse

from thumbs import cancel
from thumbs.documents import describe_delivery, describe_job_with_callback
from thumbs.domain import FINAL_JOB_STATUSES, Fit, Job, JobFilter, JobStatus, NewJob, OutputFormat, ThumbnailSpec
from thumbs.intake import Accepted, accept_job
from thumbs.web.auth import require_account
from thumbs.web.context import get_public_url, get_services, get_waiting_room
from thumbs.web.openapi import tell_callback, tell_form, tell_headers, tell_problem, tell_unchanged
from thumbs.web.paging import cut_page
from thumbs.web.parsing import MAX_BODY_BYTES, StrictBlueprint
from thumbs.web.schemas import (
    CreateHeaderSchema,
    DeliveryPageSchema,
    JobFormSchema,
    JobPageSchema,
    JobQuerySchema,
    JobRequestSchema,
    JobSchema,
    WaitHeaderSchema,
)
from thumbs.web.waiting import parse_wait

RETRY_AFTER_SECONDS = "1"
"""When a caller who polls should come back."""


blueprint = StrictBlueprint("jobs", __name__, url_prefix="/v1/jobs", description="Jobs: one source, one thumbnail.")
blueprint.before_request(require_account)


@blueprint.before_request
def allow_source() -> None:
    """Let a request bring its source along: THUMBS_MAX_UPLOAD_BYTES in base64, beside what any body may have."""
    if request.method == "POST":
        groups_of_3 = -(-get_services().settings.max_upload_bytes // 3)
        request.max_content_length = MAX_BODY_BYTES + groups_of_3 * 4 * 9 // 8  # .NET writes `+` as six characters.


@blueprint.post("")
@blueprint.doc(**tell_callback("The job has ended: `job.succeeded` or `job.failed`."), **tell_form(JobFormSchema))
@blueprint.arguments(JobRequestSchema)
@blueprint.arguments(CreateHeaderSchema, location="headers")
@blueprint.response(
    202,
    JobSchema,
    description="Accepted: on disk, and on its way.",
    headers=tell_headers("Location", sometimes=("Retry-After",)),
)
@blueprint.alt_response(
    200,
    schema=JobSchema,
    description="Final within the wait asked for, or accepted before.",
    headers=tell_headers("Location", sometimes=("Retry-After", "Idempotent-Replayed", "Preference-Applied")),
)
def create_job(body: dict[str, Any], headers: dict[str, Any]) -> Response:
    """Create a job.

    The source is at a URL, or comes along: as `source_data`, or as the `file` of a form.
    The answer comes when the job is on disk. With `Prefer: wait=N` it comes when the job is final, if that is in time.
    The same `Idempotency-Key` and body lead to the same job for 24 hours.
    """
    services = get_services()
    accepted = accept_job(services, g.account, build_new_job(body), key=headers["idempotency_key"])
    body.clear()  # Of a source that came along: whoever waits holds no memory.
    wait_seconds = parse_wait(headers["prefer"])
    job = get_waiting_room().wait_for_end(services.ledger.jobs.get(g.account.id, accepted.id), wait_seconds)
    response = _render(job, wait_seconds)
    has_waited = wait_seconds > 0 and job.status in FINAL_JOB_STATUSES
    response.status_code = 200 if accepted.is_replayed or has_waited else 202
    response.headers["Location"] = f"{get_public_url()}/v1/jobs/{job.id}"
    mark_replay(response, accepted)
    return response


@blueprint.get("")
@blueprint.arguments(JobQuerySchema, location="query")
@blueprint.response(200, JobPageSchema, description="A page of jobs.")
def list_jobs(query: dict[str, Any]) -> Response:
    """List jobs, newest first."""
    services, limit = get_services(), query["limit"]
    where = JobFilter(
        status=JobStatus(query["status"]) if query["status"] else None,
        created_after=query["created_after"],
        created_before=query["created_before"],
        before_id=query["cursor"],
    )
    found = services.ledger.jobs.list_for_account(g.account.id, where, limit + 1)
    page, next_cursor = cut_page(found, limit, lambda job: job.id)
    callbacks = services.ledger.deliveries.list_callbacks(job.id for job in page)
    items = [describe_job_with_callback(job, callbacks.get(job.id)) for job in page]
    return jsonify({"items": items, "next_cursor": next_cursor})


@blueprint.get("/<job_id>")
@blueprint.arguments(WaitHeaderSchema, location="headers")
@blueprint.response(
    200,
    JobSchema,
    description="The job.",
    headers=tell_headers("ETag", sometimes=("Retry-After", "Preference-Applied")),
)
@blueprint.alt_response(**tell_unchanged())
def get_job(headers: dict[str, Any], job_id: str) -> BaseResponse:
    """Get a job: the fallback for callers without a webhook. `Prefer: wait=N` waits for its end."""
    job = get_services().ledger.jobs.get(g.account.id, job_id)
    wait_seconds = parse_wait(headers["prefer"])
    response = _render(get_waiting_room().wait_for_end(job, wait_seconds), wait_seconds)
    response.add_etag()
    return response.make_conditional(request)


@blueprint.delete("/<job_id>")
@blueprint.response(204, description="Cancelled, or forgotten.")
@blueprint.alt_response(**tell_problem(409, "The job is running."))
def delete_job(job_id: str) -> Response:
    """Cancel a queued job (it ends as `failed`, `cancelled`), or forget a final one with its thumbnails."""
    services = get_services()
    cancel.delete_job(services, g.account, job_id)
    services.tally.flush()
    return Response(status=204)


@blueprint.get("/<job_id>/deliveries")
@blueprint.response(200, DeliveryPageSchema, description="All of them.")
def list_job_deliveries(job_id: str) -> Response:
    """List the job's deliveries, each with its attempts."""
    services = get_services()
    job = services.ledger.jobs.get(g.account.id, job_id)
    found = services.ledger.deliveries.list_for_job(job.id)
    items = [describe_delivery(delivery, attempts) for delivery, attempts in found]
    return jsonify({"items": items, "next_cursor": None})


def build_new_job(values: Mapping[str, Any]) -> NewJob:
    """Build the request from validated values; what they leave out has its default."""
    return NewJob(
        source_url=values.get("source_url"),
        callback_url=values.get("callback_url"),
        spec=_build_spec(values),
        metadata=values.get("metadata", {}),
        public_url=get_public_url(),
        request_id=g.request_id,
        source_data=values.get("source_data"),
        variants={each["name"]: _build_spec(each) for each in values.get("variants", ())},
        is_inline=values.get("inline", False),
    )


def _build_spec(values: Mapping[str, Any]) -> ThumbnailSpec:
    names = {field.name for field in dataclasses.fields(ThumbnailSpec)}
    spec = ThumbnailSpec(**{name: value for name, value in values.items() if name in names})
    return dataclasses.replace(
        spec, fit=Fit(spec.fit), format=OutputFormat(spec.format), background=spec.background.lower()
    )


def mark_replay(response: Response, accepted: Accepted) -> None:
    """Tell that this is the answer to an earlier request with the same idempotency key."""
    if accepted.is_replayed:
        response.headers["Idempotent-Replayed"] = "true"


def _render(job: Job, wait_seconds: float) -> Response:
    """Render a job, with when to come back while it is not final, and whether the wait asked for was kept."""
    is_final = job.status in FINAL_JOB_STATUSES
    callback = get_services().ledger.deliveries.find_callback(job.id) if is_final else None
    response: Response = jsonify(describe_job_with_callback(job, callback))
    if not is_final:
        response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    elif wait_seconds:
        response.headers["Preference-Applied"] = f"wait={wait_seconds}"
    return response
