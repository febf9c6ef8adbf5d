"""`/metrics`: in the format that Prometheus reads, of every job that has ended, and documented."""

import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from tests.guards.sources import read_page
from tests.support.clock import FrozenClock
from tests.support.dispatcher import RecordingDispatcher
from tests.support.services import ScriptedOutbound, accept, build_lost_ledger, build_test_services, fail_with
from thumbs.errors import SourceHttpError
from thumbs.metrics import COUNTED, MEASURED
from thumbs.process import process
from thumbs.services import Services
from thumbs.web import create_app

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def scrape(client: FlaskClient) -> Samples:
    """Read all samples, by name and labels."""
    answer = client.get("/metrics")
    assert (answer.status_code, answer.mimetype) == (200, "text/plain")
    families = text_string_to_metric_families(answer.get_data(as_text=True))
    return {(each.name, frozenset(each.labels.items())): each.value for family in families for each in family.samples}


def name(metric: str, **labels: str) -> Any:
    return metric, frozenset(labels.items())


def test_jobs_that_have_ended_are_counted_by_how(
    client: FlaskClient, services: Services, outbound: ScriptedOutbound
) -> None:
    first, _ = accept(services), accept(services)
    process(services, first.id)
    outbound.on_fetch = fail_with(SourceHttpError(source_status=404))
    process(services, accept(services, source_url="https://img.example/gone.jpg").id)
    samples = scrape(client)
    ended = {key: value for key, value in samples.items() if key[0] == "thumbs_jobs_ended_total"}
    assert ended == {
        name("thumbs_jobs_ended_total", status="succeeded", code="", reused=""): 1,
        name("thumbs_jobs_ended_total", status="succeeded", code="", reused="in_flight"): 1,
        name("thumbs_jobs_ended_total", status="failed", code="source_http_error", reused=""): 1,
    }


def test_job_that_is_cancelled_is_counted(client: FlaskClient, services: Services) -> None:
    job = accept(services)
    assert client.delete(f"/v1/jobs/{job.id}").status_code == 204
    assert scrape(client)[name("thumbs_jobs_ended_total", status="failed", code="cancelled", reused="")] == 1


def test_stages_are_a_histogram(client: FlaskClient, services: Services, clock: FrozenClock) -> None:
    job = accept(services)
    clock.move(0.2)
    process(services, job.id)
    samples = scrape(client)
    buckets = {
        dict(labels)["le"]: value
        for (metric, labels), value in samples.items()
        if metric == "thumbs_job_stage_seconds_bucket" and ("stage", "queued") in labels
    }
    assert (buckets["0.1"], buckets["0.25"], buckets["30.0"], buckets["+Inf"]) == (0, 1, 1, 1)
    assert samples[name("thumbs_job_stage_seconds_count", stage="queued")] == 1
    assert samples[name("thumbs_job_stage_seconds_sum", stage="queued")] == pytest.approx(0.2)


def test_what_waits_is_measured(client: FlaskClient, services: Services, clock: FrozenClock) -> None:
    accept(services)
    accept(services, source_url=None, source_data=b"12345")
    clock.move(7)
    samples = scrape(client)
    assert [samples[name(metric.name)] for metric in MEASURED] == [2, 7, 5]


def test_ledger_that_does_not_answer_is_told(dispatcher: RecordingDispatcher, clock: FrozenClock) -> None:
    client = create_app(build_test_services(build_lost_ledger(), dispatcher, clock)).test_client()
    assert client.get("/metrics").status_code == 503


def test_every_metric_is_documented_with_its_labels() -> None:
    page = read_page("docs/metrics.md")
    rows = dict(re.findall(r"^\| `(\w+)` \| \w+ \| ([^|]*)\|", page, re.MULTILINE))
    told = {row: tuple(re.findall(r"`(\w+)`", labels)) for row, labels in rows.items()}
    counters = {f"{metric.name}_total": metric.labels for metric in COUNTED if not metric.buckets}
    others = {metric.name: metric.labels for metric in (*COUNTED, *MEASURED) if metric.buckets or metric in MEASURED}
    assert told == counters | others
