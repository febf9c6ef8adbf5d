"""The classic routes: two GETs with `?url=`, through the same intake, policy and worker as `/v1/jobs`.

They always make a 100x100 JPEG, so the output's name is known at once.
"""

from importlib import resources
from typing import Any

from flask import Response, g, jsonify
from flask_smorest import Blueprint
from marshmallow import Schema, fields
from werkzeug.wrappers import Response as BaseResponse

from thumbs.documents import describe_job_with_callback
from thumbs.domain import FINAL_JOB_STATUSES, Job, JobStatus
from thumbs.errors import NotFound, RequestError, UrlNotAllowed
from thumbs.intake import accept_job
from thumbs.web.auth import require_account
from thumbs.web.context import get_public_url, get_services, get_waiting_room
from thumbs.web.jobs import RETRY_AFTER_SECONDS, build_new_job
from thumbs.web.openapi import BYTES, tell_headers, tell_problem, tell_unchanged
from thumbs.web.problems import build_problem
from thumbs.web.schemas import AnswerSchema, JobSchema, build_url_field
from thumbs.web.thumbnails import render_blob
from thumbs.web.waiting import MAX_WAIT_SECONDS

ERROR_HEADER = "X-Thumbs-Error"

blueprint = Blueprint("classic", __name__, description="The classic routes.")
blueprint.before_request(require_account)

media = Blueprint("media", __name__, description="The classic routes' output.")


class UrlQuerySchema(Schema):
    """Which source."""

    url = build_url_field("The original image: http or https, at a public address.", required=True)


class OutputSchema(AnswerSchema):
    """Where the output will be."""

    outputFileName = fields.String(  # noqa: N815 - as its callers know it
        required=True, metadata={"pattern": r"^[0-9a-f]{32}\.jpg$"}
    )
    job = fields.Nested(JobSchema, required=True)


@blueprint.get("/generateThumbnail")
@blueprint.arguments(UrlQuerySchema, location="query")
@blueprint.response(
    200,
    BYTES,
    content_type="image/jpeg",
    description="The thumbnail, or a black image and X-Thumbs-Error.",
    headers=tell_headers("Cache-Control", sometimes=("ETag", ERROR_HEADER)),
)
@blueprint.alt_response(
    202,
    schema=JobSchema,
    description="Not ready after 25 s: see Location.",
    headers=tell_headers("Location", "Retry-After"),
)
@blueprint.alt_response(**tell_unchanged())
def generate_thumbnail(query: dict[str, Any]) -> BaseResponse:
    """Make a thumbnail and answer with its bytes."""
    try:
        job = _accept(query["url"])
    except UrlNotAllowed as error:
        return _render_black(error.code)
    job = get_waiting_room().wait_for_end(job, MAX_WAIT_SECONDS)
    if job.status not in FINAL_JOB_STATUSES:
        return _render_job(job, 202)
    blob = get_services().blobs.find(_name_output(job), get_services().clock.now())
    if job.error is not None or blob is None:
        return _render_black(job.error.code if job.error else NotFound.code)
    return render_blob(blob)


@blueprint.get("/generateThumbnailAsync")
@blueprint.arguments(UrlQuerySchema, location="query")
@blueprint.response(
    200,
    OutputSchema,
    description="Accepted: the output will be at /media/{outputFileName}.",
    headers=tell_headers("Location"),
)
def generate_thumbnail_async(query: dict[str, Any]) -> Response:
    """Make a thumbnail, and say at once where it will be."""
    job = _accept(query["url"])
    document = {"outputFileName": _name_output(job), "job": describe_job_with_callback(job, None)}
    response: Response = jsonify(document)
    response.headers["Location"] = _locate(job)
    return response


@media.get("/media/<name>")
@media.doc(security=[])
@media.response(
    200,
    BYTES,
    content_type="image/jpeg",
    description="The thumbnail.",
    headers=tell_headers("ETag", "Cache-Control"),
)
@media.alt_response(**tell_unchanged())
@media.alt_response(
    **tell_problem(404, "There is no such output, or not yet.", sometimes=("Retry-After", ERROR_HEADER))
)
def get_media(name: str) -> BaseResponse:
    """Get the output of `/generateThumbnailAsync`; 404 with Retry-After until it is ready."""
    services = get_services()
    blob = services.blobs.find(name, services.clock.now())
    if blob is not None:
        return render_blob(blob)
    job = services.ledger.jobs.find_by_blob_name(name.removesuffix(".jpg"))
    headers = {}
    if job is not None and job.status not in FINAL_JOB_STATUSES:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    if job is not None and job.status is JobStatus.FAILED and job.error is not None:
        headers[ERROR_HEADER] = job.error.code
    return build_problem(
        404, NotFound.code, "There is no such output, or not yet.", title=NotFound.title, headers=headers
    )


def _accept(url: str) -> Job:
    try:
        accepted = accept_job(get_services(), g.account, build_new_job({"source_url": url, "format": "jpeg"}))
    except RequestError as error:
        error.field = error.field and "url"
        raise
    return get_services().ledger.jobs.get(g.account.id, accepted.id)


def _name_output(job: Job) -> str:
    return f"{job.blob_name}.jpg"


def _locate(job: Job) -> str:
    return f"{get_public_url()}/v1/jobs/{job.id}"


def _render_job(job: Job, status: int) -> Response:
    response: Response = jsonify(describe_job_with_callback(job, None))
    response.status_code = status
    response.headers["Location"] = _locate(job)
    response.headers["Retry-After"] = RETRY_AFTER_SECONDS
    return response


def _render_black(code: str) -> Response:
    """Render the black 100x100 image that stands for a source that cannot be made into a thumbnail."""
    body = resources.files("thumbs.web").joinpath("static/black.jpg").read_bytes()
    response = Response(body, mimetype="image/jpeg")
    response.headers[ERROR_HEADER] = code
    response.headers["Cache-Control"] = "no-store"
    return response
