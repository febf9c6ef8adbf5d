"""One call on its way, a fetch with all of its hops or a post: its deadline, its dialling, its words for failures.

`Call.dial` is the gate: it resolves a name once, checks every address, connects to a checked one, directly or through
the egress proxy, and shakes hands over TLS for the original name. There is no second way to a socket. `transport`
dials, `client` makes and closes calls.
"""

import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from ipaddress import ip_address

from thumbs.addresses import AddressPolicy, CheckedUrl, is_allowed
from thumbs.errors import JobError, ThumbsError
from thumbs.outbound.hosts import HostSlots
from thumbs.outbound.lookup import Lookup
from thumbs.outbound.proxy import EgressProxy, ProxyRefused
from thumbs.outbound.watchdog import Watch, Watchdog

CONNECT_SECONDS = 5.0
"""For connecting, over all addresses, and the TLS handshake together (docs/security.md)."""

MIN_CONNECT_SECONDS = 1.0
"""A try at one address: Linux sends the second SYN after one second."""

MIN_LEFT_SECONDS = 0.001
"""The shortest timeout that is handed on: 0 would mean not to block at all."""


@dataclass(frozen=True, slots=True)
class Faults:
    """What the failures of a call are called: the errors of a fetch, or those of a delivery attempt."""

    forbidden: Callable[[str], ThumbsError]
    unreachable: Callable[[str], ThumbsError]
    timeout: Callable[[str], ThumbsError]
    tls: Callable[[str], ThumbsError]


@dataclass(frozen=True, slots=True)
class Rules:
    """What all calls of one Outbound share."""

    policy: AddressPolicy
    lookup: Lookup
    watchdog: Watchdog
    get_tls_context: Callable[[], ssl.SSLContext]
    proxy: EgressProxy | None


