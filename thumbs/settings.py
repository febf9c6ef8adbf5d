"""Every setting of thumbs: its environment variable, default, bounds and meaning; read once, validated, frozen.

`read_settings(os.environ)` is called once per process, by the faces. A bad value raises SettingsError: one line that
names the variable, the value and what would be right. docs/settings.md is generated from here (`thumbs settings
--markdown`). It owns no side effect: files and stores are the adapters' matter.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any, Final

from thumbs.addresses import parse_networks
from thumbs.errors import SettingsError

MIB: Final = 1024 * 1024
DECODABLE_FORMATS: Final = ("jpeg", "png", "gif", "bmp", "webp", "avif")
MIN_SECRET_KEY_CHARS: Final = 32
LEASE_MARGIN_SECONDS: Final = 10
"""What a run needs beside its fetch and its decode: storing, finishing, and a clock that steps a little."""

_PUBLIC_URL = re.compile(r"https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?(/[A-Za-z0-9._~/-]*)?")
Parser = Callable[[str], Any]


# ── parsers: untrusted text in, value out, ValueError with what would be right ──────────────────────────


def _integer(low: int, high: int, unit: str = "") -> Parser:
    return _number(int, low, high, f"expected a whole number from {low} to {high}{unit}")


def _seconds(low: float, high: float) -> Parser:
    return _number(float, low, high, f"expected a number of seconds from {low:g} to {high:g}")


def _number(convert: Callable[[str], float], low: float, high: float, expected: str) -> Parser:
    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            raise ValueError(expected) from None
        if not low <= value <= high:
            raise ValueError(expected)
        return value

    return parse


def _choice(*allowed: str) -> Parser:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"expected one of {', '.join(allowed)}")
        return text

    return parse


def _choices(*allowed: str) -> Parser:
    def parse(text: str) -> frozenset[str]:
        chosen = frozenset(part.strip() for part in text.split(",") if part.strip())
        if not chosen or chosen - set(allowed):
            raise ValueError(f"expected some of {', '.join(allowed)}, separated by commas")
        return chosen

    return parse


def _schedule(text: str) -> tuple[float, ...]:
    expected = "expected 1 to 20 numbers of seconds from 0.1 to 604800, separated by commas"
    try:
        delays = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError(expected) from None
    if not 1 <= len(delays) <= 20 or not all(0.1 <= delay <= 604_800 for delay in delays):
        raise ValueError(expected)
    return delays


def _public_url(text: str) -> str:
    if not _PUBLIC_URL.fullmatch(text):
        raise ValueError("expected a URL such as https://thumbs.example or http://10.0.0.1:8000/thumbs")
    return text.rstrip("/")


def _folder(text: str) -> Path:
    if "?" in text:  # The URL of a SQLite file would end there.
        raise ValueError("expected a path without a question mark")
    return Path(text)


def _url(*prefixes: str) -> Parser:
    def parse(text: str) -> str:
        if not text.startswith(prefixes):
            raise ValueError(f"expected a URL that begins with {', '.join(prefixes)}")
        return text

    return parse


def _secret_key(text: str) -> str:
    if len(text) < MIN_SECRET_KEY_CHARS:
        raise ValueError(f"expected at least {MIN_SECRET_KEY_CHARS} characters, best random ones")
    return text


def _networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    return parse_networks(text)


# ── the table ───────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting: `default` is the text that stands for an unset variable; None is 'not set'."""

    variable: str
    default: str | None
    default_help: str
    help: str
    parse: Callable[[str], Any]
    is_secret: bool = False


