import pytest

from sp_proxy.inject.config import InjectConfig
from sp_proxy.settings import checks
from sp_proxy.settings.engine import hand_over_rules, inject_config, mitm_config
from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.flags import parse_assignments
from sp_proxy.settings.inject import Inject
from sp_proxy.settings.source import Source


def load(**values: str):
    flags = {key.replace("__", "."): value for key, value in values.items()}
    return Source(None, {}, parse_assignments([f"{key}={value}" for key, value in flags.items()])).load()


def test_it_is_off_unless_it_is_asked_for():
    loaded = load(backend__enabled="true")
    assert not Inject().enabled
    assert inject_config(loaded.settings) == InjectConfig()
    assert not hand_over_rules(loaded.settings).http
    assert loaded.warnings == []


def test_the_embedded_backend_is_asked_and_a_warning_is_loud():
    loaded = load(backend__enabled="true", backend__token="t", inject__enabled="true", inject__query="session:a b")
    settings = loaded.settings
    config = mitm_config(settings, {}).inject
    assert config.url == "http://127.0.0.1:4318/v1/inject?q=session%3Aa+b"
    assert (config.token, config.timeout, config.max_body) == ("t", 1.0, 1 << 20)
    assert config.redaction.detectors
    assert hand_over_rules(settings).http
    assert ("inject", "enabled") in checks.engine_users(settings)
    (warning,) = loaded.warnings
    assert "FOR TESTS ONLY" in warning
    assert "http://127.0.0.1:4318/v1/inject" in warning


def test_whom_it_may_ask_is_limited_as_where_it_may_send():
    values = {"backend.enabled": "true", "inject.enabled": "true", "approved_backends": '["127.0.0.1"]'}
    assert load(**values).settings.inject.enabled
    with pytest.raises(SettingsError) as caught:
        load(**values, **{"inject.url": "https://elsewhere.example/v1/inject"})
    assert "whose host is not in approved_backends" in caught.value.problems[0]


def test_another_backend_does_not_get_the_token():
    settings = load(
        backend__enabled="true", backend__token="t", inject__enabled="true", inject__url="http://localhost:1/v1/inject"
    ).settings
    assert (inject_config(settings).url, inject_config(settings).token) == ("http://localhost:1/v1/inject", "")
