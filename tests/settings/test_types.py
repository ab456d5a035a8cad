"""Value types: what people write, and what is refused with a wording of what is allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from sp_proxy.settings import types
from sp_proxy.settings.types import Address, parse_duration, parse_size


def accepts(annotation: Any, value: Any) -> Any:
    return TypeAdapter(annotation).validate_python(value)


def refuses(annotation: Any, value: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(annotation).validate_python(value)
    return str(caught.value.errors()[0].get("ctx", {}).get("error", caught.value.errors()[0]["msg"]))


@pytest.mark.parametrize(
    "text,seconds",
    [("200ms", 0.2), ("5s", 5), ("2m", 120), ("1h", 3600), ("7d", 604800), (" 1.5 s ", 1.5), (3, 3), (0.25, 0.25)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "5 parsecs", "-1s", -1, True, None, [], float("nan"), float("inf"), 10**400, "366d", "1e3"]
)
def test_what_is_no_duration(value):
    with pytest.raises(ValueError, match="a duration"):
        parse_duration(value)


@pytest.mark.parametrize("text,size", [("64KiB", 65536), ("4MiB", 4 << 20), ("1 GiB", 1 << 30), ("1KB", 1000), (7, 7)])
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "1.5MiB", "-1", -1, True, None, 1.5, 10**400, "9" * 5000, "1025GiB"])
def test_what_is_no_size(value):
    with pytest.raises(ValueError, match="a size"):
        parse_size(value)


@pytest.mark.parametrize(
    "text,host,port,shown",
    [
        (8080, "", 8080, "8080"),
        ("8080", "", 8080, "8080"),
        (":8080", "", 8080, "8080"),
        ("127.0.0.1:1", "127.0.0.1", 1, "127.0.0.1:1"),
        ("[::1]:3000", "::1", 3000, "[::1]:3000"),
        ("[0:0::1]:3000", "::1", 3000, "[::1]:3000"),
        ("my-app.svc:80", "my-app.svc", 80, "my-app.svc:80"),
    ],
)
def test_addresses(text, host, port, shown):
    address = Address.parse(text)
    assert address == Address(host, port)
    assert str(address) == shown
    assert Address.parse(shown) == address


@pytest.mark.parametrize(
    "value",
    ["", "x", 0, 65536, -1, True, None, 1.0, "::1:80", "[::1", "[127.0.0.1]:80", "[zz]:1", "a b:80", "http://x:80",
     "x:", "x:65536", "x:9999999999", "x:²", "-x:80", "u@h:80"],
)  # fmt: skip
def test_what_is_no_address(value):
    with pytest.raises(ValueError, match="a port"):
        Address.parse(value)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_an_address_survives_being_written(ip, port):
    address = Address(str(ip), port)
    assert Address.parse(str(address)) == address


@pytest.mark.parametrize("value", [False, "off", "OFF", "no", "false", None])
def test_off(value):
    assert accepts(types.OptionalAddress, value) is None


@pytest.mark.parametrize("value", [0, True, "on", "", 0.0, "0"])
def test_what_is_not_off(value):
    assert refuses(types.OptionalAddress, value).endswith("or off")


def test_an_upstream_needs_a_host():
    assert "host is missing" in refuses(types.Upstream, 3000)
    assert accepts(types.Upstream, "localhost:3000") == Address("localhost", 3000)


@pytest.mark.parametrize("pattern", ["(", "*", "a{99999999999}", "[", "(?P<1>x)"])
def test_invalid_patterns(pattern):
    message = refuses(types.Pattern, pattern)
    assert message.startswith("a regular expression (")
    assert "\n" not in message


@pytest.mark.parametrize("pattern", ["(?=a)", r"(a)\1", "(?<!a)b"])
def test_patterns_that_may_hang(pattern):
    assert "linear time" in refuses(types.Pattern, pattern)


def test_a_pattern_that_python_warns_about_is_fine():
    assert accepts(types.Pattern, "[[a]") == "[[a]"


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "\x7f", "\ud800", "a\u2028b"])
def test_control_characters_cannot_get_into_a_header(text):
    assert "control characters" in refuses(types.Line, text)


def test_a_key_loses_the_line_break_of_its_file():
    assert accepts(types.Key, " abc\n").get_secret_value() == "abc"
    assert "printable ASCII" in refuses(types.Key, "a b")
    assert "printable ASCII" in refuses(types.Key, "ä")


@pytest.mark.parametrize("url", ["https://o.softprobe.ai", "http://[::1]:4318", "http://u:p@h/x", "HTTP://host:1/a/"])
def test_urls(url):
    assert accepts(types.Url, url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["", "o.softprobe.ai", "ftp://x", "http://", "http://:80", "http://x:99999", "http://x:y", "http://x:0",
            "http://x?y=1", "http://x#y", "http://a b", "http://[::1", "http://x/\x00", "http://x\\y"]
)  # fmt: skip
def test_what_is_no_url(url):
    assert refuses(types.Url, url).startswith("a URL")


@pytest.mark.parametrize("value,port", [(80, 80), ("80", 80), ("8000-8100", "8000-8100"), (" 1-2 ", "1-2")])
def test_ports(value, port):
    assert accepts(types.Port, value) == port


@pytest.mark.parametrize("value", [0, 65536, True, 1.0, "", "2-1", "1-65536", "a", "1-", "-1", None, [], 1 << 2000])
def test_what_is_no_port(value):
    assert refuses(types.Port, value).startswith("a port")


@pytest.mark.parametrize(
    "value,network", [("10.0.0.0/8", "10.0.0.0/8"), ("1.2.3.4", "1.2.3.4/32"), ("fd00::/8", "fd00::/8")]
)
def test_networks(value, network):
    assert accepts(types.Network, value) == network


@pytest.mark.parametrize("value", ["10.0.0.1/8", "x", "", 5, None, "::ffff:1.2.3.4", "fe80::1%eth0", "1.2.3.4/33"])
def test_what_is_no_network(value):
    assert refuses(types.Network, value).startswith("a network")


@pytest.mark.parametrize("value,user", [(1338, "1338"), ("0", "0"), ("www-data", "www-data")])
def test_users(value, user):
    assert accepts(types.User, value) == user


@pytest.mark.parametrize("value", ["", "a b", -1, True, None, "-x", "x;y", 1 << 40])
def test_what_is_no_user(value):
    assert refuses(types.User, value) == "a user name or a user id"


def test_true_is_no_number():
    assert refuses(types.Integer, True) == "a number"
    assert refuses(types.Number, False) == "a number"
    assert accepts(types.Integer, "5") == 5
    assert "finite" in refuses(types.Number, float("inf"))


def test_methods_and_tag_names():
    assert accepts(types.Method, "M-SEARCH") == "M-SEARCH"
    assert refuses(types.Method, "GET /") == "a request method, for example GET"
    assert accepts(types.TagName, " team ") == "team"
    assert "a name" in refuses(types.TagName, " ")


def test_header_fields():
    assert accepts(types.HeaderName, "Authorization") == "authorization"
    assert accepts(types.HeaderValue, " Bearer t ").get_secret_value() == "Bearer t"
    assert refuses(types.HeaderName, "a b") == "the name of a header field"
    assert "not the exporter's own" in refuses(types.HeaderName, "Content-Type")
    assert "printable ASCII" in refuses(types.HeaderValue, "a\r\nb: c")


@pytest.mark.parametrize("value", ["", "collector-2", "a.b_c", "9"])
def test_exporter_names(value):
    assert accepts(types.ExporterName, value) == value


@pytest.mark.parametrize("value", ["..", ".x", "a/b", "x" * 41, "a b", "-x"])
def test_what_is_no_exporter_name(value):
    assert "a short name" in refuses(types.ExporterName, value)


@pytest.mark.parametrize(
    "value,host", [("A.example.", "a.example"), ("[::1]", "::1"), ("::1", "::1"), ("10.0.0.1", "10.0.0.1")]
)
def test_hosts(value, host):
    assert accepts(types.Host, value) == host


@pytest.mark.parametrize("value", ["", "http://h", "h:80", "h/x", "a b", "u@h", "*"])
def test_what_is_no_host(value):
    assert "a host name" in refuses(types.Host, value)
