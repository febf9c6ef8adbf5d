"""May we connect? The tables of addresses and URLs are the rule, row by row; all Pythons must agree on them.

`test_outbound.py` runs the same tables through Outbound, with a listener that must see nothing.
"""

from ipaddress import IPv4Network, IPv6Network, ip_network

import pytest

from thumbs.addresses import FORBIDDEN_PORTS, AddressPolicy, CheckedUrl, check_url, is_allowed, parse_networks
from thumbs.errors import UrlNotAllowed

PUBLIC_ONLY = AddressPolicy()
WITH_LOOPBACK = AddressPolicy((IPv4Network("127.0.0.0/8"), IPv6Network("::1/128")))
WITH_COMPOSE = AddressPolicy((IPv4Network("172.16.0.0/12"),))

FORBIDDEN_ADDRESSES = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255"),
    *("127.0.0.1", "127.1.2.3", "127.255.255.255", "168.63.129.16", "169.254.0.1", "169.254.169.254"),
    *("169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.9", "192.0.0.192", "192.0.2.1"),
    *("192.88.99.1", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    # IPv6 outside of 2000::/3
    *("::", "::1", "::2", "::127.0.0.1", "::8.8.8.8", "::ffff:0:127.0.0.1", "::ffff:0:8.8.8.8", "100::1"),
    *("1000::1", "4000::1", "5f00::1", "64:ff9b:1::1", "64:ff9b:1::8.8.8.8", "fc00::1", "fd00:ec2::254"),
    *("fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "ff0e::1"),
    # IPv6 that is set apart within it
    *("2001:1::1", "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff::1", "2001:db8::1", "3fff::1", "3fff:fff::1"),
    # IPv4 within IPv6: mapped, NAT64, 6to4, Teredo (client, then server)
    *("::ffff:127.0.0.1", "::ffff:7f00:1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:127.0.0.1%lo"),
    *("64:ff9b::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1"),
    *("2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:0a00:0001::1", "2002:c0a8:101:1::1"),
    *("2001:0:808:808:0:0:80ff:fffe", "2001:0:808:808::f5ff:fffe", "2001:0:7f00:1::f7f7:f7f7"),
    # what is no address in the one spelling that we take
    *("", " ", "localhost", "127.1", "0x7f.1", "017700000001", "2130706433", "127.0.0.01", "8.8.8.8/32", "8.8.8.8 "),
    *("8.8.8", "８.8.8.8", "8.8.8.8.", "[2606:4700::1111]", "1.2.3.4.5", "::g", "8.8.8.256"),
]

ALLOWED_ADDRESSES = [
    *("1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "93.184.215.14", "100.63.255.255", "100.128.0.0"),
    *("126.255.255.255", "128.0.0.0", "168.63.129.15", "168.63.129.17", "169.253.255.255", "169.255.0.0"),
    *("172.15.255.255", "172.32.0.0", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0", "192.167.255.255"),
    *("192.169.0.0", "198.17.255.255", "198.20.0.0", "203.0.112.255", "203.0.114.0", "223.255.255.255"),
    *(
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "3ffe::1",
        "3fff:1000::",
    ),
    *("3fff:1000::", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"),
]

FORBIDDEN_URLS = [
    # not a URL of ours at all
    *("", "http", "http:", "http:/", "http://", "http:///", "http://:80/", "//host.example/", "/path", "host.example"),
    *(
        "ftp://host.example/",
        "file:///etc/passwd",
        "gopher://host.example/",
        "data:image/png;base64,AA",
        "javascript:1",
    ),
    *(
        "http:host.example",
        "http:///host.example",
        "https:/host.example/",
        "ws://host.example/",
        "dict://host.example:80/",
    ),
    "http://host.example/" + "a" * 2029,
    # spaces, controls, tricks of text
    *(" http://host.example/", "http://host.example/ ", "http://host.example/a b", "http://host.example/\t"),
    *("http://host.example/\n", "http://host.example\r\n/", "ht\ntp://host.example/", "http://host.example/\0"),
    *(
        "http://host.example/\x7f",
        "http://host.example/\x85",
        "http://host.example/\u2028",
        "http://host.example/\u200b",
    ),
    *(
        "http://host.example/\u3000",
        "http://host.example/\ufeff",
        "http://host.example/\ud800",
        "http://\udfff.example/",
    ),
    *("http://host.example\\@127.0.0.1/", "http://127.0.0.1\\@host.example/", "http:\\\\host.example/"),
    # user names and passwords
    *("http://user@host.example/", "http://user:pass@host.example/", "http://@host.example/", "http://:@host.example/"),
    *("http://127.0.0.1@host.example/", "http://host.example@127.0.0.1/", "http://host.example:80@127.0.0.1/"),
    # hosts that are no names
    *("http://host.example%00/", "http://host.example%2f/", "http://127.0.0.1%00.host.example/", "http://%6c.example/"),
    *("http://host..example/", "http://.host.example/", "http://-host.example/", "http://host-.example/"),
    *("http://host.example../", "http://ho!st.example/", "http://ho$st.example/", "http://host,example.com/"),
    *("http://" + "a" * 64 + ".example/", "http://" + "a." * 127 + "example/", "http://\u2100.example/"),
    *(
        "http://straße.example/",
        "http://\uff0fhost.example/",
        "http://host.example\uff0f@a.example/",
        "http://*.example/",
    ),
    # loopback, in every spelling
    *("http://127.0.0.1/", "http://127.0.0.1:8080/", "https://127.0.0.1/", "http://127.1/", "http://127.0.1/"),
    *("http://0x7f.1/", "http://0x7f000001/", "http://0x7f.0.0.0x1/", "http://017700000001/", "http://0177.0.0.1/"),
    *("http://2130706433/", "http://00000000177.1/", "http://127.000.000.001/", "http://127.0.0.1./", "http://0/"),
    *("http://0.0.0.0/", "http://0x/", "http://0X7F.1/", "http://127。0。0。1/", "http://127．0．0．1/"),
    *("http://１２７.0.0.1/", "http://①②⑦.0.0.1/", "http://127.0.0.1:80/", "http://4294967295/", "http://256.1/"),
    *("http://[::1]/", "http://[::]/", "http://[0:0:0:0:0:0:0:1]/", "http://[::127.0.0.1]/", "http://[::ffff:7f00:1]/"),
    *(
        "http://[::ffff:127.0.0.1]/",
        "http://[::FFFF:127.0.0.1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
    ),
    *("http://[::1%25lo]/", "http://[fe80::1%25eth0]/", "http://[fe80::1]/", "http://[127.0.0.1]/", "http://[v1.a]/"),
    *("http://[::1/", "http://::1/", "http://[::1]x/", "http://x[::1]/", "http://[::1]:22:80/", "http://[]/"),
    *(
        "http://localhost/",
        "http://LOCALHOST:8080/",
        "http://localhost./",
        "http://a.localhost/",
        "http://a.localhost./",
    ),
    *("http://ｌocalhost/", "http://ⓛocalhost/"),
    # the clouds' metadata, and private networks
    *(
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://0251.0376.0251.0376/",
    ),
    *("http://[::ffff:a9fe:a9fe]/", "http://[fd00:ec2::254]/", "http://168.63.129.16/", "http://100.100.100.200/"),
    *("http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.1.1/", "http://[fc00::1]/", "http://192.0.0.192/"),
    *("http://metadata.google.internal/", "http://METADATA.GOOGLE.INTERNAL./", "http://printer.local/", "http://db/"),
    *("http://redis:8000/", "http://web./", "http://intranet:8080/", "http://host.example./", "http://local/"),
    # ports
    *("http://host.example:0/", "http://host.example:22/", "http://host.example:25/", "http://host.example:81/"),
    *(
        "http://host.example:1023/",
        "http://host.example:65536/",
        "http://host.example:99999/",
        "http://host.example:-1/",
    ),
    *(
        "http://host.example:3306/",
        "http://host.example:5432/",
        "http://host.example:6379/",
        "http://host.example:9200/",
    ),
    *(
        "http://host.example:11211/",
        "http://host.example:27017/",
        "http://host.example:2375/",
        "http://host.example:6667/",
    ),
    *(
        "http://host.example:８０/",
        "http://host.example:80a/",
        "http://host.example:000080/",
        "http://host.example:+80/",
    ),
]

ALLOWED_URLS = {
    "http://host.example": CheckedUrl("http", "host.example", 80),
    "https://host.example/a/b.jpg?x=1&y=%20#top": CheckedUrl("https", "host.example", 443),
    "HTTPS://Host.EXAMPLE/": CheckedUrl("https", "host.example", 443),
    "http://host.example:443/": CheckedUrl("http", "host.example", 443),
    "http://host.example:/": CheckedUrl("http", "host.example", 80),
    "http://host.example:1024/": CheckedUrl("http", "host.example", 1024),
    "http://host.example:65535/": CheckedUrl("http", "host.example", 65535),
    "https://my_bucket.s3.example:8443/": CheckedUrl("https", "my_bucket.s3.example", 8443),
    "http://8.8.8.8/": CheckedUrl("http", "8.8.8.8", 80),
    "http://[2606:4700:4700::1111]:8080/": CheckedUrl("http", "2606:4700:4700::1111", 8080),
    "http://[::FFFF:8.8.8.8]/": CheckedUrl("http", "::ffff:8.8.8.8", 80),
    "https://bücher.example/größe.jpg?q=ü": CheckedUrl("https", "xn--bcher-kva.example", 443),
    "https://xn--bcher-kva.example/": CheckedUrl("https", "xn--bcher-kva.example", 443),
    "http://ｈost.example/": CheckedUrl("http", "host.example", 80),
    "http://127.0.0.1.host.example/": CheckedUrl("http", "127.0.0.1.host.example", 80),
    "http://localhost.host.example/": CheckedUrl("http", "localhost.host.example", 80),
    "http://host.example#@127.0.0.1:22/": CheckedUrl("http", "host.example", 80),
    "http://host.example?@127.0.0.1:22/": CheckedUrl("http", "host.example", 80),
    "http://host.example/?u=http://127.0.0.1/@a": CheckedUrl("http", "host.example", 80),
    "http://host.example/" + "a" * 2028: CheckedUrl("http", "host.example", 80),
}


def test_the_tables_are_as_large_as_promised() -> None:
    """docs/security.md promises at least 64 addresses and 100 URLs."""
    assert len(set(FORBIDDEN_ADDRESSES)) >= 64
    assert len(set(FORBIDDEN_URLS)) >= 100


@pytest.mark.parametrize("address", FORBIDDEN_ADDRESSES)
def test_address_is_refused_unless_it_is_public(address: str) -> None:
    assert not is_allowed(address, PUBLIC_ONLY)


@pytest.mark.parametrize("address", ALLOWED_ADDRESSES)
def test_address_is_allowed_when_it_is_public(address: str) -> None:
    """The neighbours of every forbidden network are in the table: no rule is wider than it must be."""
    assert is_allowed(address, PUBLIC_ONLY)


@pytest.mark.parametrize("url", FORBIDDEN_URLS)
def test_url_is_refused(url: str) -> None:
    """Refused before any look-up, with a sentence that says what is wrong."""
    with pytest.raises(UrlNotAllowed) as caught:
        check_url(url, PUBLIC_ONLY)
    assert caught.value.detail.endswith(".")


@pytest.mark.parametrize(("url", "checked"), ALLOWED_URLS.items())
def test_url_is_allowed(url: str, checked: CheckedUrl) -> None:
    assert check_url(url, PUBLIC_ONLY) == checked


@pytest.mark.parametrize("port", sorted(FORBIDDEN_PORTS))
def test_forbidden_ports_are_worth_a_row(port: int) -> None:
    """Each would be allowed otherwise, and none is one that the system gives to a test server."""
    assert 1024 <= port < 32768


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://host.example/" + "a" * 2029, "2049 characters; at most 2048"),
        ("http://host.example/a b", "%20"),
        ("http://host.example/\\", "%5C"),
        ("http://user:hunter2@host.example/", "user name or password"),
        ("ftp://host.example/", "http:// or https://"),
        ("http://host.example:25/", "Port 25"),
        ("http://127.1/", "oddly spelled"),
        ("http://10.0.0.1/", "not public"),
        ("http://localhost/", "this machine"),
        ("http://db/", "private name"),
        ("http://straße.example/", "xn--"),
    ],
)
def test_refusal_says_what_is_wrong_and_what_would_be_right(url: str, words: str) -> None:
    with pytest.raises(UrlNotAllowed, match=words) as caught:
        check_url(url, PUBLIC_ONLY)
    assert "hunter2" not in caught.value.detail


def test_url_is_refused_when_its_scheme_is_not_among_those_asked_for() -> None:
    """Callbacks are https only, unless a setting allows http."""
    with pytest.raises(UrlNotAllowed, match="must begin with https://"):
        check_url("http://host.example/", PUBLIC_ONLY, ("https",), field="callback_url")


def test_refusal_names_the_field_that_held_the_url() -> None:
    with pytest.raises(UrlNotAllowed) as caught:
        check_url("http://10.0.0.1/", PUBLIC_ONLY, field="source_url")
    assert caught.value.field == "source_url"


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8000/", "http://[::1]:8000/", "http://localhost:8000/", "http://a.localhost/"),
        *("http://localhost./", "http://[::ffff:127.0.0.1]/"),
    ],
)
def test_loopback_is_allowed_by_policy(url: str) -> None:
    """For development; IPv4 within IPv6 is judged as that IPv4 here too."""
    check_url(url, WITH_LOOPBACK)


