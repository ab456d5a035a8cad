"""The settings of the embedded backend."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Address, Duration, Line, Size, Url


def _origin(value: str) -> str:
    if value.count("/") != 2:
        raise ValueError("an origin: http:// or https://, a host, and a port unless it is the usual one")
    return value.lower()


Origin = Annotated[Url, AfterValidator(_origin)]


class Tenant(Section):
    """A sender of its own kind."""

    public_key: SecretStr = Field(description="Its `x-public-key`, which is thereby accepted.", min_length=1)
    retention: Duration = Field(gt=0, description="What it sends is removed after this long.")


def _with_host(address: Address) -> Address:
    if not address.host:
        raise ValueError("HOST:PORT of a daemon's admin server (the host is missing)")
    return address


AdminAddress = Annotated[Address, AfterValidator(_with_host)]


class Daemon(Section):
    """A daemon whose health the page shows."""

    address: AdminAddress = Field(description="HOST:PORT of its admin server.")
    name: Line = Field("", description="What the page calls it; empty means the address.")


def _identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError("a name: letters, digits and underscores, not a digit first")
    return value


_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
Identifier = Annotated[str, AfterValidator(_identifier)]


class ClickHouse(Section):
    """The ClickHouse server or cluster of `engine: clickhouse`. Needs `sp-proxy[clickhouse]`."""

    url: Url = Field("http://127.0.0.1:8123", description="Its HTTP interface.")
    database: Identifier = Field("sp_proxy", description="Made if it is not there.")
    user: str = Field("default", description="User name.")
    password: SecretStr = Field(SecretStr(""), description="Password.")
    cluster: Identifier | None = Field(
        None, description="Name of a cluster: the tables are then Replicated, with Distributed ones over them."
    )


class Backend(Section):
    """The embedded backend: OTLP intake, a store, JSON API and a page."""

    enabled: bool = Field(False, description="Run it beside the daemon, and send there unless `sp_backend_url` is set.")
    listen: Address = Field(Address("127.0.0.1", 4318), description="PORT or HOST:PORT.")
    engine: Literal["sqlite", "clickhouse"] = Field(
        "sqlite",
        description="`sqlite`: one file; `clickhouse`: a server or cluster, for several backends side by side.",
    )
    database: str = Field("sp_proxy.sqlite3", min_length=1, description="File of SQLite; `:memory:` for none.")
    clickhouse: ClickHouse = Field(ClickHouse(), description="ClickHouse.")
    max_request_size: Size = Field(64 << 20, description="Largest OTLP request accepted, decompressed.")
    token: SecretStr = Field(
        SecretStr(""), description="What the API and the page ask for. Required unless `listen` is a loopback address."
    )
    public_keys: list[SecretStr] = Field(
        [], description="The only `x-public-key` values accepted; none: any on loopback, elsewhere `token` is needed."
    )
    tenants: list[Tenant] = Field([], description="Keys with a retention of their own, beside `public_keys`.")
    allowed_origins: list[Origin] = Field(
        [], description="Origins whose pages may send and ask from a browser (CORS), like `https://app.example`."
    )
    daemons: list[Daemon] = Field(
        [], description="Daemons whose health the page shows; with `enabled`, the one beside it is among them."
    )
    retention: Duration = Field(7 * 86400.0, gt=0, description="Spans and log records are removed after this long.")
    max_database_size: Size = Field(1 << 30, ge=1 << 20, description="Above it the oldest are removed.")
