"""The sections ``mitm``, ``tls`` and ``websocket``: what passes through mitmproxy, and how."""

from typing import Literal

from pydantic import Field

from sp_proxy.settings.section import Section
from sp_proxy.settings.types import Duration, Integer, Line, Pattern, Size


class Mitm(Section):
    """The mitmproxy worker. Beyond a limit new connections go to a fresh one, and the old one ends with its last."""

    max_memory: Size = Field(512 << 20, ge=128 << 20, description="Resident memory after which it is replaced.")
    max_age: Duration = Field(86400.0, description="Age after which it is replaced; 0: never.")


class Tls(Section):
    """TLS passes untouched, unless it is intercepted."""

    intercept: list[Pattern] = Field(
        [],
        description="Regular expressions searched in the server name (or the address, if none is sent); "
        "what matches is opened and captured.",
    )
    never: list[Pattern] = Field([], description="Regular expressions for what is never opened, whatever matches.")
    ca_directory: Line = Field(
        "sp_proxy_ca", min_length=1, description="Directory of the certificate authority (`sp-proxy ca init`)."
    )
    ca_file: Line = Field("", description="An own authority instead: PEM with its key and its certificate.")
    trusted_ca_file: Line = Field(
        "", description="PEM of the authorities that upstream certificates are verified against; empty: certifi's."
    )
    remember_rejections: Duration = Field(
        3600.0, description="For how long a client that rejected our certificate is passed through; 0: never."
    )


class WebSocket(Section):
    """WebSocket passes untouched; its handshake is captured as an exchange."""

    capture: Literal["handshake", "messages"] = Field(
        "handshake", description="`messages`: count them, and record the first ones as events of the handshake's span."
    )
    max_messages: Integer = Field(10, ge=0, le=1000, description="Messages of a connection that are recorded.")
