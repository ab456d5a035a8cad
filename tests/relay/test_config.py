"""The configuration of a worker survives the way to it."""

from sp_proxy.core.exchange import Direction
from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig
from sp_proxy.relay.config import ListenerConfig, WorkerConfig, decode_config, encode_config


def test_there_and_back() -> None:
    config = WorkerConfig(
        worker_id=3,
        channel_fd=7,
        listeners=(
            ListenerConfig(5, Direction.INBOUND),
            ListenerConfig(6, Direction.OUTBOUND, "::1", 80),
        ),
        headers=HeaderConfig("orders", compat_headers=False, debug_headers=(("x-debug-hostname", "h"),)),
        policy=PolicyConfig(
            server_rules=(RuleConfig(paths=("^/a",), methods=("GET",), exclude=True),),
            exemptions=(ExemptionConfig(("h",), ("p",)),),
        ),
        strict="reject",
        loop_guard_fd=9,
    )
    assert decode_config(encode_config(config)) == config
