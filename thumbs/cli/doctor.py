"""`thumbs doctor`: is everything here that the service needs? One line per check, with what to do about it.

Each check is a function from services to a Finding and has a bounded time of its own, so a store that is down or
hangs costs its own line and no other. Nothing is left behind: what a check writes, it takes away again. No line holds a
secret. It is the one place outside the worker that starts a decoder.
"""

import base64
import logging
import os
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

import click

from thumbs.addresses import DEFAULT_PORTS, check_url
from thumbs.cautions import LOOPBACK_HOSTS
from thumbs.cli.environment import NoDispatcher, load_settings
from thumbs.domain import Blob, DecodeLimits, ThumbnailSpec
from thumbs.errors import LedgerUnavailable, QueueUnavailable, SettingsError, ThumbsError, UrlNotAllowed
from thumbs.ledger import SCHEMA_REVISION
from thumbs.outbound.lookup import Lookup, resolve_by_system
from thumbs.protocols import Dispatcher
from thumbs.sandbox import Sandbox
from thumbs.services import Services, build
from thumbs.settings import MIB, Settings, list_settings

CHECK_SECONDS: Final = 15.0
"""What a check may take; each store gives up by itself before (SQLite's lock 10 s, PostgreSQL 5 s, Redis 3 s)."""
LOOKUP_SECONDS: Final = 5.0
MAX_SKEW_SECONDS: Final = 5.0
"""How far clocks may be apart: leases are made with room for it (docs/architecture.md)."""
MIN_FREE_BYTES: Final = 100 * MIB
LOW_FREE_BYTES: Final = 1024 * MIB
PROBE_LIFETIME: Final = timedelta(minutes=1)
"""Should we die before a probe is deleted, the sweep forgets it after that."""
PRIVATE_URLS: Final = ("http://10.0.0.1/", "http://192.168.0.1/", "http://127.0.0.1/", "http://[fd00::1]/")
METADATA_URL: Final = "http://169.254.169.254/"
"""Where clouds hand out credentials to whoever can ask from inside."""
TINY_GIF: Final = base64.b64decode("R0lGODdhAQABAIAAAP///wAAACwAAAAAAQABAAACAkQBADs=")


class Level(StrEnum):
    """How bad it is; FAIL makes the exit status 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found, and what to do about it."""

    level: Level
    found: str
    remedy: str = ""


Check = Callable[[Services], Finding]


@click.command()
def doctor() -> None:
    """Check settings, stores, clock, decoder and network rules; exit status 1 when something is wrong."""
    logging.disable()  # What fails is told in a line of ours.
    sys.exit(0 if _examine() else 1)


def check_settings(settings: Settings, environ: Mapping[str, str]) -> Finding:
    """Check what read_settings does not refuse: variables that are none of ours, and a door that is open to all."""
    known = {setting.variable for setting in list_settings().values()}
    unknown = sorted(name for name in environ if name.startswith("THUMBS_") and name not in known)
    if unknown:
        return Finding(Level.WARN, f"no such setting: {', '.join(unknown)}", "see `thumbs settings` for their names")
    if settings.auth == "off" and settings.host not in LOOPBACK_HOSTS:
        return Finding(Level.WARN, f"THUMBS_AUTH=off on {settings.host}: everybody may come in", "unset THUMBS_AUTH")
    set_count = sum(bool(environ.get(name)) for name in known)
    return Finding(Level.OK, f"{set_count} set, {len(known) - set_count} at their defaults")


def check_ledger(services: Services) -> Finding:
    """Check that the ledger answers, and takes writes once it has its tables."""
    remedy = "see that DATABASE_URL is right, its server runs, and its disk is not full"
    upkeep = services.ledger.upkeep
    try:
        upkeep.ping()
        if upkeep.find_schema_revision() is None:
            return Finding(Level.OK, f"{_name_ledger(services.settings)} answers, and is empty")
        lock = services.new_lease("doctor", services.clock.now())
        if upkeep.take_lock(lock, services.clock.now()):
            upkeep.release_lock(lock)
    except ThumbsError as error:
        return Finding(Level.FAIL, f"{_name_ledger(services.settings)}: {_explain(error)}", remedy)
    return Finding(Level.OK, f"{_name_ledger(services.settings)} answers and takes writes")


def check_schema(services: Services) -> Finding:
    """Check that the schema is the one that this release works with."""
    revision = services.ledger.upkeep.find_schema_revision()
    if revision is None or revision < SCHEMA_REVISION:
        found = f"it is at {revision or 'nothing'}, this release needs {SCHEMA_REVISION}"
        return Finding(Level.FAIL, found, "run `thumbs migrate`")
    if revision > SCHEMA_REVISION:
        found = f"it is at {revision}, this release knows {SCHEMA_REVISION}"
        return Finding(Level.WARN, found, "fine while an upgrade is under way, else deploy the newer release")
    return Finding(Level.OK, f"it is at {revision}")


def check_queue(services: Services) -> Finding:
    """Check that both queues answer."""
    job_count, delivery_count = services.dispatcher.count_jobs(), services.dispatcher.count_deliveries()
    where = _hide_password(services.settings.redis_url) if services.settings.redis_url else "SQLite"
    return Finding(Level.OK, f"{where} answers; {job_count} jobs and {delivery_count} deliveries wait")