@pytest.mark.parametrize("url", ["http://db/", "http://a.internal/", "http://host.example./", "http://10.0.0.1/"])
def test_private_names_are_refused_when_only_loopback_is_allowed(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_url(url, WITH_LOOPBACK)


@pytest.mark.parametrize(
    "url", ["http://minio:9000/", "http://a.b.svc.internal/", "http://host.local/", "http://host.example./"]
)
def test_private_names_are_allowed_when_a_private_network_is(url: str) -> None:
    """Compose and Kubernetes give such names; where they lead is judged when they are resolved."""
    check_url(url, WITH_COMPOSE)


@pytest.mark.parametrize("url", ["http://localhost/", "http://127.0.0.1/", "http://127.1/", "http://10.0.0.1/"])
def test_allowing_one_network_allows_no_other(url: str) -> None:
    with pytest.raises(UrlNotAllowed):
        check_url(url, WITH_COMPOSE)


@pytest.mark.parametrize("address", ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "2002:a01:203::1", "fd00::5"])
def test_address_is_allowed_by_policy_in_each_of_its_forms(address: str) -> None:
    assert is_allowed(address, AddressPolicy(parse_networks("10.0.0.0/8, fd00::/8")))


def test_teredo_address_is_allowed_only_when_both_of_its_addresses_are() -> None:
    policy = AddressPolicy(parse_networks("10.0.0.0/8"))
    assert is_allowed("2001:0:a00:1::f7f7:f7f7", policy)
    assert not is_allowed("2001:0:7f00:1::f7f7:f7f7", policy)


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("", []),
        (" , ", []),
        ("10.0.0.0/8", ["10.0.0.0/8"]),
        ("127.0.0.1, ::1", ["127.0.0.1/32", "::1/128"]),
        ("10.0.0.0/8,fd00::/8,", ["10.0.0.0/8", "fd00::/8"]),
    ],
)
def test_networks_are_parsed(text: str, networks: list[str]) -> None:
    assert parse_networks(text) == tuple(ip_network(network) for network in networks)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("10.0.0.1/8", "'10.0.0.1/8' .* host bits set, '10.0.0.0/8' would be right"),
        ("10.0.0.0/8, nonsense", "'nonsense' is not a network; write it like"),
        ("10.0.0.0/33", "'10.0.0.0/33' is not a network"),
        ("localhost", "'localhost' is not a network"),
        ("10.0.0.0/8 fd00::/8", "'10.0.0.0/8 fd00::/8' is not a network"),
    ],
)
def test_wrong_network_is_named(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_networks(text)