class Call:
    """One call with its hard deadline; must be closed. Used by one thread."""

    def __init__(
        self,
        rules: Rules,
        faults: Faults,
        *,
        total_seconds: float,
        lookup_seconds: float,
        slots: HostSlots | None = None,
    ) -> None:
        """Start the clock; where hosts have slots, each exchange holds one."""
        self.faults = faults
        self.policy = rules.policy
        self._rules = rules
        self._slots = slots
        self._lookup_seconds = lookup_seconds
        self._ends_at = time.monotonic() + total_seconds
        self._watch: Watch | None = None

    def get_left_seconds(self) -> float:
        """Tell the time that is left; raises the call's timeout error when there is none."""
        if self.is_late():
            raise self.faults.timeout("the time was up")
        return max(MIN_LEFT_SECONDS, self._ends_at - time.monotonic())

    def is_late(self) -> bool:
        """Tell whether the time is up: after it, the end of a stream may be the watchdog's doing."""
        has_fired = self._watch is not None and self._watch.has_fired
        return has_fired or time.monotonic() >= self._ends_at

    def dial(self, host: str, port: int, *, is_tls: bool) -> socket.socket:
        """Connect to a checked address of the host; raises the call's own errors, which are no OSErrors."""
        self.close()
        addresses = self._resolve(host, port)
        if not addresses or not all(is_allowed(address, self.policy) for address in addresses):
            raise self.faults.forbidden("the name leads to an address that is not allowed")
        connect_until = min(self._ends_at, time.monotonic() + CONNECT_SECONDS)
        sock = self._connect(addresses, port, connect_until)
        try:
            self._watch = self._rules.watchdog.watch(sock, connect_until)
            if is_tls:
                sock = self._shake_hands(sock, host)
            self._rules.watchdog.extend(self._watch, self._ends_at)
            self.get_left_seconds()
        except BaseException:
            sock.close()
            raise
        return sock

    def hold_slot(self, target: CheckedUrl) -> AbstractContextManager[None]:
        """Hold a slot of the target's host, for one exchange; raises SourceBusy."""
        return self._slots.hold(f"{target.host}:{target.port}") if self._slots is not None else nullcontext()

    def close(self) -> None:
        """Stop watching the socket, which its reader closes; harmless when repeated."""
        if self._watch is not None:
            self._rules.watchdog.drop(self._watch)
            self._watch = None

    def _resolve(self, host: str, port: int) -> Sequence[str]:
        if _is_address(host):
            return [host]
        try:
            timeout_seconds = min(self._lookup_seconds, self.get_left_seconds())
            return self._rules.lookup.resolve(host, port, timeout_seconds)
        except TimeoutError as error:
            raise self.faults.timeout("the name was not resolved in time") from error
        except (OSError, UnicodeError) as error:
            raise self._name_lookup_error(error) from error

    def _name_lookup_error(self, error: Exception) -> ThumbsError:
        """Tell a name that does not exist, which stays so, from DNS that does not work just now: one code."""
        fault = self.faults.forbidden("the name does not resolve")
        if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN and isinstance(fault, JobError):
            fault.retryable = True
        return fault

    def _connect(self, addresses: Sequence[str], port: int, until: float) -> socket.socket:
        """Connect to the first address that takes us; time is shared out, so that a silent one does not use it all."""
        fault = self.faults.timeout("no connection in time")
        for tries_left in range(len(addresses), 0, -1):
            left_seconds = until - time.monotonic()
            if left_seconds <= 0:
                raise self.faults.timeout("no connection in time")
            seconds = min(left_seconds, max(MIN_CONNECT_SECONDS, left_seconds / tries_left))
            try:
                return self._reach(addresses[-tries_left], port, seconds)
            except TimeoutError:
                fault = self.faults.timeout("no connection in time")
            except ProxyRefused as error:
                fault = self.faults.forbidden(str(error))
            except OSError as error:
                fault = self.faults.unreachable(f"no connection: {error.strerror or 'failed'}")
        raise fault

    def _reach(self, address: str, port: int, timeout_seconds: float) -> socket.socket:
        """Connect to a checked address; raises OSError, and ProxyRefused."""
        proxy = self._rules.proxy
        if proxy is None:
            return _open(address, port, timeout_seconds)
        until = time.monotonic() + timeout_seconds
        sock = _open_first(proxy.resolve(timeout_seconds), proxy.port, until)
        try:
            proxy.open_tunnel(sock, address, port, until)
        except BaseException:
            sock.close()
            raise
        return sock

    def _shake_hands(self, sock: socket.socket, host: str) -> ssl.SSLSocket:
        sock.settimeout(self.get_left_seconds())
        try:
            return _wrap(sock, self._rules.get_tls_context(), host.rstrip("."))
        except (OSError, ValueError) as error:
            self.get_left_seconds()
            raise self._name_handshake_error(error) from error

    def _name_handshake_error(self, error: Exception) -> ThumbsError:
        if isinstance(error, TimeoutError):
            return self.faults.timeout("no TLS handshake in time")
        if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
            return self.faults.tls(_describe(error))
        return self.faults.unreachable("the TLS handshake broke off")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _open_first(addresses: Sequence[str], port: int, until: float) -> socket.socket:
    """Connect to the first of the proxy's addresses that takes us, each in its share of the time; raises OSError."""
    for tries_left in range(len(addresses), 1, -1):
        with suppress(OSError):  # Such as `localhost`, which is ::1 at first, and a proxy that listens on 127.0.0.1.
            return _open(addresses[-tries_left], port, _share_out(until, tries_left))
    return _open(addresses[-1], port, _share_out(until, 1))


def _share_out(until: float, tries_left: int) -> float:
    return max(MIN_LEFT_SECONDS, (until - time.monotonic()) / tries_left)


def _open(address: str, port: int, timeout_seconds: float) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_seconds)
        sock.connect((address, port))
        # The head and the body of a POST are two writes: Nagle's algorithm would hold the second back.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def _wrap(sock: socket.socket, context: ssl.SSLContext, server_hostname: str) -> ssl.SSLSocket:
    """Shake hands."""
    sock.getpeername()  # Raises when we are reset already: wrap_socket would lose the socket, or not shake hands.
    wrapped = context.wrap_socket(sock, server_hostname=server_hostname, do_handshake_on_connect=False)
    try:
        wrapped.do_handshake()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


def _describe(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate: {error.verify_message}"
    return error.reason or "handshake failed"
