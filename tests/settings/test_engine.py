"""What the settings become for a mitm worker, and for the relay beside it."""

from sp_proxy.mitm.config import TlsConfig
from sp_proxy.settings.checks import engine_users, problems, sockets
from sp_proxy.settings.engine import hand_over_rules, mitm_config, tls_config
from sp_proxy.settings.keys import dotted
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.project import admission_config
from sp_proxy.taps.sniff import HandOverRules


def settings(**values: object) -> SettingsModel:
    return SettingsModel.model_validate(values)


def test_by_default_nothing_is_handed_over():
    assert not hand_over_rules(settings())
    assert engine_users(settings()) == []
    config = mitm_config(settings(), {})
    assert not config.flows
    assert config.websocket_messages == -1


def test_everything_at_once():
    wanted = settings(
        data_path="mitmproxy",
        tls={"intercept": ["a"], "never": ["b"], "ca_directory": "d", "ca_file": "f", "trusted_ca_file": "t"},
        websocket={"capture": "messages", "max_messages": 5},
        listen={"proxy": 8888},
        service_name="shop",
        capture={"max_body_size": 10},
        log={"level": "debug", "format": "json"},
    )
    assert hand_over_rules(wanted) == HandOverRules(("a",), ("b",), http=True, websocket=True)
    assert tls_config(wanted) == TlsConfig(("a",), ("b",), "d", "f", "t", 3600.0)
    config = mitm_config(wanted, {})
    assert (config.flows, config.websocket_messages, config.max_body_size) == (True, 5, 10)
    assert (config.log_level, config.log_format) == ("debug", "json")
    assert config.headers.service_name == "shop"
    assert [dotted(path) for path in engine_users(wanted)] == [
        "data_path",
        "tls.intercept",
        "websocket.capture",
    ]


def test_the_explicit_proxy_needs_no_engine():
    assert engine_users(settings(listen={"proxy": 8888})) == []


def test_an_engine_that_is_off_cannot_be_needed():
    ((path, text),) = problems(settings(engine="off", tls={"intercept": ["."]}), sends=False)
    assert dotted(path) == "engine"
    assert text == "found off; allowed: on_demand or eager, because of tls.intercept"
    assert problems(settings(engine="off"), sends=False) == []


def test_the_explicit_proxy_is_one_of_the_sockets():
    assert ("listen", "proxy") in [each.path for each in sockets(settings(listen={"proxy": 8888}))]
    ((path, _),) = problems(settings(listen={"proxy": 16001}), sends=False)
    assert dotted(path) == "listen.proxy"


def test_the_mitm_worker_has_its_share_of_the_limits():
    limits = {"exchanges_per_second": 100}
    assert admission_config(settings(limits=limits)).limit.exchanges == 100
    shared = settings(limits=limits, data_path="mitmproxy")
    assert admission_config(shared).limit.exchanges == mitm_config(shared, {}).admission.limit.exchanges == 50
