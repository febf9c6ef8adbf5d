"""`thumbs listen`: prints an account's events as they come, and forwards them, signed, to a receiver on this machine.

It reads `GET /v1/events` of a server that may be far away, as any caller may, and keeps nothing but its place. It runs
where a developer works and goes where it is told to: the policy for addresses is for what callers of the service name.
"""

import json
import os
import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import click

from thumbs import signing
from thumbs.cli.forward import Answer, Receiver, forward, is_verified, sign
from thumbs.cli.stream import EVENT_ID, Event, Server, Stream
from thumbs.cli.wire import load_authorities, show_text, split_target
from thumbs.domain import ANY_EVENT, EVENT_PATTERNS, EventType, is_wanted
from thumbs.parsers import parse_public_url

DEFAULT_PORT: Final = "8000"
MAX_SHOWN_CHARS: Final = 200
"""Of a receiver's body that tells why it did not answer 2xx."""


class Mistake(click.ClickException):
    """What was typed cannot be used: told in one line."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Wishes:
    """What was typed, parsed; `events` are patterns of types."""

    server: str
    api_key: str | None = field(repr=False)
    forward_to: str | None
    events: tuple[str, ...]
    secret: str | None = field(repr=False)
    from_start: bool
    after: str | None
    is_json: bool

    def wants(self, event: Event) -> bool:
        """Tell whether an event is to be shown."""
        return is_wanted(event.type, self.events)


@dataclass(slots=True)
class Tally:
    """What the summary tells."""

    events: int = 0
    answered: int = 0
    failed: int = 0

    def count(self, answer: Answer | None) -> None:
        """Count an event, and how its receiver took it."""
        self.events += 1
        self.answered += answer is not None and answer.is_good
        self.failed += answer is not None and not answer.is_good


# ── options ─────────────────────────────────────────────────────────────────────────────────────────────


def parse_server(text: str) -> str:
    """Parse the base URL of a server."""
    base = parse_public_url(text.strip())
    split_target(base)
    return base


def parse_receiver(text: str) -> str:
    """Parse where to forward to; `localhost:3000/hooks` is enough."""
    url = text if "://" in text else f"http://{text}"
    split_target(url)
    return url


def parse_api_key(text: str) -> str:
    """Parse an API key far enough for a header."""
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("expected a key as `thumbs keys create NAME` prints it")
    return text


def parse_events(text: str) -> tuple[str, ...]:
    """Parse the types of events to show."""
    known = (*EVENT_PATTERNS, str(EventType.PING))
    chosen = tuple(part.strip() for part in text.split(",") if part.strip())
    if not chosen or set(chosen) - set(known):
        raise ValueError(f"expected some of {', '.join(known)}, separated by commas")
    return chosen


def parse_secret(text: str) -> str:
    """Parse a signing secret; a bad one is not repeated."""
    signing.parse_secret(text)
    return text


def parse_event_id(text: str) -> str:
    """Parse the id of an event."""
    if not EVENT_ID.fullmatch(text):
        raise ValueError("expected an event's id such as evt_01K5Z8M3V7Q2X9T4B6N8R0WYCD")
    return text


def _by(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Build the callback that parses an option's text; what is wrong is told without repeating it: it may be secret."""

    def parse_option(ctx: click.Context, param: click.Parameter, value: str | None) -> Any:  # noqa: ARG001
        try:
            return None if value is None else parse(value)
        except ValueError as error:
            raise Mistake(f"{param.opts[0]}: {error}") from None

    return parse_option


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────


