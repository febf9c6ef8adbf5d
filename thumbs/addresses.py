"""Decides whether we may connect: the rules for addresses, and for URLs before any name is looked up.

Default-deny: an address is public only when the tables below say so. The tables are our own because the flags of
`ipaddress` (`is_global`, `is_private`) are wrong for some ranges and differ between Python releases. Pure: it never
looks up a name, never opens a socket. `intake` checks the URLs of a request, `outbound` every hop and every address.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit

from thumbs.errors import UrlNotAllowed

Network = IPv4Network | IPv6Network

MAX_URL_CHARS = 2048
MAX_HOST_CHARS = 253
"""RFC 1035 section 2.3.4: 255 octets on the wire."""

FORBIDDEN_IPV4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # "this" network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT, RFC 6598
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host agent: a public address that answers from inside
        "169.254.0.0/16",  # link-local, where clouds serve their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # IETF protocol assignments, also Oracle's metadata
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks, RFC 2544
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""Every IPv4 network that is not public, after the IANA IPv4 Special-Purpose Address Registry."""

PUBLIC_IPV6 = IPv6Network("2000::/3")
"""All that IANA has given out as global unicast; the rest is refused without a list."""

FORBIDDEN_IPV6 = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
"""What is not public within PUBLIC_IPV6: IETF protocol assignments, documentation (RFC 3849, RFC 9637), 6to4."""

MAPPED = IPv6Network("::ffff:0:0/96")
NAT64 = IPv6Network("64:ff9b::/96")
SIX_TO_FOUR = IPv6Network("2002::/16")
TEREDO = IPv6Network("2001::/32")

LOOPBACK = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
LOCALHOST = (IPv4Address("127.0.0.1"), IPv6Address("::1"))

DEFAULT_PORTS = {"http": 80, "https": 443}
MIN_OTHER_PORT = 1024
"""Below it only 80 and 443 are allowed: mail, shells and remote procedures live there."""

FORBIDDEN_PORTS = frozenset(
    {
        *(1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566),  # WHATWG Fetch, "bad port", from 1024
        *(6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080),  # the same
        *(1433, 1521, 3306, 5432, 6432, 7687, 9042, 26257, 27017, 27018, 27019, 28017),  # databases
        *(6379, 6380, 11211, 16379, 26379),  # caches
        *(5984, 8086, 9200, 9300),  # databases that speak HTTP
        *(2181, 4369, 5671, 5672, 9092, 15672),  # queues
        *(2375, 2376, 2379, 2380, 6443, 8500, 10250, 10255),  # what runs the machines
        *(3389, 5900),  # desktops
    }
)
"""Refused although they are above 1024; none is ephemeral (from 32,768 on Linux)."""