def check_blobs(services: Services) -> Finding:
    """Check that a blob can be put, found and deleted."""
    _require_tables(services)
    now, name = services.clock.now(), f"{services.new_id('doctor')}.probe"
    probe = Blob(name, "image/gif", "0" * 64, TINY_GIF, now + PROBE_LIFETIME)
    services.blobs.put(probe)
    found = services.blobs.find(name, now)
    services.blobs.delete(name)
    if found is None or found.body != TINY_GIF or services.blobs.find(name, now) is not None:
        return Finding(Level.FAIL, "a probe did not come back as it was put", "see that only thumbs writes there")
    return Finding(Level.OK, "a probe was put, found and deleted")


def check_clock(services: Services) -> Finding:
    """Check our clock against the database's: leases are only as good as the clocks agree."""
    before = services.clock.now()
    theirs = services.ledger.upkeep.tell_time()
    ours = before + (services.clock.now() - before) / 2
    skew_seconds = (ours - theirs).total_seconds()
    told = f"{abs(skew_seconds):.1f} s {'ahead of' if skew_seconds > 0 else 'behind'} the ledger's"
    if abs(skew_seconds) > MAX_SKEW_SECONDS:
        return Finding(Level.FAIL, f"ours is {told}", f"set both by NTP: more than {MAX_SKEW_SECONDS:g} s is too much")
    return Finding(Level.OK, f"ours is {told}")


def check_decoder(services: Services) -> Finding:
    """Check that a real decoder process makes a thumbnail, within the limits that are set."""
    settings = services.settings
    limits = DecodeLimits()  # Not those of THUMBS_FORMATS: the probe is a GIF.
    timeout_seconds, memory_bytes = settings.decode_timeout_seconds, settings.decode_memory_bytes
    with Sandbox(limits, decoders=1, timeout_seconds=timeout_seconds, memory_bytes=memory_bytes) as sandbox:
        rendering = sandbox.render(TINY_GIF, [ThumbnailSpec()], wait_seconds=CHECK_SECONDS)
    return Finding(Level.OK, f"a decoder made {len(rendering.pictures)} thumbnail")


def check_dns(services: Services) -> Finding:
    """Check that the name that we hand out in URLs is known."""
    url = services.settings.public_url
    if url is None:
        return Finding(Level.OK, "not checked: THUMBS_PUBLIC_URL is not set")
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        addresses = Lookup(resolve_by_system).resolve(host, parts.port or DEFAULT_PORTS[parts.scheme], LOOKUP_SECONDS)
    except (OSError, UnicodeError) as error:
        reason = str(error) or "no answer in time"
        return Finding(Level.FAIL, f"{host}: {reason}", "correct THUMBS_PUBLIC_URL, or this machine's resolver")
    return Finding(Level.OK, f"{host} is {', '.join(sorted(set(addresses)))}")


def check_egress(services: Services) -> Finding:
    """Check that private addresses are refused, and tell which are not: whoever may submit a job can reach those."""
    allowed = [str(network) for network in services.settings.allow_cidrs]
    if not _is_refused(services, METADATA_URL):
        found = f"the cloud's metadata service can be reached: {', '.join(allowed)} is allowed"
        return Finding(Level.FAIL, found, "narrow THUMBS_ALLOW_CIDRS")
    if allowed:
        found = f"not only public addresses may be reached: {', '.join(allowed)}"
        return Finding(Level.WARN, found, "unset THUMBS_ALLOW_CIDRS unless that is meant")
    open_urls = [url for url in PRIVATE_URLS if not _is_refused(services, url)]
    if open_urls:
        return Finding(Level.FAIL, f"private addresses are not refused: {', '.join(open_urls)}", "report this bug")
    return Finding(Level.OK, "public addresses only; private ones are refused")


def check_disk(services: Services) -> Finding:
    """Check that there is room where SQLite's files are."""
    settings = services.settings
    if not settings.database_url.startswith("sqlite:") and settings.redis_url is not None:
        return Finding(Level.OK, "not checked: nothing is kept here")
    return judge_space(shutil.disk_usage(settings.data_dir).free, settings.data_dir)


def judge_space(free_bytes: int, folder: Path) -> Finding:
    """Judge how much room there is."""
    found = f"{free_bytes // MIB} MiB are free in {folder}"
    if free_bytes < LOW_FREE_BYTES:
        level = Level.FAIL if free_bytes < MIN_FREE_BYTES else Level.WARN
        return Finding(level, found, "make room, or move THUMBS_DATA_DIR")
    return Finding(Level.OK, found)


def check_secret_key(services: Services) -> Finding:
    """Check that what is stored was encrypted with our key."""
    _require_tables(services)
    remedy = "set THUMBS_SECRET_KEY to the one that the accounts were made with"
    accounts = services.ledger.accounts.list_all()
    unreadable_count = sum(not _can_decrypt(services, account.callback_secret) for account in accounts)
    if unreadable_count:
        return Finding(Level.FAIL, f"it does not decrypt {unreadable_count} of {len(accounts)} stored secrets", remedy)
    return Finding(Level.OK, f"it decrypts all of {len(accounts)} stored secrets" if accounts else "nothing is stored")


