"""What a worker is told of the look-up: plain data."""

from msgspec import Struct

from sp_proxy.core.redact.config import RedactionConfig


class InjectConfig(Struct, frozen=True):
    """Without a URL nothing is looked up."""

    url: str = ""
    public_key: str = ""
    token: str = ""
    hosts: tuple[str, ...] = ()
    """Patterns searched in the authority; none: all."""
    timeout: float = 1.0
    max_body: int = 1 << 20
    """Bytes of a request's body: a larger one is not looked up."""
    redaction: RedactionConfig = RedactionConfig()
    """What is looked up is redacted as what is captured: so it is the same, and so it may leave."""
    resource_type: str = "sp-envoy-proxy"
    ca_file: str = ""
    """PEM of the authorities that whoever is asked is verified against; empty: certifi's."""

    def __bool__(self) -> bool:
        return bool(self.url)
