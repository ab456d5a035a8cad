"""Value types of the settings: durations, sizes and addresses, as people write them."""

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_BYTES = {"B": 1, None: 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parse_duration(value: Any) -> float:
    """Seconds, from a number of seconds or a number with a unit: ``0.2``, ``200ms``, ``5s``, ``2m``, ``1h``, ``7d``."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        seconds = float(match[1]) * _SECONDS[match[2]]
    else:
        raise ValueError("a duration: a number of seconds, or a number with ms, s, m, h or d")
    if not 0 <= seconds < float("inf"):
        raise ValueError("a duration of zero or more")
    return seconds


def parse_size(value: Any) -> int:
    """Bytes, from a number or a number with a unit: ``65536``, ``64KiB``, ``4MiB``."""
    if isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        size = int(match[1]) * _BYTES[match[2]]
    else:
        raise ValueError("a size: a number of bytes, or a number with KiB, MiB or GiB")
    if size < 0:
        raise ValueError("a size of zero or more")
    return size


Duration = Annotated[float, BeforeValidator(parse_duration)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(parse_size)]
"""Bytes."""


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
            text = value.strip()
            head, colon, tail = text.rpartition(":")
            if colon:
                if head.startswith("[") and head.endswith("]"):
                    head = str(ip_address(head[1:-1]))
                elif ":" in head:
                    raise ValueError("a port or HOST:PORT, with an IPv6 address in brackets ([::1]:3000)")
                host, text = head, tail
            if not text.isascii() or not text.isdigit():
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