CHECKS: Final[Mapping[str, tuple[Check, str]]] = {
    "ledger": (check_ledger, "see that DATABASE_URL is right and its server runs"),
    "schema": (check_schema, "see to the ledger first"),
    "queue": (check_queue, "see that REDIS_URL is right and its server runs; jobs are accepted without it, and wait"),
    "blobs": (check_blobs, "see to the ledger and its schema first"),
    "clock": (check_clock, "see to the ledger first"),
    "decoder": (check_decoder, "see that processes may be started and have THUMBS_DECODE_MEMORY_BYTES of memory"),
    "dns": (check_dns, "correct THUMBS_PUBLIC_URL, or this machine's resolver"),
    "egress": (check_egress, "report this bug"),
    "disk": (check_disk, "see that THUMBS_DATA_DIR is there and can be read"),
    "secret key": (check_secret_key, "see to the ledger and its schema first"),
}
"""Each check with the remedy for when it cannot be made at all."""


def _examine() -> bool:
    """Make every check, and print each line as it comes; tells whether nothing failed."""
    try:
        settings = load_settings()
        services = build(settings, LazyDispatcher())
    except SettingsError as error:
        _print("settings", Finding(Level.FAIL, str(error), "correct it; nothing else can be checked before"), ())
        return False
    secrets = list(_list_secrets(settings))
    findings = [_print("settings", check_settings(settings, os.environ), secrets)]
    for name, (check, remedy) in CHECKS.items():
        findings.append(_print(name, make_check(check, services, remedy), secrets))
    services.close()
    return all(finding.level is not Level.FAIL for finding in findings)


def make_check(check: Check, services: Services, remedy: str, timeout_seconds: float = CHECK_SECONDS) -> Finding:
    """Make a check in a thread of its own; one that does not end in time is left behind."""
    answer: Future[Finding] = Future()
    threading.Thread(target=_answer, args=(answer, check, services), name="doctor", daemon=True).start()
    try:
        return answer.result(timeout_seconds)
    except TimeoutError:
        return Finding(Level.FAIL, f"no answer within {timeout_seconds:g} s", remedy)
    except (ThumbsError, OSError) as error:
        return Finding(Level.FAIL, _explain(error), remedy)


def _answer(answer: "Future[Finding]", check: Check, services: Services) -> None:
    try:
        answer.set_result(check(services))
    except (ThumbsError, OSError) as error:
        answer.set_exception(error)
    finally:
        if not answer.done():  # A bug: its traceback is on stderr.
            answer.set_result(Finding(Level.FAIL, "the check itself broke", "report this bug"))


class LazyDispatcher(NoDispatcher):
    """Counts what waits on the real queues, which are opened at the first count."""

    def count_jobs(self) -> int:
        """Count the messages about jobs that wait."""
        return _open_queues().count_jobs()

    def count_deliveries(self) -> int:
        """Count the messages about deliveries that wait."""
        return _open_queues().count_deliveries()


def _open_queues() -> Dispatcher:
    """Open the queues. Importing `tasks` does it, and with SQLite that fails where the files cannot be written."""
    try:
        import tasks  # noqa: PLC0415  Opens the queues, which no other command or check needs or may fail by.
    except sqlite3.Error as error:
        raise QueueUnavailable("the queue cannot be opened") from error
    return tasks.dispatcher


def _print(name: str, finding: Finding, secrets: Iterable[str]) -> Finding:
    remedy = f" → {finding.remedy}" if finding.remedy and finding.level is not Level.OK else ""
    line = f"{finding.level:4}  {name:10}  {finding.found}{remedy}"
    for secret in secrets:
        line = line.replace(secret, "********")
    click.echo(line)
    return finding


def _explain(error: BaseException) -> str:
    """Tell an error by what caused it in the first place, in one line."""
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join(str(cause).split()) or type(cause).__name__


def _list_secrets(settings: Settings) -> Iterator[str]:
    """List what no line may hold, should a driver's error quote it."""
    urls = (settings.database_url, settings.redis_url or "")
    passwords = [urlsplit(url).password or "" for url in urls]
    yield from filter(None, [settings.secret_key or "", *passwords, *map(unquote, passwords)])


def _name_ledger(settings: Settings) -> str:
    if settings.database_url.startswith("sqlite:"):
        return str(Path(settings.database_url.removeprefix("sqlite:///")))
    return _hide_password(settings.database_url)


def _hide_password(url: str) -> str:
    """Tell scheme, host, port and path of a URL: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _require_tables(services: Services) -> None:
    if services.ledger.upkeep.find_schema_revision() is None:
        raise LedgerUnavailable("not checked: there are no tables yet")


def _is_refused(services: Services, url: str) -> bool:
    try:
        check_url(url, services.policy)
    except UrlNotAllowed:
        return True
    return False


def _can_decrypt(services: Services, token: str) -> bool:
    try:
        services.cipher.decrypt(token)
    except SettingsError:
        return False
    return True
