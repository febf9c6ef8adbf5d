"""Every setting of thumbs: its environment variable, default, bounds and meaning; read once, validated, frozen.

`read_settings(os.environ)` is called once per process, by the faces. A bad value raises SettingsError: one line that
names the variable, the value and what would be right. docs/settings.md is generated from here (`thumbs settings
--markdown`). It owns no side effect: files and stores are the adapters' matter.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

from thumbs.addresses import parse_networks
from thumbs.errors import SettingsError
from thumbs.parsers import (
    MIN_SECRET_KEY_CHARS,
    choice_of,
    choices_of,
    integer_from,
    parse_folder,
    parse_proxy_url,
    parse_public_url,
    parse_rate_limit,
    parse_redis_url,
    parse_schedule,
    parse_secret_key,
    seconds_from,
    url_with,
)
from thumbs.variables import Setting, define_setting, get_setting

MIB: Final = 1024 * 1024
DEFAULT_FORMATS: Final = ("jpeg", "png", "gif", "bmp", "webp", "avif")
DECODABLE_FORMATS: Final = (*DEFAULT_FORMATS, "tiff", "heif")
LEASE_MARGIN_SECONDS: Final = 10
"""What a run needs beside its fetch and its decode: storing, finishing, and a clock that steps a little."""


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings of one process; secrets are left out of its repr."""

    port: int = define_setting("PORT", "8000", integer_from(1, 65535), "port on which `web` listens")
    host: str = define_setting(
        "THUMBS_HOST", "0.0.0.0", str, "address on which `web` listens (`thumbs up`: `127.0.0.1`)"
    )
    public_url: str | None = define_setting(
        "THUMBS_PUBLIC_URL",
        None,
        parse_public_url,
        "base of the URLs that we hand out",
        default_help="from the request that made the job (recorded with it)",
    )
    trusted_proxies: int = define_setting(
        "THUMBS_TRUSTED_PROXIES",
        None,
        integer_from(0, 10),
        "how many proxies' `X-Forwarded-*` headers to believe",
        default_help="`0` (`1` on Heroku, whose router is known)",
    )
    data_dir: Path = define_setting(
        "THUMBS_DATA_DIR", "./var", parse_folder, "folder of the SQLite files of the embedded default"
    )
    database_url: str = define_setting(
        "DATABASE_URL",
        None,
        url_with("postgres://", "postgresql://", "sqlite:///"),
        "the ledger: `postgres://…`, `postgresql://…` or `sqlite:///path/to/file.db`",
        default_help="SQLite in `THUMBS_DATA_DIR`",
        is_secret=True,
    )
    database_connections: int = define_setting(
        "THUMBS_DATABASE_CONNECTIONS", "5", integer_from(1, 100), "connections of each process to PostgreSQL"
    )
    redis_url: str | None = define_setting(
        "REDIS_URL",
        None,
        parse_redis_url,
        "the queues and rate limits: `redis://…` or `rediss://…` (certificates are verified if it says "
        "`?ssl_cert_reqs=required`)",
        default_help="SQLite in `THUMBS_DATA_DIR`",
        is_secret=True,
    )
    secret_key: str | None = define_setting(
        "THUMBS_SECRET_KEY",
        None,
        parse_secret_key,
        f"encrypts secrets at rest and signs queue messages; at least {MIN_SECRET_KEY_CHARS} characters",
        default_help="made once, in `THUMBS_DATA_DIR`; must be set with PostgreSQL or Redis",
        is_secret=True,
    )
    auth: str = define_setting(
        "THUMBS_AUTH",
        "required",
        choice_of("required", "off"),
        "whether `/v1` and the classic routes need an API key (`thumbs up`: `off`)",
    )
    allow_cidrs: tuple[IPv4Network | IPv6Network, ...] = define_setting(
        "THUMBS_ALLOW_CIDRS",
        "",
        parse_networks,
        "networks that may be reached although they are not public (`thumbs up`: `127.0.0.0/8,::1/128`)",
        default_help="none",
    )
    callback_schemes: frozenset[str] = define_setting(
        "THUMBS_CALLBACK_SCHEMES",
        "https",
        choices_of("https", "http"),
        "schemes that a `callback_url` may have (`thumbs up`: `https,http`)",
    )
    ca_bundle: Path | None = define_setting(
        "THUMBS_CA_BUNDLE",
        None,
        Path,
        "PEM file of the certificate authorities to trust when going out",
        default_help="those of `certifi`",
    )
    egress_proxy_url: str | None = define_setting(
        "THUMBS_EGRESS_PROXY_URL",
        None,
        parse_proxy_url,
        "HTTP proxy through which sources are fetched and webhooks are sent: `http://[user:password@]host[:port]`",
        default_help="none: directly",
        is_secret=True,
    )
    formats: frozenset[str] = define_setting(
        "THUMBS_FORMATS",
        ",".join(DEFAULT_FORMATS),
        choices_of(*DECODABLE_FORMATS),
        "source formats that are accepted; `tiff` and `heif` can be added, `heif` needs `pip install 'thumbs[heif]'`",
    )
    max_source_bytes: int = define_setting(
        "THUMBS_MAX_SOURCE_BYTES", str(20 * MIB), integer_from(1024, 1024 * MIB, " bytes"), "largest source, in bytes"
    )
    max_upload_bytes: int = define_setting(
        "THUMBS_MAX_UPLOAD_BYTES",
        str(10 * MIB),
        integer_from(1, 1024 * MIB, " bytes"),
        "largest source that comes with its job (`source_data`, or a form's `file`), in bytes",
    )
    max_queued_upload_bytes: int = define_setting(
        "THUMBS_MAX_QUEUED_UPLOAD_BYTES",
        str(1024 * MIB),
        integer_from(1, 1024**2 * MIB, " bytes"),
        "with so many bytes of such sources waiting, more are refused (503)",
    )
    max_pixels: int = define_setting(
        "THUMBS_MAX_PIXELS",
        "50000000",
        integer_from(1, 10**9, " pixels"),
        "largest source, in pixels (width times height)",
    )
    max_pixels_baseline_jpeg: int = define_setting(
        "THUMBS_MAX_PIXELS_BASELINE_JPEG",
        "200000000",
        integer_from(1, 10**9, " pixels"),
        "the same for baseline JPEG, which is decoded at a fraction of its size",
    )
    fetch_timeout_seconds: float = define_setting(
        "THUMBS_FETCH_TIMEOUT_SECONDS", "20", seconds_from(0.1, 600), "for one fetch, over all its redirects"
    )
    fetch_max_per_host: int = define_setting(
        "THUMBS_FETCH_MAX_PER_HOST", "4", integer_from(1, 64), "fetches at once from one host and port, in one `worker`"
    )
    decode_timeout_seconds: float = define_setting(
        "THUMBS_DECODE_TIMEOUT_SECONDS",
        "10",
        seconds_from(0.1, 600),
        "for one decode, after which the decoder is killed",
    )
    decode_memory_bytes: int = define_setting(
        "THUMBS_DECODE_MEMORY_BYTES",
        str(1024 * MIB),
        integer_from(256 * MIB, 64 * 1024 * MIB, " bytes"),
        "address space of one decoder process",
    )
    reuse: str = define_setting(
        "THUMBS_REUSE",
        "account",
        choice_of("account", "all", "off"),
        "with whom a job may share what was done for the same source and spec: jobs of its `account`, `all`, or none "
        "(`off`)",
    )
    failure_cache_seconds: float = define_setting(
        "THUMBS_FAILURE_CACHE_SECONDS",
        "60",
        seconds_from(0, 86_400),
        "how long a source that keeps failing is not tried again, from its last failure; `0`: it always is",
    )
    failure_cache_failures: int = define_setting(
        "THUMBS_FAILURE_CACHE_FAILURES",
        "3",
        integer_from(1, 1000),
        "jobs in a row, each within that time, whose failure makes a source one that keeps failing",
    )
    webhook_schedule_seconds: tuple[float, ...] = define_setting(
        "THUMBS_WEBHOOK_SCHEDULE_SECONDS",
        "5,30,120,600,1800,7200,18000,36000,50400,72000",
        parse_schedule,
        "delay before each further attempt of a delivery, lengthened by 0-20 %",
    )
    webhook_timeout_seconds: float = define_setting(
        "THUMBS_WEBHOOK_TIMEOUT_SECONDS", "15", seconds_from(0.1, 120), "for one delivery attempt in all"
    )
    webhook_max_retry_after_seconds: float = define_setting(
        "THUMBS_WEBHOOK_MAX_RETRY_AFTER_SECONDS",
        "86400",
        seconds_from(0, 604_800),
        "the longest `Retry-After` that moves a delivery's next attempt",
    )
    webhook_max_pause_seconds: float = define_setting(
        "THUMBS_WEBHOOK_MAX_PAUSE_SECONDS",
        "3600",
        seconds_from(0, 86_400),
        "the longest pause of a lane that a `Retry-After` makes",
    )
    webhook_max_per_lane: int = define_setting(
        "THUMBS_WEBHOOK_MAX_PER_LANE",
        "4",
        integer_from(1, 256),
        "attempts at once to one receiver, after its first 2xx",
    )
    webhook_max_per_account: int = define_setting(
        "THUMBS_WEBHOOK_MAX_PER_ACCOUNT", "8", integer_from(1, 256), "attempts at once of one account"
    )
    webhook_max_per_host: int = define_setting(
        "THUMBS_WEBHOOK_MAX_PER_HOST", "8", integer_from(1, 256), "attempts at once to one host and port"
    )
    webhook_slow_seconds: float = define_setting(
        "THUMBS_WEBHOOK_SLOW_SECONDS",
        "5",
        seconds_from(0.1, 120),
        "an answer that takes longer, or none, moves its lane to the slow slots",
    )
    webhook_breaker_failures: int = define_setting(
        "THUMBS_WEBHOOK_BREAKER_FAILURES",
        "5",
        integer_from(1, 1000),
        "failures in a row, of two deliveries or more, that open a lane's breaker",
    )
    webhook_breaker_seconds: float = define_setting(
        "THUMBS_WEBHOOK_BREAKER_SECONDS",
        "60",
        seconds_from(0.1, 86_400),
        "how long a breaker is open before one probe; doubled after each probe that fails",
    )
    webhook_breaker_max_seconds: float = define_setting(
        "THUMBS_WEBHOOK_BREAKER_MAX_SECONDS", "900", seconds_from(0.1, 86_400), "the longest that a breaker is open"
    )
    webhook_max_per_second: int = define_setting(
        "THUMBS_WEBHOOK_MAX_PER_SECOND",
        "20",
        integer_from(1, 10_000),
        "attempts a second to a receiver that is back, until it has caught up",
    )
    webhook_recover_per_second: int = define_setting(
        "THUMBS_WEBHOOK_RECOVER_PER_SECOND",
        "10",
        integer_from(1, 10_000),
        "deliveries a second that `recover` makes due",
    )
    webhook_failing_seconds: float = define_setting(
        "THUMBS_WEBHOOK_FAILING_SECONDS",
        "86400",
        seconds_from(1, 31_536_000),
        "without a 2xx for so long, an endpoint's account is told (`endpoint.failing`)",
    )
    webhook_disable_seconds: float = define_setting(
        "THUMBS_WEBHOOK_DISABLE_SECONDS",
        "432000",
        seconds_from(1, 31_536_000),
        "without a 2xx for so long, an endpoint is disabled (`endpoint.disabled`)",
    )
    webhook_disable_failures: int = define_setting(
        "THUMBS_WEBHOOK_DISABLE_FAILURES", "20", integer_from(1, 10_000), "failures without which it is not disabled"
    )
    webhook_disable_events: int = define_setting(
        "THUMBS_WEBHOOK_DISABLE_EVENTS",
        "3",
        integer_from(1, 1000),
        "events that must have failed before it is disabled",
    )
    webhook_max_endpoints: int = define_setting(
        "THUMBS_WEBHOOK_MAX_ENDPOINTS", "20", integer_from(1, 1000), "endpoints of one account"
    )
    lease_seconds: float = define_setting(
        "THUMBS_LEASE_SECONDS",
        "45",
        seconds_from(1, 3600),
        f"a worker's right to a job or delivery; more than fetch + decode + {LEASE_MARGIN_SECONDS} s",
    )
    sweep_seconds: float = define_setting(
        "THUMBS_SWEEP_SECONDS", "15", seconds_from(0.1, 60), "between two passes of the sweep"
    )
    retention_days: int = define_setting(
        "THUMBS_RETENTION_DAYS",
        "7",
        integer_from(1, 3650, " days"),
        "how long a job, its event and deliveries are kept",
    )
    thumbnail_days: int = define_setting(
        "THUMBS_THUMBNAIL_DAYS", "30", integer_from(1, 3650, " days"), "how long a thumbnail is kept"
    )
    max_queued_jobs: int = define_setting(
        "THUMBS_MAX_QUEUED_JOBS",
        "100000",
        integer_from(1, 10**9, " jobs"),
        "with so many jobs waiting, more are refused (503)",
    )
    max_queued_jobs_per_account: int = define_setting(
        "THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT",
        None,
        integer_from(1, 10**9, " jobs"),
        "with so many jobs of one account waiting, more of that account are refused (503)",
        default_help="`THUMBS_MAX_QUEUED_JOBS`",
    )
    rate_limit: str = define_setting(
        "THUMBS_RATE_LIMIT",
        "600/minute",
        parse_rate_limit,
        "requests of one account, beyond which they are refused (429); several: `20/second;600/minute` "
        "(`thumbs up`: `6000/minute`)",
    )
    web_processes: int = define_setting("WEB_CONCURRENCY", "2", integer_from(1, 64), "processes of `web`")
    web_threads: int = define_setting("THUMBS_WEB_THREADS", "4", integer_from(1, 64), "threads of each `web` process")
    worker_threads: int = define_setting(
        "THUMBS_WORKER_THREADS", "8", integer_from(1, 64), "jobs at once in a `worker`"
    )
    courier_threads: int = define_setting(
        "THUMBS_COURIER_THREADS", "32", integer_from(1, 256), "deliveries at once in a `courier`"
    )
    decoders: int = define_setting(
        "THUMBS_DECODERS", None, integer_from(1, 64), "decoder processes of a `worker`", default_help="number of cores"
    )
    log_format: str = define_setting(
        "THUMBS_LOG_FORMAT",
        None,
        choice_of("json", "text"),
        "one JSON object or readable text per line",
        default_help="`text` on a terminal, else `json`",
    )
    log_level: str = define_setting(
        "THUMBS_LOG_LEVEL", "info", choice_of("debug", "info", "warning", "error"), "least severe log lines to print"
    )


