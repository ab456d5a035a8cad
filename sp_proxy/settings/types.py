"""Value types of the settings: durations, sizes, addresses, networks and the like, as people write them.

Every validator raises ``ValueError`` with the text of what is allowed, and nothing of what was found: ``problems.py``
joins the two, and only it knows what must be masked.
"""

import re
import warnings
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv6Address, IPv6Interface, ip_interface
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, SecretStr
from pydantic_core import CoreSchema, core_schema

from sp_proxy.patterns import compile_pattern

_DURATION = re.compile(r"(\d{1,18}(?:\.\d{1,18})?)\s*(ms|s|m|h|d)?", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"(\d{1,18})\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.ASCII)
_BYTES = {"B": 1, None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

MAX_DURATION = 365 * 86400.0
"""Timers of the event loops refuse far longer ones; a year is meant as never by anyone."""
MAX_SIZE = 1 << 40
"""1 TiB: more than any machine that runs this, and far below what a 64-bit field holds."""


def parse_duration(value: Any) -> float:
    """Seconds, from a number of seconds or a number with a unit: ``0.2``, ``200ms``, ``5s``, ``2m``, ``1h``, ``7d``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if not 0 <= value <= MAX_DURATION:  # before float(): a very large int overflows there
            raise ValueError("a duration from 0 to 365d")
        return float(value)
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return parse_duration(float(match[1]) * _SECONDS[match[2]])
    raise ValueError("a duration: a number of seconds, or a number with ms, s, m, h or d")


def parse_size(value: Any) -> int:
    """Bytes, from a number or a number with a unit: ``65536``, ``64KiB``, ``4MiB``."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value <= MAX_SIZE:
            raise ValueError("a size from 0 to 1024GiB")
        return value
    if isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        return parse_size(int(match[1]) * _BYTES[match[2]])
    raise ValueError("a size: a number of bytes, or a number with KiB, MiB or GiB")


def _not_bool(value: Any) -> Any:
    if isinstance(value, bool):  # True would count as 1
        raise ValueError("a number")  # noqa: TRY004 - pydantic collects ValueErrors only
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""
Integer = Annotated[int, BeforeValidator(_not_bool)]
"""A whole number; ``true`` is none."""
Number = Annotated[float, BeforeValidator(_not_bool), Field(allow_inf_nan=False)]
"""A finite number; ``true`` is none."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen or to connect. An empty host means all addresses of both IP versions."""

    host: str
    port: int

    @classmethod
    def parse(cls, value: Any) -> Self:
        """From a port (``8080``, ``"8080"``) or ``HOST:PORT`` (``127.0.0.1:3000``, ``[::1]:3000``, ``name:80``)."""
        if isinstance(value, cls):
            return value
        host = ""
        if isinstance(value, str):
            head, colon, text = value.strip().rpartition(":")
            if colon:
                host = _host(head)
            if not text.isascii() or not text.isdigit() or len(text) > 5:
                raise ValueError("a port (1 to 65535) or HOST:PORT")
            value = int(text)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
            raise ValueError("a port (1 to 65535) or HOST:PORT")
        return cls(host, value)

    def __str__(self) -> str:
        if not self.host:
            return str(self.port)
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )


def _host(text: str) -> str:
    if text.startswith("[") and text.endswith("]"):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError as error:
            raise ValueError("a port or HOST:PORT, with an IPv6 address between the brackets") from error
    if ":" in text:
        raise ValueError("a port or HOST:PORT, with an IPv6 address in brackets ([::1]:3000)")
    if text and not _HOST.fullmatch(text):
        raise ValueError("a port or HOST:PORT, with a host name or an IP address as HOST")
    return text


def _with_host(address: Address) -> Address:
    if not address.host:
        raise ValueError("HOST:PORT of the application (the host is missing)")
    return address


Upstream = Annotated[Address, AfterValidator(_with_host)]
"""Where to connect; the host is needed."""

OFF = ("off", "no", "false")


def _address_or_off(value: Any) -> Address | None:
    # YAML 1.1 reads a bare `off` as false. 0 is not off: it asks for a free port elsewhere, so it would be misread.
    if value is None or value is False or (isinstance(value, str) and value.strip().lower() in OFF):
        return None
    try:
        return Address.parse(value)
    except ValueError as error:
        raise ValueError(f"{error}, or off") from error


OptionalAddress = Annotated[Address | None, BeforeValidator(_address_or_off)]
"""An address, or ``off``, which is None."""


def _compiles(pattern: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" is for authors of Python code
            re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"a regular expression ({' '.join(str(error).split())})") from error
    try:
        compile_pattern(pattern)
    except ValueError as error:
        raise ValueError(f"a regular expression that takes linear time, in RE2's syntax ({error})") from error
    return pattern


Pattern = Annotated[str, AfterValidator(_compiles)]
"""A regular expression without look-around and back-references; it is searched anywhere, not anchored."""


def _one_line(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("text without control characters")
    return text.strip()


Line = Annotated[str, AfterValidator(_one_line)]
"""Text that may stand in a header field or an attribute: no line breaks, no other control characters."""


def _tag_name(text: str) -> str:
    if not text.strip() or _CONTROL.search(text):
        raise ValueError("a name without control characters")
    return text.strip()


TagName = Annotated[str, AfterValidator(_tag_name)]
"""A name of a custom tag."""


def _method(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):  # RFC 9110 section 5.6.2: token
        raise ValueError("a request method, for example GET")
    return text


Method = Annotated[str, AfterValidator(_method)]
"""A request method."""


def _key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()  # a mounted secret often ends in a line break
    if not re.fullmatch(r"[\x21-\x7e]*", text):
        raise ValueError("printable ASCII without spaces (it is sent as a header)")
    return SecretStr(text)


Key = Annotated[SecretStr, AfterValidator(_key)]
"""A secret that is sent as a header."""


def _header_name(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):  # RFC 9110 section 5.6.2: token
        raise ValueError("the name of a header field")
    if text.lower() in _OWN_HEADERS:
        raise ValueError("a header field that is not the exporter's own")
    return text.lower()


_OWN_HEADERS = {"content-encoding", "content-length", "content-type", "host", "transfer-encoding", "connection"}

HeaderName = Annotated[str, AfterValidator(_header_name)]
"""The name of a header field that is sent beside those which the request needs."""


def _header_value(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not re.fullmatch(r"[\x20-\x7e]*", text):
        raise ValueError("printable ASCII (it is sent as a header)")
    return SecretStr(text)


HeaderValue = Annotated[SecretStr, AfterValidator(_header_value)]
"""The value of a header field; secret, as it is most often a token."""


def _exporter_name(text: str) -> str:
    if text and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}", text):
        raise ValueError("a short name of letters, digits, -, _ and .")
    return text


ExporterName = Annotated[str, AfterValidator(_exporter_name)]
"""The name of an exporter: a label in metrics, and a part of a directory's name."""


def _bare_host(text: str) -> str:
    text = text.strip()
    if not _HOST.fullmatch(text):
        try:
            return str(IPv6Address(text.removeprefix("[").removesuffix("]")))
        except AddressValueError:
            raise ValueError("a host name or an IP address, without scheme, port and path") from None
    return text.rstrip(".").lower()


Host = Annotated[str, AfterValidator(_bare_host)]
"""A host name or an IP address, in lower case."""


def _url(text: str) -> str:
    allowed = "a URL, http://HOST or https://HOST, with port and path if need be, without query or fragment"
    text = text.strip()
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ValueError(allowed) from error
    good = parts.scheme in {"http", "https"} and parts.hostname and port != 0
    if not good or re.search(r"[\s?#\\]", text) or _CONTROL.search(text):
        raise ValueError(allowed)
    return text.rstrip("/")


Url = Annotated[str, AfterValidator(_url)]
"""An HTTP URL without a slash at its end."""


def _port(value: Any) -> int | str:
    allowed = "a port (1 to 65535) or a range (8000-8100)"
    first, dash, last = (value.strip() if isinstance(value, str) else "").partition("-")
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1 << 16:
        return value
    ends = [first, last] if dash else [first]
    if not all(end.isascii() and end.isdigit() and len(end) <= 5 for end in ends):
        raise ValueError(allowed)
    low, high = int(ends[0]), int(ends[-1])
    if not 1 <= low <= high <= 65535:
        raise ValueError(allowed)
    return f"{low}-{high}" if dash else low


Port = Annotated[int | str, BeforeValidator(_port)]
"""A port, or a range of ports as FIRST-LAST."""


def _network(value: Any) -> str:
    allowed = "a network (10.0.0.0/8, fd00::/8) or an address"
    if not isinstance(value, str):
        raise ValueError(allowed)  # noqa: TRY004 - pydantic collects ValueErrors only
    try:
        interface = ip_interface(value.strip())
    except ValueError as error:
        raise ValueError(allowed) from error
    if isinstance(interface, IPv6Interface) and (interface.ip.ipv4_mapped or interface.ip.scope_id):
        raise ValueError("a network without a scope, and of IPv4 written as such")
    if interface.ip != interface.network.network_address:
        raise ValueError(f"a network; {interface.network} is the one that contains this address")
    return str(interface.network)


Network = Annotated[str, BeforeValidator(_network)]
"""An IPv4 or IPv6 network in CIDR notation; an address alone means just that address."""


def _user(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 <= value < 1 << 32 else ""
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.-]{0,31}\$?|[0-9]{1,10}", value):
        raise ValueError("a user name or a user id")
    return value


User = Annotated[str, BeforeValidator(_user)]
"""A user's name or numeric id (also written as a number)."""


def _interface(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.@:-]{1,15}", text) or text in {".", ".."}:
        raise ValueError("the name of a network interface (eth0), at most 15 characters")
    return text


Interface = Annotated[str, AfterValidator(_interface)]
"""The name of a network interface. Not a pattern."""


def _cgroup_path(text: str) -> str:
    path = text.removeprefix("/sys/fs/cgroup").strip("/")
    parts = path.split("/")
    if not re.fullmatch(r"[A-Za-z0-9_.@:\\/-]{1,200}", path) or not {"", ".", ".."}.isdisjoint(parts):
        raise ValueError("the path of a control group below /sys/fs/cgroup (system.slice/shop.service)")
    return path


CgroupPath = Annotated[str, AfterValidator(_cgroup_path)]
"""A control group's path below the root of version 2, without slashes around it."""


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


AnyCase = BeforeValidator(_lower)
"""For words which people also write in capitals."""
