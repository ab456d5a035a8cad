"""The settings of the embedded backend."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Address, Duration, Size, Url


def _origin(value: str) -> str:
    if value.count("/") != 2:
        raise ValueError("an origin: http:// or https://, a host, and a port unless it is the usual one")
    return value.lower()


Origin = Annotated[Url, AfterValidator(_origin)]


class Tenant(Section):
    """A sender of its own kind."""

    public_key: SecretStr = Field(description="Its `x-public-key`, which is thereby accepted.", min_length=1)
    retention: Duration = Field(gt=0, description="What it sends is removed after this long.")


class Backend(Section):
    """The embedded backend: OTLP intake, a store, JSON API and a page."""

    enabled: bool = Field(False, description="Run it beside the daemon, and send there unless `sp_backend_url` is set.")
    listen: Address = Field(Address("127.0.0.1", 4318), description="PORT or HOST:PORT.")
    database: str = Field("sp_proxy.sqlite3", min_length=1, description="File of the store; `:memory:` for none.")
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
    retention: Duration = Field(7 * 86400.0, gt=0, description="Spans and log records are removed after this long.")
    max_database_size: Size = Field(1 << 30, ge=1 << 20, description="Above it the oldest are removed.")