@click.command()
@click.option(
    "--server",
    metavar="URL",
    envvar="THUMBS_URL",
    show_envvar=True,
    default=lambda: f"http://127.0.0.1:{os.environ.get('PORT') or DEFAULT_PORT}",
    show_default="http://127.0.0.1:${PORT:-8000}",
    callback=_by(parse_server),
    help="The server to listen to.",
)
@click.option(
    "--api-key",
    metavar="KEY",
    envvar="THUMBS_API_KEY",
    show_envvar=True,
    callback=_by(parse_api_key),
    help="A key of the account to listen to, where the server asks for one.",
)
@click.option(
    "--forward-to",
    metavar="URL",
    callback=_by(parse_receiver),
    help="POST each event to this receiver, signed. It is tried once.",
)
@click.option(
    "--events",
    metavar="TYPES",
    default=ANY_EVENT,
    callback=_by(parse_events),
    help="Only these types, separated by commas, such as job.failed,batch.*",
)
@click.option(
    "--secret",
    metavar="WHSEC",
    callback=_by(parse_secret),
    help="Sign with this secret, rather than one that is drawn and shown at the start.",
)
@click.option("--from-start", is_flag=True, help="Begin with the oldest event that the server has, rather than now.")
@click.option(
    "--after", metavar="EVENT_ID", callback=_by(parse_event_id), help="Begin behind this event, rather than now."
)
@click.option("--json", "is_json", is_flag=True, help="One JSON object per line, for scripts; notes go to stderr.")
def listen(**options: Any) -> None:
    """Print events as they come, and forward them, signed, to a receiver on this machine.

    The receiver needs no address that the server can reach, and the server needs no endpoint for it. Whatever the
    receiver answers is shown, and the next event follows; Ctrl-C ends it.

    \b
    thumbs listen --forward-to http://localhost:3000/hooks
    thumbs listen --server https://thumbs.example --events 'job.*' --json
    """
    wishes = Wishes(**options)
    if wishes.from_start and wishes.after:
        raise Mistake("--from-start and --after exclude each other.")
    tls = load_authorities()
    stream = Stream(Server(wishes.server, wishes.api_key, tls), wishes.after, note)
    receiver = Receiver(wishes.forward_to, tls) if wishes.forward_to else None
    tally = Tally()
    try:
        _follow(wishes, stream, receiver, tally)
    except KeyboardInterrupt:
        click.echo(err=True, nl=sys.stderr.isatty())  # A terminal has just shown `^C` at the start of the line.
        note("stopped", _sum_up(tally, stream.cursor, is_forwarding=receiver is not None))


def note(word: str, text: str) -> None:
    """Print what is not an event."""
    click.echo(f"{word:<11} {text}", err=True)


def _follow(wishes: Wishes, stream: Stream, receiver: Receiver | None, tally: Tally) -> None:
    """Handle one event after the other, for ever."""
    secret = wishes.secret or signing.build_secret(secrets.token_bytes(signing.KEY_BYTES))
    _greet(wishes, secret)
    stream.open(is_from_now=not wishes.from_start and wishes.after is None)
    note("listening", f"to {wishes.server} {_say_since(wishes)}")
    for event in stream:
        if wishes.wants(event):
            headers = sign(event, secret)
            answer = forward(event, headers, receiver) if receiver else None
            click.echo(_render(event, is_verified(event, headers, secret), answer, is_json=wishes.is_json))
            tally.count(answer)


def _greet(wishes: Wishes, secret: str) -> None:
    if wishes.forward_to is None:
        return
    note("forwarding", f"to {wishes.forward_to}")
    if wishes.secret is None:
        note("secret", f"{secret} (of this session: give it to your receiver)")


def _say_since(wishes: Wishes) -> str:
    if wishes.from_start:
        return "from its oldest event on"
    return f"from {wishes.after} on" if wishes.after else "from now on"


def _sum_up(tally: Tally, cursor: str | None, *, is_forwarding: bool) -> str:
    told = [f"{tally.events} event{'' if tally.events == 1 else 's'}"]
    if is_forwarding:
        told += [f"{tally.answered} answered with 2xx", f"{tally.failed} not"]
    return ", ".join(told) + (f"; --after {cursor} goes on from here" if cursor else "")


# ── lines ───────────────────────────────────────────────────────────────────────────────────────────────


def _render(event: Event, is_good: bool, answer: Answer | None, *, is_json: bool) -> str:
    return _render_json(event, is_good, answer) if is_json else _render_line(event, is_good, answer)


def _render_line(event: Event, is_good: bool, answer: Answer | None) -> str:
    moment = event.happened_at.astimezone().strftime("%H:%M:%S")
    verified = "verified" if is_good else click.style("NOT VERIFIED", fg="red")
    line = f"{moment}  {event.id}  {event.type:<17}  {verified}"
    return f"{line}  → {_render_answer(answer)}" if answer else line


def _render_answer(answer: Answer) -> str:
    if answer.status is None:
        return click.style(answer.error, fg="red")
    status = click.style(f"{answer.status} {answer.reason}".rstrip(), fg="green" if answer.is_good else "red")
    why = "" if answer.is_good else show_text(answer.body)[:MAX_SHOWN_CHARS]
    return f"{status} in {answer.duration_ms} ms" + (f": {why}" if why else "")


def _render_json(event: Event, is_good: bool, answer: Answer | None) -> str:
    document = {"id": event.id, "type": event.type, "timestamp": event.document["timestamp"], "verified": is_good}
    return json.dumps(document | {"forward": answer and asdict(answer), "event": event.document})
