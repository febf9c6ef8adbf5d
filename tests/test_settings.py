"""Settings: the defaults that docs/settings.md promises, their bounds, and errors that say what is right."""

from dataclasses import FrozenInstanceError
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from tests.support.services import SECRET_KEY
from thumbs.errors import SettingsError
from thumbs.settings import Settings, list_settings, read_settings

MIB = 1024 * 1024
DEFAULTS: dict[str, Any] = {
    "port": 8000,
    "host": "0.0.0.0",
    "public_url": None,
    "trusted_proxies": 0,
    "data_dir": Path("./var"),
    "database_url": "sqlite:///./var/ledger.db",
    "database_connections": 5,
    "redis_url": None,
    "secret_key": None,
    "auth": "required",
    "allow_cidrs": (),
    "callback_schemes": {"https"},
    "ca_bundle": None,
    "egress_proxy_url": None,
    "formats": {"jpeg", "png", "gif", "bmp", "webp", "avif"},
    "max_source_bytes": 20 * MIB,
    "max_upload_bytes": 10 * MIB,
    "max_queued_upload_bytes": 1024 * MIB,
    "max_pixels": 50_000_000,
    "max_pixels_baseline_jpeg": 200_000_000,
    "fetch_timeout_seconds": 20,
    "fetch_max_per_host": 4,
    "decode_timeout_seconds": 10,
    "decode_memory_bytes": 1024 * MIB,
    "reuse": "account",
    "failure_cache_seconds": 60,
    "failure_cache_failures": 3,
    "webhook_schedule_seconds": (5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000),
    "webhook_timeout_seconds": 15,
    "webhook_max_retry_after_seconds": 86_400,
    "webhook_max_pause_seconds": 3600,
    "webhook_max_per_lane": 4,
    "webhook_max_per_account": 8,
    "webhook_max_per_host": 8,
    "webhook_slow_seconds": 5,
    "webhook_breaker_failures": 5,
    "webhook_breaker_seconds": 60,
    "webhook_breaker_max_seconds": 900,
    "webhook_max_per_second": 20,
    "webhook_recover_per_second": 10,
    "webhook_failing_seconds": 86_400,
    "webhook_disable_seconds": 432_000,
    "webhook_disable_failures": 20,
    "webhook_disable_events": 3,
    "webhook_max_endpoints": 20,
    "lease_seconds": 45,
    "sweep_seconds": 15,
    "retention_days": 7,
    "thumbnail_days": 30,
    "max_queued_jobs": 100_000,
    "max_queued_jobs_per_account": 100_000,
    "rate_limit": "600/minute",
    "web_processes": 2,
    "web_threads": 4,
    "worker_threads": 8,
    "courier_threads": 32,
    "log_format": "json",
    "log_level": "info",
}

