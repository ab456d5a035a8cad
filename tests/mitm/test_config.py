"""What a mitm worker is told survives the way to it."""

from sp_proxy.core.inject import HeaderConfig
from sp_proxy.core.rules import PolicyConfig, RuleConfig
from sp_proxy.mitm.config import MitmConfig, TlsConfig, decode_config, encode_config


def test_round_trip():
    config = MitmConfig(
        64,
        3,
        4,
        HeaderConfig("shop", debug_headers=(("x-debug-hostname", "h"),)),
        PolicyConfig(server_rules=(RuleConfig(host="a", methods=("GET",)),)),
        TlsConfig(intercept=(".",), never=("b",), ca_directory="d", ca_file="f", trusted_file="t"),
        flows=True,
        websocket_messages=10,
    )
    assert decode_config(encode_config(config)) == config