def _setting(
    variable: str,
    default: str | None,
    parse: Callable[[str], Any],
    help: str,
    *,
    default_help: str = "",
    is_secret: bool = False,
) -> Any:
    told = default_help or (f"`{default}`" if default is not None else "–")
    setting = Setting(variable, default, told, help, parse, is_secret)
    return field(repr=not is_secret, metadata={"setting": setting})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings of one process; secrets are left out of its repr."""

    port: int = _setting("PORT", "8000", _integer(1, 65535), "port on which `web` listens")
    host: str = _setting(
        "THUMBS_HOST",
        "0.0.0.0",
        str,
        "address on which `web` listens (`thumbs up`: `127.0.0.1`)",
    )
    public_url: str | None = _setting(
        "THUMBS_PUBLIC_URL",
        None,
        _public_url,
        "base of the URLs that we hand out",
        default_help="from the request that made the job (recorded with it)",
    )
    trusted_proxies: int = _setting(
        "THUMBS_TRUSTED_PROXIES",
        None,
        _integer(0, 10),
        "how many proxies' `X-Forwarded-*` headers to believe",
        default_help="`0` (`1` on Heroku, whose router is known)",
    )
    data_dir: Path = _setting("THUMBS_DATA_DIR", "./var", _folder, "folder of the SQLite files of the embedded default")
    database_url: str = _setting(
        "DATABASE_URL",
        None,
        _url("postgres://", "postgresql://", "sqlite:///"),
        "the ledger: `postgres://…`, `postgresql://…` or `sqlite:///path/to/file.db`",
        default_help="SQLite in `THUMBS_DATA_DIR`",
        is_secret=True,
    )
    database_connections: int = _setting(
        "THUMBS_DATABASE_CONNECTIONS", "5", _integer(1, 100), "connections of each process to PostgreSQL"
    )
    redis_url: str | None = _setting(
        "REDIS_URL",
        None,
        _url("redis://", "rediss://"),
        "the queues: `redis://…` or `rediss://…` (certificates are verified if it says `?ssl_cert_reqs=required`)",
        default_help="SQLite in `THUMBS_DATA_DIR`",
        is_secret=True,
    )
    secret_key: str | None = _setting(
        "THUMBS_SECRET_KEY",
        None,
        _secret_key,
        f"encrypts secrets at rest and signs queue messages; at least {MIN_SECRET_KEY_CHARS} characters",
        default_help="made once, in `THUMBS_DATA_DIR`; must be set with PostgreSQL or Redis",
        is_secret=True,
    )
    auth: str = _setting(
        "THUMBS_AUTH",
        "required",
        _choice("required", "off"),
        "whether `/v1` and the classic routes need an API key (`thumbs up`: `off`)",
    )
    allow_cidrs: tuple[IPv4Network | IPv6Network, ...] = _setting(
        "THUMBS_ALLOW_CIDRS",
        "",
        _networks,
        "networks that may be reached although they are not public (`thumbs up`: `127.0.0.0/8,::1/128`)",
        default_help="none",
    )
    callback_schemes: frozenset[str] = _setting(
        "THUMBS_CALLBACK_SCHEMES",
        "https",
        _choices("https", "http"),
        "schemes that a `callback_url` may have (`thumbs up`: `https,http`)",
    )
    ca_bundle: Path | None = _setting(
        "THUMBS_CA_BUNDLE",
        None,
        Path,
        "PEM file of the certificate authorities to trust when going out",
        default_help="those of `certifi`",
    )
    formats: frozenset[str] = _setting(
        "THUMBS_FORMATS", ",".join(DECODABLE_FORMATS), _choices(*DECODABLE_FORMATS), "source formats that are accepted"
    )
    max_source_bytes: int = _setting(
        "THUMBS_MAX_SOURCE_BYTES", str(20 * MIB), _integer(1024, 1024 * MIB, " bytes"), "largest source, in bytes"
    )
    max_pixels: int = _setting(
        "THUMBS_MAX_PIXELS",
        "50000000",
        _integer(1, 10**9, " pixels"),
        "largest source, in pixels (width times height)",
    )
    max_pixels_baseline_jpeg: int = _setting(
        "THUMBS_MAX_PIXELS_BASELINE_JPEG",
        "200000000",
        _integer(1, 10**9, " pixels"),
        "the same for baseline JPEG, which is decoded at a fraction of its size",
    )
    fetch_timeout_seconds: float = _setting(
        "THUMBS_FETCH_TIMEOUT_SECONDS", "20", _seconds(0.1, 600), "for one fetch, over all its redirects"
    )
    decode_timeout_seconds: float = _setting(
        "THUMBS_DECODE_TIMEOUT_SECONDS", "10", _seconds(0.1, 600), "for one decode, after which the decoder is killed"
    )
    decode_memory_bytes: int = _setting(
        "THUMBS_DECODE_MEMORY_BYTES",
        str(1024 * MIB),
        _integer(256 * MIB, 64 * 1024 * MIB, " bytes"),
        "address space of one decoder process",
    )
    webhook_schedule_seconds: tuple[float, ...] = _setting(
        "THUMBS_WEBHOOK_SCHEDULE_SECONDS",
        "5,30,120,600,1800,7200,18000,36000,50400,72000",
        _schedule,
        "delay before each further attempt of a delivery, lengthened by 0-20 %",
    )
    webhook_timeout_seconds: float = _setting(
        "THUMBS_WEBHOOK_TIMEOUT_SECONDS", "15", _seconds(0.1, 120), "for one delivery attempt in all"
    )
    lease_seconds: float = _setting(
        "THUMBS_LEASE_SECONDS",
        "45",
        _seconds(1, 3600),
        f"a worker's right to a job or delivery; more than fetch + decode + {LEASE_MARGIN_SECONDS} s",
    )
    sweep_seconds: float = _setting("THUMBS_SWEEP_SECONDS", "15", _seconds(0.1, 60), "between two passes of the sweep")
    retention_days: int = _setting(
        "THUMBS_RETENTION_DAYS", "7", _integer(1, 3650, " days"), "how long a job, its event and deliveries are kept"
    )
    thumbnail_days: int = _setting(
        "THUMBS_THUMBNAIL_DAYS", "30", _integer(1, 3650, " days"), "how long a thumbnail is kept"
    )
    max_queued_jobs: int = _setting(
        "THUMBS_MAX_QUEUED_JOBS",
        "100000",
        _integer(1, 10**9, " jobs"),
        "with so many jobs waiting, more are refused (503)",
    )
    web_processes: int = _setting("WEB_CONCURRENCY", "2", _integer(1, 64), "processes of `web`")
    web_threads: int = _setting("THUMBS_WEB_THREADS", "4", _integer(1, 64), "threads of each `web` process")
    worker_threads: int = _setting("THUMBS_WORKER_THREADS", "8", _integer(1, 64), "jobs at once in a `worker`")
    courier_threads: int = _setting(
        "THUMBS_COURIER_THREADS", "32", _integer(1, 256), "deliveries at once in a `courier`"
    )
    decoders: int = _setting(
        "THUMBS_DECODERS",
        None,
        _integer(1, 64),
        "decoder processes of a `worker`",
        default_help="number of cores",
    )
    log_format: str = _setting(
        "THUMBS_LOG_FORMAT",
        None,
        _choice("json", "text"),
        "one JSON object or readable text per line",
        default_help="`text` on a terminal, else `json`",
    )
    log_level: str = _setting(
        "THUMBS_LOG_LEVEL", "info", _choice("debug", "info", "warning", "error"), "least severe log lines to print"
    )


def list_settings() -> dict[str, Setting]:
    """List every setting by its field's name, in the order in which they are documented."""
    return {each.name: _setting_of(each) for each in fields(Settings)}


