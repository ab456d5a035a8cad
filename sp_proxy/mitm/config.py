"""What the supervisor tells a mitm worker when it starts it: plain data, and no import of mitmproxy."""

from typing import Literal

from msgspec import Struct, msgpack

from sp_proxy.addons.heads import RequestAddon
from sp_proxy.core.admission import AdmissionConfig
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.inject.config import InjectConfig

CA_BASENAME = "sp-proxy"
CA_KEY_FILE = f"{CA_BASENAME}-ca.pem"
"""Key and certificate: nobody but the daemon may read it."""
CA_CERTIFICATE_FILE = f"{CA_BASENAME}-ca-cert.pem"
"""The certificate alone: what clients must trust."""


class TlsConfig(Struct, frozen=True, array_like=True):
    """Which TLS is opened, and with which certificates."""

    intercept: tuple[str, ...] = ()
    """Patterns of server names; the relay has applied them already, but for what is opened behind a flow's own CONNECT."""
    never: tuple[str, ...] = ()
    ca_directory: str = ""
    ca_file: str = ""
    """PEM with key and certificate of an own authority; wins over the directory's."""
    trusted_file: str = ""
    """PEM with the authorities that upstream certificates are verified against; empty: the bundle of certifi."""
    remember_rejections: float = 3600.0
    """Seconds for which a client that did not accept our certificate is passed through; 0: never."""


class FlowScriptConfig(Struct, frozen=True, array_like=True):
    """One flow script."""

    name: str
    path: str
    text: str
    hosts: tuple[str, ...]
    """Patterns of the hosts that it claims."""
    options: dict[str, str] = {}
    """Options that it declares."""


class MitmConfig(Struct, frozen=True, array_like=True):
    """All that a mitm worker knows."""

    worker_id: int
    channel_fd: int
    """As in ``relay.config.WorkerConfig``."""
    handover_fd: int
    """Receiving end of ``relay/handoff.py``."""
    headers: HeaderConfig
    policy: PolicyConfig
    tls: TlsConfig = TlsConfig()
    flows: bool = False
    """All HTTP as mitmproxy's flows (``data_path: mitmproxy``); else only what needs it."""
    websocket_messages: int = -1
    """So many messages of a WebSocket connection are recorded; -1: WebSocket passes untouched."""
    strict: Literal["raw", "reject"] = "raw"
    detect_timeout: float = 0.2
    max_body_size: int = 65536
    max_head_size: int = 131072
    grace_period: float = 30.0
    loop_guard_fd: int = -1
    loop_guard_owner: int = 1
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["auto", "json", "console"] = "auto"
    admission: AdmissionConfig = AdmissionConfig()
    """As in ``relay.config.WorkerConfig``."""
    partial_after: float = 0.0
    """Likewise."""
    request_addons: tuple[RequestAddon, ...] = ()
    """Likewise."""
    request_budget: float = 0.001
    """Likewise."""
    scripts: tuple[FlowScriptConfig, ...] = ()
    stuck_after: float = 2.0
    """Seconds after which a script that blocks is interrupted."""
    inject: InjectConfig = InjectConfig()
    """Where outbound requests are looked up, for tests only."""


encode_config = msgpack.Encoder().encode
decode_config = msgpack.Decoder(MitmConfig).decode
encode_scripts = msgpack.Encoder().encode
decode_scripts = msgpack.Decoder(tuple[FlowScriptConfig, ...]).decode
