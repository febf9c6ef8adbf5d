"""What the guard around a fetch costs: `Outbound.fetch` beside requests, in turns, of the same bytes.

There are three ways, each with a connection of its own per fetch, and each reads the whole body:

- *get* is `requests.get`, as programs have it. It reads the environment and `.netrc`, and bodies in blocks of 10 KiB.
- *lean* is a session of requests without either, whose body is read at once: the least that requests can do.
- *ours* checks URL and addresses beyond that, looks a name up in a thread, has a watchdog on the socket, and counts
  what comes. For TLS it keeps its certificates, which requests loads for each connection.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import requests

from bench.parts import open_parts
from bench.report import Figure, Mark, find_point
from bench.sources import HOST, Sources, run_sources
from thumbs.outbound import Outbound

BODIES: Final = {"10 kB": 10_000, "300 kB": 300_000, "5 MB": 5_000_000}
NAMED: Final = "300 kB"
"""The body that is fetched by the host's name, too."""
WAYS: Final = ("get", "lean", "ours")
WARM_UPS: Final = 5
TIMEOUT_SECONDS: Final = 20
TABLE: Final = "fetch, p50, ms"
CPU_TABLE: Final = "fetch, p50, ms of CPU"
MARK_MS: Final = 1.5


@dataclass(frozen=True, slots=True)
class Fetch:
    """One URL, and the milliseconds that it took in each of WAYS, on the clock and of CPU."""

    name: str
    url: str
    wall_ms: Mapping[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})
    cpu_ms: Mapping[str, list[float]] = field(default_factory=lambda: {way: [] for way in WAYS})

    def find_more_ms(self, way: str) -> float:
        """Find what ours took more than that way right beside it: the median of the differences."""
        return _median([ours - other for ours, other in zip(self.wall_ms["ours"], self.wall_ms[way], strict=True)])


def measure_fetches(folder: Path, times: int) -> list[Fetch]:
    """Fetch each body so many times in each way: by address, by name, and over TLS."""
    bodies = folder / "bodies"
    bodies.mkdir()
    for name, size in BODIES.items():
        (bodies / _name_file(name)).write_bytes(random.Random(size).randbytes(size))
    _leave_proxies()
    with run_sources(bodies) as sources, open_parts(folder, THUMBS_CA_BUNDLE=sources.ca_bundle) as services:
        ways = _list_ways(services.outbound, sources.ca_bundle)
        for fetch in _list_fetches(sources):
            for _ in range(WARM_UPS):
                _measure_once(fetch, ways, 0)
        fetches = _list_fetches(sources)
        for number in range(times):
            for fetch in fetches:
                _measure_once(fetch, ways, number)
    return fetches


def list_fetch_figures(fetches: list[Fetch]) -> list[Figure]:
    """List the medians, how ours compares, and the CPU."""
    return [
        *(Figure(TABLE, each.name, column, value) for each in fetches for column, value in _compare(each).items()),
        *(Figure(CPU_TABLE, each.name, way, _median(each.cpu_ms[way])) for each in fetches for way in WAYS),
    ]


def list_fetch_marks(fetches: list[Fetch]) -> list[Mark]:
    """List the mark for each URL."""
    return [Mark(f"fetch of {fetch.name}: ours − get", fetch.find_more_ms("get"), MARK_MS, "ms") for fetch in fetches]


def _compare(fetch: Fetch) -> dict[str, float]:
    columns = {way: _median(fetch.wall_ms[way]) for way in WAYS}
    return columns | {
        "− get": fetch.find_more_ms("get"),
        "− lean": fetch.find_more_ms("lean"),
        ": get": columns["ours"] / columns["get"],
    }


def _list_fetches(sources: Sources) -> list[Fetch]:
    plain = [Fetch(name, sources.url(_name_file(name))) for name in BODIES]
    named = Fetch(f"{NAMED}, by name", sources.url(_name_file(NAMED), host=HOST))
    return [*plain, named, *(Fetch(f"{name}, TLS", sources.url(_name_file(name), scheme="https")) for name in BODIES)]


def _name_file(name: str) -> str:
    return name.replace(" ", "-")


def _leave_proxies() -> None:
    """Take the shell's proxies away: requests would send even loopback through them."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        del os.environ[name]


def _list_ways(outbound: Outbound, ca_bundle: str) -> dict[str, Callable[[str], bytes]]:
    return {
        "get": lambda url: requests.get(url, timeout=TIMEOUT_SECONDS, verify=ca_bundle).content,
        "lean": lambda url: _get_lean(url, ca_bundle),
        "ours": lambda url: outbound.fetch(url).body,
    }


def _get_lean(url: str, ca_bundle: str) -> bytes:
    with requests.Session() as session:
        session.trust_env = False
        with session.get(url, timeout=TIMEOUT_SECONDS, verify=ca_bundle, stream=True) as response:
            body: bytes = response.raw.read(decode_content=False)
            return body


def _measure_once(fetch: Fetch, ways: Mapping[str, Callable[[str], bytes]], turn: int) -> None:
    """Measure each way once; who is first takes turns."""
    first = turn % len(WAYS)
    for way in (*WAYS[first:], *WAYS[:first]):
        began, cpu_began = time.perf_counter(), time.process_time()
        ways[way](fetch.url)
        fetch.cpu_ms[way].append((time.process_time() - cpu_began) * 1000)
        fetch.wall_ms[way].append((time.perf_counter() - began) * 1000)


def _median(values: list[float]) -> float:
    return find_point(values, "p50")
