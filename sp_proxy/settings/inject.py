"""The section ``inject``: stored answers in the place of real ones, for tests only."""

from pydantic import Field, SecretStr

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Duration, Line, Pattern, Size, Url


class Inject(Section):
    """Outbound requests may be answered from what was captured. For tests only: the destination never sees such a request."""

    enabled: bool = Field(False, description="Look outbound requests up before they go to their destination.")
    url: Url | None = Field(
        None,
        description="Where to ask; by default `/v1/inject` of `sp_backend_url` (of the embedded backend, if there is one).",
    )
    query: Line = Field("", description="A query that narrows what the embedded backend answers from.")
    hosts: list[Pattern] = Field(
        [], description="Regular expressions searched in the authority: only such requests are looked up; none: all."
    )
    timeout: Duration = Field(
        1.0,
        gt=0,
        le=60,
        description="For one answer; then the request goes to its destination, as it does after any failure.",
    )
    max_body: Size = Field(
        1 << 20, ge=0, le=64 << 20, description="Requests with a larger body go to their destination at once."
    )
    token: SecretStr = Field(
        SecretStr(""), description="Sent as `Authorization: Bearer`; the embedded backend's is known."
    )
