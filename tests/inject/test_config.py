import msgspec

from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.inject.config import InjectConfig


def test_it_is_off_by_default_and_crosses_to_a_worker():
    assert not InjectConfig()
    config = InjectConfig("http://a", redaction=RedactionConfig(rules=(RuleConfig(query=("a",)),), salt=b"x"))
    assert config
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(config), type=InjectConfig) == config
