"""Between rows and the domain's values; nothing outside the ledger sees a row."""

from dataclasses import asdict
from typing import Any

from thumbs.domain import (
    Attempt,
    Batch,
    Delivery,
    DeliveryStatus,
    DisabledReason,
    Endpoint,
    EndpointStatus,
    Failure,
    Fit,
    Job,
    JobStatus,
    Lane,
    OutputFormat,
    Reuse,
    Source,
    Thumbnail,
    ThumbnailSpec,
    Trigger,
    Variant,
)
from thumbs.ledger.connection import AnyRow


def row_of_job(job: Job) -> dict[str, Any]:
    """Give the columns of a job, apart from those of its lease and dispatch."""
    row = {name: getattr(job, name) for name in Job.__dataclass_fields__}
    for name in ("spec", "thumbnail", "source", "error"):
        row[name] = row[name] and asdict(row[name])
    row["variants"] = {name: asdict(variant) for name, variant in job.variants.items()}
    row["metadata"] = dict(job.metadata)
    row["timings_ms"] = dict(job.timings_ms)
    return row


def row_of_batch(batch: Batch) -> dict[str, Any]:
    """Give the columns of a batch."""
    return {name: getattr(batch, name) for name in Batch.__dataclass_fields__}


def job_of_row(row: AnyRow) -> Job:
    """Build the job of a row of `jobs`."""
    values = {name: row._mapping[name] for name in Job.__dataclass_fields__}
    return Job(
        **values
        | {
            "status": JobStatus(values["status"]),
            "spec": _spec_of(values["spec"]),
            "source": values["source"] and Source(**values["source"]),
            "variants": {
                name: Variant(_spec_of(each["spec"]), **_result_of(each)) for name, each in values["variants"].items()
            },
            "reused": values["reused"] and Reuse(values["reused"]),
        }
        | _result_of(values)
    )


def _spec_of(spec: dict[str, Any]) -> ThumbnailSpec:
    return ThumbnailSpec(**spec | {"fit": Fit(spec["fit"]), "format": OutputFormat(spec["format"])})


def _result_of(values: dict[str, Any]) -> dict[str, Any]:
    """Build what became of a spec: a thumbnail, an error, or neither yet."""
    return {
        "thumbnail": values["thumbnail"] and Thumbnail(**values["thumbnail"]),
        "error": values["error"] and Failure(**values["error"]),
    }


def delivery_of_row(row: AnyRow) -> Delivery:
    """Build the delivery of a row of `deliveries`."""
    values = {name: row._mapping[name] for name in Delivery.__dataclass_fields__}
    return Delivery(**values | {"status": DeliveryStatus(values["status"]), "trigger": Trigger(values["trigger"])})


def attempt_of_row(row: AnyRow) -> Attempt:
    """Build the attempt of a row of `attempts`."""
    values = {name: row._mapping[name] for name in Attempt.__dataclass_fields__}
    return Attempt(**values | {"trigger": Trigger(values["trigger"])})


def row_of_endpoint(endpoint: Endpoint) -> dict[str, Any]:
    """Give the columns of an endpoint."""
    row = {name: getattr(endpoint, name) for name in Endpoint.__dataclass_fields__}
    return row | {"event_types": list(endpoint.event_types), "headers": dict(endpoint.headers)}


def endpoint_of_row(row: AnyRow) -> Endpoint:
    """Build the endpoint of a row of `endpoints`."""
    values = {name: row._mapping[name] for name in Endpoint.__dataclass_fields__}
    reason = values["disabled_reason"]
    return Endpoint(
        **values
        | {
            "event_types": tuple(values["event_types"]),
            "status": EndpointStatus(values["status"]),
            "disabled_reason": DisabledReason(reason) if reason else None,
        }
    )


def lane_of_row(row: AnyRow) -> Lane:
    """Build the lane of a row of `lanes`."""
    return Lane(**{name: row._mapping[name] for name in Lane.__dataclass_fields__})
