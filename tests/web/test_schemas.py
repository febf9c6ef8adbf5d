"""The contract between thumbs.documents, which renders, and web.schemas, which promises: both know the same fields."""

from dataclasses import replace
from typing import Any

import marshmallow as ma
import pytest
from flask.testing import FlaskClient

from tests.support.builders import NOW, THUMBNAIL, build_attempt, build_endpoint, build_job, fail, succeed
from tests.support.services import record_delivery
from tests.web.calls import end_job, register
from thumbs.deliver import deliver
from thumbs.documents import describe_delivery, describe_endpoint, describe_job_with_callback
from thumbs.domain import (
    Attempt,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    EndpointStatus,
    Failure,
    Health,
    Job,
    JobStatus,
    Reuse,
    ThumbnailSpec,
    Variant,
)
from thumbs.errors import RenderFailed
from thumbs.services import Services
from thumbs.web.schemas import (
    DeliveryPageSchema,
    DeliverySchema,
    EndpointPageSchema,
    EndpointSchema,
    EventPageSchema,
    JobPageSchema,
    JobSchema,
    NewEndpointSchema,
    PingSchema,
    ProblemSchema,
    RecoverySchema,
    RotationSchema,
)

RUNNING = build_job(status=JobStatus.RUNNING, run_count=1, started_at=NOW)
JOBS = {
    "queued": build_job(),
    "running": RUNNING,
    "succeeded": succeed(RUNNING).job,
    "failed": fail(RUNNING).job,
    "without callback": build_job(callback_url=None),
    "uploaded": build_job(source_url=None, is_inline=True),
    "shared": replace(succeed(RUNNING).job, reused=Reuse.IN_FLIGHT),
    "with variants": replace(
        succeed(RUNNING).job,
        variants={
            "big": Variant(ThumbnailSpec(), thumbnail=THUMBNAIL),
            "bad": Variant(ThumbnailSpec(), error=Failure.of(RenderFailed())),
        },
    ),
}
ATTEMPTS = {
    "under way": build_attempt("dlv_1"),
    "answered": build_attempt(
        "dlv_1",
        number=1,
        duration_ms=12,
        http_status=500,
        error_code="http_5xx",
        response_headers={"content-type": "text/plain"},
        response_body="no",
        response_body_truncated=True,
    ),
    "not answered": build_attempt("dlv_1", duration_ms=12, error_code="timeout", error_detail="too late"),
}


ENDPOINTS = {
    "enabled": build_endpoint(description="ours", headers={"X-A": "not encrypted"}),
    "disabled": build_endpoint(status=EndpointStatus.DISABLED, disabled_reason=DisabledReason.GONE),
}


def check_shape(schema: ma.Schema, document: dict[str, Any]) -> None:
    """Check that the document has every field of the schema and no other, all the way down, and that it loads."""
    assert set(document) >= {name for name, field in schema.fields.items() if field.required}
    schema.load(document, unknown=ma.RAISE)
    for name, told in document.items():
        field = schema.fields[name]
        inner = field.inner if isinstance(field, ma.fields.List) else field
        values = told if isinstance(field, ma.fields.List) else [told]
        if isinstance(inner, ma.fields.Nested):
            for value in values:
                if value is not None:
                    check_shape(inner.schema, value)


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS)
def test_job_is_as_promised(job: Job) -> None:
    check_shape(JobSchema(), describe_job_with_callback(job, None))


@pytest.mark.parametrize("status", DeliveryStatus)
def test_job_with_a_callback_is_as_promised(status: DeliveryStatus) -> None:
    conclusion = succeed(RUNNING)
    callback = replace(conclusion.deliveries[0], status=status)
    check_shape(JobSchema(), describe_job_with_callback(conclusion.job, callback))


@pytest.mark.parametrize("attempt", ATTEMPTS.values(), ids=ATTEMPTS)
def test_delivery_is_as_promised(attempt: Attempt) -> None:
    check_shape(DeliverySchema(), describe_delivery(succeed(RUNNING).deliveries[0], [attempt]))


@pytest.mark.parametrize("endpoint", ENDPOINTS.values(), ids=ENDPOINTS)
@pytest.mark.parametrize("health", Health)
def test_endpoint_is_as_promised(endpoint: Endpoint, health: Health) -> None:
    check_shape(EndpointSchema(), describe_endpoint(endpoint, health))


def test_answers_of_endpoints_are_as_promised(client: FlaskClient) -> None:
    endpoint = register(client)
    path = f"/v1/endpoints/{endpoint['id']}"
    since = {"since": "2026-01-01T00:00:00Z"}
    check_shape(NewEndpointSchema(), endpoint)
    check_shape(EndpointPageSchema(), client.get("/v1/endpoints").get_json())
    check_shape(PingSchema(), client.post(f"{path}/ping").get_json())
    check_shape(RotationSchema(), client.post(f"{path}/rotate-secret").get_json())
    check_shape(RecoverySchema(), client.post(f"{path}/recover", json=since).get_json())


def test_events_are_as_promised(client: FlaskClient, services: Services) -> None:
    register(client)
    end_job(services)
    page = client.get("/v1/events").get_json()
    check_shape(EventPageSchema(), page)
    assert [(event["type"], list(event["data"])) for event in page["items"]] == [
        ("ping", ["endpoint_id"]),
        ("job.succeeded", ["job"]),
    ]


def test_pages_are_as_promised(client: FlaskClient, services: Services) -> None:
    delivery = record_delivery(services)
    deliver(services, delivery.id)
    check_shape(JobPageSchema(), client.get("/v1/jobs").get_json())
    check_shape(DeliveryPageSchema(), client.get(f"/v1/jobs/{delivery.job_id}/deliveries").get_json())
    check_shape(DeliveryPageSchema(), client.get("/v1/deliveries").get_json())


def test_problem_is_as_promised(shared_client: FlaskClient) -> None:
    problem = shared_client.post("/v1/jobs", json={}).get_json()
    assert set(problem) == set(ProblemSchema().fields)
    assert ProblemSchema(only=set(problem) - {"type"}).load({k: v for k, v in problem.items() if k != "type"})