def read_settings(environ: Mapping[str, str], *, is_terminal: bool = False) -> Settings:
    """Read and check every setting; a variable that is set to nothing counts as unset.

    Raises SettingsError: one line with the variable, the value (never a secret's) and what would be right.
    """
    computed = _compute_defaults(environ, is_terminal=is_terminal)
    values = {name: _read_one(setting, environ, computed) for name, setting in list_settings().items()}
    settings = Settings(**values)
    _check_lease(settings)
    return settings


def _setting_of(each: Field[Any]) -> Setting:
    setting: Setting = each.metadata["setting"]
    return setting


def _compute_defaults(environ: Mapping[str, str], *, is_terminal: bool) -> dict[str, str]:
    """Tell the defaults that depend on where we are; DYNO marks a Heroku dyno."""
    data_dir = environ.get("THUMBS_DATA_DIR", "").strip() or "./var"
    return {
        "THUMBS_TRUSTED_PROXIES": "1" if environ.get("DYNO") else "0",
        "DATABASE_URL": f"sqlite:///{data_dir}/ledger.db",
        "THUMBS_DECODERS": str(min(os.cpu_count() or 1, 64)),
        "THUMBS_LOG_FORMAT": "text" if is_terminal else "json",
    }


def _read_one(setting: Setting, environ: Mapping[str, str], computed: Mapping[str, str]) -> Any:
    text = environ.get(setting.variable, "").strip() or computed.get(setting.variable) or setting.default
    if text is None:
        return None
    try:
        return setting.parse(text)
    except ValueError as error:
        shown = "(secret)" if setting.is_secret else repr(text)
        raise SettingsError(f"{setting.variable}={shown} cannot be used: {error}.") from error


def _check_lease(settings: Settings) -> None:
    run_seconds = settings.fetch_timeout_seconds + settings.decode_timeout_seconds
    needed_seconds = max(run_seconds, settings.webhook_timeout_seconds) + LEASE_MARGIN_SECONDS
    if settings.lease_seconds <= needed_seconds:
        raise SettingsError(
            f"THUMBS_LEASE_SECONDS={settings.lease_seconds:g} cannot be used: expected more than {needed_seconds:g}, "
            f"which is {LEASE_MARGIN_SECONDS} more than the longest work (THUMBS_FETCH_TIMEOUT_SECONDS + "
            "THUMBS_DECODE_TIMEOUT_SECONDS, or THUMBS_WEBHOOK_TIMEOUT_SECONDS)."
        )