SPACE_OR_CONTROL = re.compile(
    r"[\x00-\x20\x7f-\xa0\u00ad\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff0-\uffff]"
)
SURROGATE = re.compile(r"[\ud800-\udfff]")
NETLOC = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f]*:[0-9A-Fa-f:.]*)\]|(?P<name>[^\[\]:/?#@%]+))(?::(?P<port>[0-9]{0,5}))?")
HOST_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.?")
"""Lower-case labels of RFC 1123, and `_`, which real host names have."""

NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label that makes the whole host an IPv4 address to browsers and inet_aton (WHATWG URL, "ends in a number")."""

IDNA_DEVIATIONS = frozenset("ßςẞ")
"""Letters that lead to another host by IDNA 2003 (the standard library) than by IDNA 2008 (requests): refused."""

PRIVATE_SUFFIXES = (".local", ".internal")


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """The networks that are allowed although they are not public (THUMBS_ALLOW_CIDRS)."""

    allow_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """Where a URL leads, once it is allowed; `host` is lower-case ASCII, an IPv6 address is without its brackets."""

    scheme: str
    host: str
    port: int


def is_allowed(address: str, policy: AddressPolicy) -> bool:
    """Tell whether we may connect to a literal address; what is not an address is not allowed.

    An IPv4 address within an IPv6 one (mapped, NAT64, 6to4, Teredo) is judged as that IPv4. A scope id is ignored.
    """
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    if _is_within(ip, policy.allow_networks):
        return True
    if isinstance(ip, IPv4Address):
        return not _is_within(ip, FORBIDDEN_IPV4)
    hidden = _list_hidden_ipv4(ip)
    if hidden:
        return all(is_allowed(str(ipv4), policy) for ipv4 in hidden)
    return ip in PUBLIC_IPV6 and not _is_within(ip, FORBIDDEN_IPV6)


def check_url(
    url: str, policy: AddressPolicy, schemes: Collection[str] = ("http", "https"), *, field: str | None = None
) -> CheckedUrl:
    """Check a URL as far as that is possible without looking up its name; UrlNotAllowed says what is wrong.

    `field` names the JSON member that held the URL, for the error.
    """
    try:
        return _check_url(url, policy, schemes)
    except UrlNotAllowed as error:
        error.field = field
        raise


def parse_networks(text: str) -> tuple[Network, ...]:
    """Parse THUMBS_ALLOW_CIDRS: networks with commas between them; ValueError names the one that is wrong."""
    return tuple(_parse_network(part.strip()) for part in text.split(",") if part.strip())


def _parse_network(text: str) -> Network:
    try:
        return ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network{_suggest_network(text)}.") from None


def _suggest_network(text: str) -> str:
    try:
        return f": it has host bits set, {str(ip_network(text, strict=False))!r} would be right"
    except ValueError:
        return "; write it like '10.0.0.0/8', '127.0.0.1' or 'fd00::/8'"


def _is_within(ip: IPv4Address | IPv6Address, networks: Iterable[Network]) -> bool:
    return any(ip in network for network in networks)


def _list_hidden_ipv4(ip: IPv6Address) -> list[IPv4Address]:
    number = int(ip)
    if ip in MAPPED or ip in NAT64:
        return [IPv4Address(number & 0xFFFFFFFF)]
    if ip in SIX_TO_FOUR:
        return [IPv4Address(number >> 80 & 0xFFFFFFFF)]
    if ip in TEREDO:
        # RFC 4380 section 4: the server, and the client with every bit turned over.
        return [IPv4Address(number >> 64 & 0xFFFFFFFF), IPv4Address(~number & 0xFFFFFFFF)]
    return []


def _check_url(url: str, policy: AddressPolicy, schemes: Collection[str]) -> CheckedUrl:
    _check_text(url)
    parts = _split(url)
    _check_scheme(parts.scheme, schemes)
    host, port = _parse_netloc(parts)
    _check_port(port)
    _check_host(host, policy)
    return CheckedUrl(parts.scheme, host, port)


def _check_text(url: str) -> None:
    if len(url) > MAX_URL_CHARS:
        raise UrlNotAllowed(f"The URL has {len(url)} characters; at most {MAX_URL_CHARS} are allowed.")
    if SPACE_OR_CONTROL.search(url):
        raise UrlNotAllowed("The URL has a space or control character in it; percent-encode it, like %20.")
    if SURROGATE.search(url):
        raise UrlNotAllowed("The URL has half of a surrogate pair in it; percent-encode the character as UTF-8.")
    if "\\" in url:
        raise UrlNotAllowed("The URL has a backslash in it; write / or %5C.")


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise UrlNotAllowed("The URL cannot be read; write it like https://host.example/path.") from None


def _check_scheme(scheme: str, schemes: Collection[str]) -> None:
    if scheme not in schemes:
        raise UrlNotAllowed(f"The URL must begin with {' or '.join(f'{name}://' for name in schemes)}.")


def _parse_netloc(parts: SplitResult) -> tuple[str, int]:
    if "@" in parts.netloc:
        raise UrlNotAllowed("The URL has a user name or password before its host; leave it out.")
    if not parts.netloc:
        raise UrlNotAllowed("The URL has no host; write it like https://host.example/path.")
    match = NETLOC.fullmatch(parts.netloc)
    if match is None:
        raise UrlNotAllowed("The URL's host or port cannot be read; write host, host:8443 or [2001:db8::1]:8443.")
    host = match["ipv6"] or _encode_name(match["name"])
    return host.lower(), int(match["port"] or DEFAULT_PORTS[parts.scheme])


def _encode_name(name: str) -> str:
    """Encode a host name in ASCII; full-width digits, dots and the like become plain ones here, before the checks."""
    if name.isascii():
        return name
    try:
        if not IDNA_DEVIATIONS.isdisjoint(name):
            raise UnicodeError("IDNA 2003 and 2008 differ")
        return name.encode("idna").decode("ascii")
    except UnicodeError:
        raise UrlNotAllowed("The URL's host is not a valid international name; write it in its xn-- form.") from None


def _check_port(port: int) -> None:
    is_web = port in DEFAULT_PORTS.values()
    is_other = MIN_OTHER_PORT <= port <= 65535 and port not in FORBIDDEN_PORTS
    if not (is_web or is_other):
        raise UrlNotAllowed(f"Port {port} is not allowed; use 80, 443 or one from 1024 that no known service has.")


def _check_host(host: str, policy: AddressPolicy) -> None:
    if _is_literal(host):
        _check_literal(host, policy)
    else:
        _check_name(host, policy)


def _is_literal(host: str) -> bool:
    return ":" in host or NUMERIC_LABEL.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def _check_literal(host: str, policy: AddressPolicy) -> None:
    try:
        ip_address(host)
    except ValueError:
        raise UrlNotAllowed("The URL's host is an oddly spelled address; write it like 93.184.215.14.") from None
    if not is_allowed(host, policy):
        raise UrlNotAllowed("The URL's host is an address that is not public; only public ones are allowed.")


def _check_name(host: str, policy: AddressPolicy) -> None:
    if len(host) > MAX_HOST_CHARS or HOST_NAME.fullmatch(host) is None:
        raise UrlNotAllowed("The URL's host is not a valid name; write it like images.example.com.")
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        _check_localhost(policy)
    elif _is_private_name(host) and not _allows_private_names(policy):
        raise UrlNotAllowed("The URL's host is a private name; write the full name of a public host, without end dot.")


def _check_localhost(policy: AddressPolicy) -> None:
    if not any(_is_within(ip, policy.allow_networks) for ip in LOCALHOST):
        raise UrlNotAllowed("The URL's host is this machine itself; only public hosts are allowed.")


def _is_private_name(host: str) -> bool:
    return "." not in host or host.endswith((".", *PRIVATE_SUFFIXES))


def _allows_private_names(policy: AddressPolicy) -> bool:
    """Tell whether names of a private network make sense: those of Compose and Kubernetes, where one is allowed."""
    return not all(_is_loopback(network) for network in policy.allow_networks)


def _is_loopback(network: Network) -> bool:
    return _is_within(network.network_address, LOOPBACK) and _is_within(network.broadcast_address, LOOPBACK)
