"""Processes that die in the middle of their work, and the sweep that comes after them."""

from tests.support.builders import take
from tests.support.clock import FrozenClock
from thumbs.domain import Delivery, Job
from thumbs.services import Services
from thumbs.sweep import sweep


def sweep_after(services: Services, clock: FrozenClock, seconds: float) -> None:
    """Let time pass, and sweep."""
    clock.move(seconds)
    sweep(services, "worker")


def sweep_after_lease(services: Services, clock: FrozenClock) -> None:
    """Let the leases run out, and sweep."""
    sweep_after(services, clock, services.settings.lease_seconds + 1)


def start_run(services: Services, job: Job) -> None:
    """Lease a job, as a worker that dies right after it."""
    assert services.ledger.jobs.lease(services.new_lease(job.id, services.clock.now()), services.clock.now())


def start_attempt(services: Services, delivery: Delivery) -> None:
    """Lease a delivery, as a courier that dies right after it."""
    assert take(services.ledger, delivery.id, services.clock.now())
