"""What the supervisor tells a relay worker when it starts it: plain data, so a worker never imports the settings."""

from typing import Literal

from msgspec import Struct, msgpack

from sp_proxy.addons.heads import RequestAddon
from sp_proxy.core.admission import AdmissionConfig
from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig
from sp_proxy.taps.sniff import HandOverRules


class ListenerConfig(Struct, frozen=True, array_like=True):
    """One inherited listening socket."""

    fd: int
    direction: Direction
    upstream_host: str = ""
    """Fixed upstream; empty for a transparent listener, which asks the kernel for the original destination."""
    upstream_port: int = 0
    proxy: bool = False
    """An explicit proxy, whose clients say where they want to go."""


class WorkerConfig(Struct, frozen=True, array_like=True):
    """All that a relay worker knows."""

    worker_id: int
    channel_fd: int
    """Connected Unix stream socket; frames are written to it, and its end of file means: the supervisor is gone."""
    listeners: tuple[ListenerConfig, ...]
    headers: HeaderConfig
    policy: PolicyConfig
    strict: Literal["raw", "reject"] = "raw"
    detect_timeout: float = 0.2
    max_body_size: int = 65536
    max_head_size: int = 131072
    buffer_size: int = 262144
    grace_period: float = 30.0
    loop_guard_fd: int = -1
    """Shared memory of ``loop_guard.TABLE_BYTES`` bytes, the same for all workers; -1 for a table of one's own."""
    loop_guard_owner: int = 1
    """This process's number in it."""
    admission: AdmissionConfig = AdmissionConfig()
    """This worker's share of the limits."""
    hand_over: HandOverRules = HandOverRules()
    """What belongs to the mitm worker."""
    handover_fd: int = -1
    """Sending end of ``relay/handoff.py``; -1: there is no mitm worker."""
    engine_state_fd: int = -1
    """Shared memory that says whether it takes anything."""
    heartbeat_port: int = 0
    """Where ``relay/heartbeat.py`` sends to; 0: nowhere."""
    heartbeat_interval: float = 1.25
    partial_after: float = 0.0
    """Seconds after which an exchange that goes on is recorded; 0: never."""
    log_format: Literal["auto", "json", "console"] = "auto"
    request_addons: tuple[RequestAddon, ...] = ()
    request_budget: float = 0.001
    """Seconds that a call of one may take."""
    addon_state_fd: int = -1
    """Shared memory of ``addons.heads.STATE_BYTES`` bytes, which says which of them runs."""


encode_config = msgpack.Encoder().encode
decode_config = msgpack.Decoder(WorkerConfig).decode