def list_settings() -> dict[str, Setting]:
    """List every setting by its field's name, in the order in which they are documented."""
    return {each.name: get_setting(each) for each in fields(Settings)}


def read_settings(environ: Mapping[str, str], *, is_terminal: bool = False) -> Settings:
    """Read and check every setting; a variable that is set to nothing counts as unset.

    Raises SettingsError: one line with the variable, the value (never a secret's) and what would be right.
    """
    computed = _compute_defaults(environ, is_terminal=is_terminal)
    values = {name: setting.read(environ, computed) for name, setting in list_settings().items()}
    settings = Settings(**values)
    _check_lease(settings)
    _check_queue(settings)
    return settings


def _compute_defaults(environ: Mapping[str, str], *, is_terminal: bool) -> dict[str, str]:
    """Tell the defaults that depend on where we are; DYNO marks a Heroku dyno."""
    data_dir = environ.get("THUMBS_DATA_DIR", "").strip() or "./var"
    max_queued_jobs = environ.get("THUMBS_MAX_QUEUED_JOBS", "").strip() or list_settings()["max_queued_jobs"].default
    return {
        "THUMBS_TRUSTED_PROXIES": "1" if environ.get("DYNO") else "0",
        "DATABASE_URL": f"sqlite:///{data_dir}/ledger.db",
        "THUMBS_DECODERS": str(min(os.cpu_count() or 1, 64)),
        "THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT": max_queued_jobs or "",
        "THUMBS_LOG_FORMAT": "text" if is_terminal else "json",
    }


def _check_lease(settings: Settings) -> None:
    run_seconds = settings.fetch_timeout_seconds + settings.decode_timeout_seconds
    needed_seconds = max(run_seconds, settings.webhook_timeout_seconds) + LEASE_MARGIN_SECONDS
    if settings.lease_seconds <= needed_seconds:
        raise SettingsError(
            f"THUMBS_LEASE_SECONDS={settings.lease_seconds:g} cannot be used: expected more than {needed_seconds:g}, "
            f"which is {LEASE_MARGIN_SECONDS} more than the longest work (THUMBS_FETCH_TIMEOUT_SECONDS + "
            "THUMBS_DECODE_TIMEOUT_SECONDS, or THUMBS_WEBHOOK_TIMEOUT_SECONDS)."
        )


def _check_queue(settings: Settings) -> None:
    if settings.max_queued_jobs_per_account > settings.max_queued_jobs:
        raise SettingsError(
            f"THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT={settings.max_queued_jobs_per_account} cannot be used: expected at "
            f"most {settings.max_queued_jobs}, which is THUMBS_MAX_QUEUED_JOBS."
        )