GOOD = [
    ("PORT", "1", 1),
    ("PORT", "65535", 65535),
    ("THUMBS_HOST", "::1", "::1"),
    ("THUMBS_PUBLIC_URL", "https://thumbs.example/base/", "https://thumbs.example/base"),
    ("THUMBS_TRUSTED_PROXIES", "2", 2),
    ("THUMBS_DATA_DIR", "/data", Path("/data")),
    ("DATABASE_URL", "sqlite:////data/x.db", "sqlite:////data/x.db"),
    ("DATABASE_URL", "postgres://u:p@db/thumbs", "postgres://u:p@db/thumbs"),
    ("REDIS_URL", "redis://:p@cache:6379/0", "redis://:p@cache:6379/0"),
    ("REDIS_URL", "rediss://:p@cache:6380/0", "rediss://:p@cache:6380/0?ssl_cert_reqs=none&ssl_check_hostname=false"),
    ("REDIS_URL", "rediss://cache?db=1", "rediss://cache?db=1&ssl_cert_reqs=none&ssl_check_hostname=false"),
    ("REDIS_URL", "rediss://cache?ssl_cert_reqs=required", "rediss://cache?ssl_cert_reqs=required"),
    ("THUMBS_SECRET_KEY", "k" * 32, "k" * 32),
    ("THUMBS_AUTH", "off", "off"),
    ("THUMBS_ALLOW_CIDRS", "10.0.0.0/8, ::1/128", (ip_network("10.0.0.0/8"), ip_network("::1/128"))),
    ("THUMBS_CALLBACK_SCHEMES", "https, http", {"https", "http"}),
    ("THUMBS_CA_BUNDLE", "/etc/ca.pem", Path("/etc/ca.pem")),
    ("THUMBS_EGRESS_PROXY_URL", "http://proxy.example:3128", "http://proxy.example:3128"),
    ("THUMBS_EGRESS_PROXY_URL", "http://user:p%40ss@[fd00::1]:3128/", "http://user:p%40ss@[fd00::1]:3128/"),
    ("THUMBS_FORMATS", "jpeg,png", {"jpeg", "png"}),
    ("THUMBS_FORMATS", "jpeg, tiff, heif", {"jpeg", "tiff", "heif"}),
    ("THUMBS_MAX_SOURCE_BYTES", "1024", 1024),
    ("THUMBS_FETCH_TIMEOUT_SECONDS", "0.5", 0.5),
    ("THUMBS_REUSE", "all", "all"),
    ("THUMBS_FAILURE_CACHE_SECONDS", "0", 0),
    ("THUMBS_WEBHOOK_SCHEDULE_SECONDS", "0.1, 60", (0.1, 60)),
    ("THUMBS_RATE_LIMIT", "10/second", "10/second"),
    ("THUMBS_RATE_LIMIT", "010 per hour", "10/hour"),
    ("THUMBS_RATE_LIMIT", "20/second; 600 / minute ;5000/day", "20/second;600/minute;5000/day"),
    ("THUMBS_LOG_LEVEL", "debug", "debug"),
]

BAD = [
    ("PORT", "0"),
    ("PORT", "65536"),
    ("PORT", "http"),
    ("PORT", "80.5"),
    ("THUMBS_PUBLIC_URL", "thumbs.example"),
    ("THUMBS_PUBLIC_URL", "ftp://thumbs.example"),
    ("THUMBS_PUBLIC_URL", "https://thumbs.example/?x=1"),
    ("THUMBS_PUBLIC_URL", "https:///path"),
    ("THUMBS_TRUSTED_PROXIES", "-1"),
    ("THUMBS_AUTH", "on"),
    ("THUMBS_AUTH", "OFF"),
    ("THUMBS_ALLOW_CIDRS", "10.0.0.1/8"),
    ("THUMBS_ALLOW_CIDRS", "localhost"),
    ("THUMBS_CALLBACK_SCHEMES", "ftp"),
    ("THUMBS_CALLBACK_SCHEMES", ","),
    ("THUMBS_FETCH_MAX_PER_HOST", "0"),
    ("THUMBS_FORMATS", "jpeg,svg"),
    ("THUMBS_MAX_SOURCE_BYTES", "1023"),
    ("THUMBS_MAX_SOURCE_BYTES", "20 MiB"),
    ("THUMBS_MAX_UPLOAD_BYTES", "0"),
    ("THUMBS_MAX_QUEUED_UPLOAD_BYTES", "1 GiB"),
    ("THUMBS_REUSE", "everybody"),
    ("THUMBS_FAILURE_CACHE_SECONDS", "-1"),
    ("THUMBS_FAILURE_CACHE_FAILURES", "0"),
    ("THUMBS_MAX_PIXELS", "0"),
    ("THUMBS_MAX_PIXELS_BASELINE_JPEG", "1000000001"),
    ("THUMBS_FETCH_TIMEOUT_SECONDS", "0"),
    ("THUMBS_FETCH_TIMEOUT_SECONDS", "nan"),
    ("THUMBS_FETCH_TIMEOUT_SECONDS", "inf"),
    ("THUMBS_DECODE_TIMEOUT_SECONDS", "601"),
    ("THUMBS_DECODE_MEMORY_BYTES", "1000000"),
    ("THUMBS_WEBHOOK_SCHEDULE_SECONDS", "0"),
    ("THUMBS_WEBHOOK_SCHEDULE_SECONDS", "5,,30"),
    ("THUMBS_WEBHOOK_SCHEDULE_SECONDS", ",".join(["5"] * 21)),
    ("THUMBS_WEBHOOK_TIMEOUT_SECONDS", "121"),
    ("THUMBS_WEBHOOK_MAX_RETRY_AFTER_SECONDS", "-1"),
    ("THUMBS_WEBHOOK_MAX_PAUSE_SECONDS", "86401"),
    ("THUMBS_WEBHOOK_MAX_PER_LANE", "0"),
    ("THUMBS_WEBHOOK_MAX_PER_ACCOUNT", "257"),
    ("THUMBS_WEBHOOK_MAX_PER_HOST", "0"),
    ("THUMBS_WEBHOOK_SLOW_SECONDS", "0"),
    ("THUMBS_WEBHOOK_BREAKER_FAILURES", "0"),
    ("THUMBS_WEBHOOK_BREAKER_SECONDS", "nan"),
    ("THUMBS_WEBHOOK_MAX_PER_SECOND", "0"),
    ("THUMBS_WEBHOOK_RECOVER_PER_SECOND", "0.5"),
    ("THUMBS_WEBHOOK_DISABLE_SECONDS", "0"),
    ("THUMBS_WEBHOOK_DISABLE_EVENTS", "0"),
    ("THUMBS_WEBHOOK_MAX_ENDPOINTS", "1001"),
    ("THUMBS_SWEEP_SECONDS", "61"),
    ("THUMBS_DATABASE_CONNECTIONS", "0"),
    ("THUMBS_RETENTION_DAYS", "0"),
    ("THUMBS_THUMBNAIL_DAYS", "3651"),
    ("THUMBS_MAX_QUEUED_JOBS", "0"),
    ("THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT", "0"),
    ("THUMBS_RATE_LIMIT", "600"),
    ("THUMBS_RATE_LIMIT", "0/minute"),
    ("THUMBS_RATE_LIMIT", "-1/minute"),
    ("THUMBS_RATE_LIMIT", "600/fortnight"),
    ("THUMBS_RATE_LIMIT", "600/minutes"),
    ("THUMBS_RATE_LIMIT", "1.5/second"),
    ("THUMBS_RATE_LIMIT", "10/second;"),
    ("THUMBS_RATE_LIMIT", "1000000001/second"),
    ("THUMBS_RATE_LIMIT", "off"),
    ("WEB_CONCURRENCY", "0"),
    ("THUMBS_WEB_THREADS", "65"),
    ("THUMBS_WORKER_THREADS", "0"),
    ("THUMBS_COURIER_THREADS", "257"),
    ("THUMBS_DECODERS", "65"),
    ("THUMBS_LOG_FORMAT", "xml"),
    ("THUMBS_LOG_LEVEL", "INFO"),
]


