"""`/metrics`, as Prometheus reads it: what all processes have counted, and what the ledger holds now."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import accumulate

from flask import Response
from flask_smorest import Blueprint
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from thumbs.metrics import COUNTED, JOBS_QUEUED, OLDEST_QUEUED_SECONDS, UPLOADED_BYTES, Metric
from thumbs.services import Services
from thumbs.tally import INFINITE
from thumbs.web.context import get_services

Count = tuple[str, str, float]

blueprint = Blueprint("metrics", __name__, description="For those who operate the service.")


@blueprint.get("/metrics")
@blueprint.doc(security=[])
@blueprint.response(200, {"type": "string"}, content_type="text/plain", description="In Prometheus' text format.")
def get_metrics() -> Response:
    """Tell what all processes have counted, and how much waits."""
    services = get_services()
    services.tally.flush()
    registry = CollectorRegistry()
    registry.register(LedgerCollector(services))
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_PLAIN_0_0_4)


class LedgerCollector(Collector):
    """Collects from the ledger; raises LedgerUnavailable when it does not answer."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def describe(self) -> Iterable[Family]:
        """Describe nothing beforehand: prometheus-client would collect to find out."""
        return []

    def collect(self) -> Iterator[Family]:
        """Collect each metric."""
        ledger, now = self._services.ledger, self._services.clock.now()
        counts = ledger.counts.list_all()
        for metric in COUNTED:
            yield _build_histogram(metric, counts) if metric.buckets else _build_counter(metric, counts)
        oldest = ledger.upkeep.find_oldest_queued()
        yield _build_gauge(JOBS_QUEUED, ledger.jobs.count_queued(self._services.settings.max_queued_jobs))
        yield _build_gauge(OLDEST_QUEUED_SECONDS, max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)
        yield _build_gauge(UPLOADED_BYTES, ledger.uploads.count_bytes())


def _build_gauge(metric: Metric, value: float) -> Family:
    return GaugeMetricFamily(metric.name, metric.help, value)


def _build_counter(metric: Metric, counts: Iterable[Count]) -> Family:
    family = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, value in _select(counts, f"{metric.name}_total"):
        family.add_metric([labels[name] for name in metric.labels], value)
    return family


def _build_histogram(metric: Metric, counts: list[Count]) -> Family:
    """Build a histogram, whose buckets hold also what is in the smaller ones."""
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    found: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    for labels, value in _select(counts, f"{metric.name}_bucket"):
        found[tuple(labels[name] for name in metric.labels)][labels["le"]] = value
    sums = {
        tuple(labels[name] for name in metric.labels): value for labels, value in _select(counts, f"{metric.name}_sum")
    }
    bounds = [*map(str, metric.buckets), INFINITE]
    for key, own in found.items():
        totals = accumulate(own.get(bound, 0.0) for bound in bounds)
        family.add_metric(list(key), list(zip(bounds, totals, strict=True)), sums.get(key, 0.0))
    return family


def _select(counts: Iterable[Count], name: str) -> Iterator[tuple[dict[str, str], float]]:
    return ((json.loads(labels), value) for found, labels, value in counts if found == name)