def name_field(variable: str) -> str:
    return next(name for name, setting in list_settings().items() if setting.variable == variable)


@pytest.mark.parametrize(("name", "value"), DEFAULTS.items(), ids=DEFAULTS)
def test_default_is_as_documented(name: str, value: Any) -> None:
    assert getattr(read_settings({}), name) == value


def test_every_default_is_tested_here() -> None:
    """Apart from the number of decoders, which is the machine's."""
    assert {*DEFAULTS, "decoders"} == set(list_settings())


@pytest.mark.parametrize(("variable", "text", "value"), GOOD)
def test_value_is_taken(variable: str, text: str, value: Any) -> None:
    assert getattr(read_settings({variable: text}), name_field(variable)) == value


@pytest.mark.parametrize(("variable", "text"), BAD)
def test_bad_value_is_one_line_naming_variable_value_and_what_is_right(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({variable: text})
    told = str(caught.value)
    assert told.startswith(f"{variable}={text!r} cannot be used: ")
    assert "\n" not in told
    assert told.endswith(".")


@pytest.mark.parametrize("text", ["", " ", "\t"])
@pytest.mark.parametrize("setting", list_settings().values(), ids=lambda setting: setting.variable)
def test_variable_that_is_set_to_nothing_counts_as_unset(setting: Any, text: str) -> None:
    """`FOO= command` and an empty field on a platform's page mean the default."""
    assert read_settings({setting.variable: text}) == read_settings({})


def test_value_is_taken_without_the_spaces_around_it() -> None:
    settings = read_settings({"THUMBS_DATA_DIR": " /data ", "PORT": " 80 "})
    assert (settings.data_dir, settings.database_url) == (Path("/data"), "sqlite:////data/ledger.db")


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("THUMBS_SECRET_KEY", "a short secret"),
        ("DATABASE_URL", "mysql://user:word@db/thumbs"),
        ("REDIS_URL", "https://user:word@cache"),
        ("THUMBS_EGRESS_PROXY_URL", "https://proxy.example:3128"),
        ("THUMBS_EGRESS_PROXY_URL", "relay.example:3128"),
        ("THUMBS_EGRESS_PROXY_URL", "http://user:word@proxy.example:65536"),
        ("THUMBS_EGRESS_PROXY_URL", "http://user:word@proxy.example/path"),
    ],
)
def test_error_does_not_show_a_secret(variable: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({variable: text})
    assert str(caught.value).startswith(f"{variable}=(secret) cannot be used: expected ")
    assert text not in str(caught.value)


def test_repr_does_not_show_secrets() -> None:
    environ = {
        "THUMBS_SECRET_KEY": SECRET_KEY,
        "DATABASE_URL": "postgres://user:word@db/thumbs",
        "REDIS_URL": "redis://:word@cache",
    }
    assert not any(secret in repr(read_settings(environ)) for secret in environ.values())


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        read_settings({}).port = 1  # type: ignore[misc]


def test_ledger_is_in_the_data_directory_unless_it_is_named() -> None:
    assert read_settings({"THUMBS_DATA_DIR": "/data"}).database_url == "sqlite:////data/ledger.db"
    both = read_settings({"THUMBS_DATA_DIR": "/data", "DATABASE_URL": "sqlite:////other.db"})
    assert both.database_url == "sqlite:////other.db"


def test_herokus_router_is_believed_on_heroku() -> None:
    assert read_settings({"DYNO": "web.1"}).trusted_proxies == 1
    assert read_settings({"DYNO": "web.1", "THUMBS_TRUSTED_PROXIES": "0"}).trusted_proxies == 0


def test_log_is_text_on_a_terminal_unless_it_is_set() -> None:
    assert read_settings({}, is_terminal=True).log_format == "text"
    assert read_settings({"THUMBS_LOG_FORMAT": "json"}, is_terminal=True).log_format == "json"


def test_number_of_decoders_is_within_bounds_by_default() -> None:
    assert 1 <= read_settings({}).decoders <= 64


@pytest.mark.parametrize(
    "environ",
    [
        {"THUMBS_LEASE_SECONDS": "40"},
        {"THUMBS_FETCH_TIMEOUT_SECONDS": "25"},
        {"THUMBS_DECODE_TIMEOUT_SECONDS": "15"},
        {"THUMBS_WEBHOOK_TIMEOUT_SECONDS": "35"},
    ],
)
def test_lease_must_outlast_the_longest_work_by_ten_seconds(environ: dict[str, str]) -> None:
    """Else the sweep would take work away from those who are still at it."""
    with pytest.raises(SettingsError, match=r"^THUMBS_LEASE_SECONDS=\d+ cannot be used: expected more than \d+"):
        read_settings(environ)


def test_lease_that_outlasts_the_longest_work_is_taken() -> None:
    environ = {"THUMBS_FETCH_TIMEOUT_SECONDS": "30", "THUMBS_LEASE_SECONDS": "50.1"}
    assert read_settings(environ).lease_seconds == 50.1


@pytest.mark.parametrize("setting", list_settings().values(), ids=lambda setting: setting.variable)
def test_setting_has_help_and_a_default_that_can_be_told(setting: Any) -> None:
    assert setting.help
    assert setting.default_help


def test_every_field_is_a_setting() -> None:
    assert set(list_settings()) == set(Settings.__dataclass_fields__)


def test_one_account_may_fill_the_queue_unless_it_is_told_otherwise() -> None:
    assert read_settings({"THUMBS_MAX_QUEUED_JOBS": "50"}).max_queued_jobs_per_account == 50
    given = {"THUMBS_MAX_QUEUED_JOBS": "50", "THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT": "7"}
    assert read_settings(given).max_queued_jobs_per_account == 7


def test_one_accounts_part_of_the_queue_is_not_larger_than_the_queue() -> None:
    given = {"THUMBS_MAX_QUEUED_JOBS": "50", "THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT": "51"}
    with pytest.raises(SettingsError, match=r"THUMBS_MAX_QUEUED_JOBS_PER_ACCOUNT=51 cannot be used: .* at most 50"):
        read_settings(given)
