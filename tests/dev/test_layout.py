import os

import pytest

from sp_proxy.dev import layout
from sp_proxy.dev.layout import Common, Inbound, Peer
from sp_proxy.mock.daemon import daemon_settings
from sp_proxy.settings.flags import parse_assignments
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.source import Source

COMMON = Common(4318, "/state/dev", "/run/known.pem")


def loaded(settings) -> SettingsModel:
    """The settings as the daemon reads them from its command line."""
    words = layout.assignments(settings)
    assert words[::2] == ["--set"] * (len(words) // 2)
    return Source(None, {}, parse_assignments(words[1::2])).load().settings


@pytest.fixture(autouse=True)
def _an_authority(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def explicit(common: Common = COMMON, *, ipv6: bool = True) -> SettingsModel:
    return loaded(
        layout.explicit("shop", common, proxy_port=8888, admin_port=9999, inbound=Inbound(8080, 3000), ipv6=ipv6)
    )


def test_on_this_host():
    settings = explicit()
    assert (settings.listen.inbound, settings.listen.outbound) == (None, None)
    assert str(settings.listen.proxy) == "127.0.0.1:8888"
    assert [(str(each.listen), str(each.upstream), each.direction) for each in settings.listen.forward] == [
        ("127.0.0.1:8080", "localhost:3000", "inbound"),
        ("[::1]:8080", "localhost:3000", "inbound"),
    ]
    assert settings.tls.intercept == ["."]
    assert settings.sp_backend_url == "http://127.0.0.1:4318"
    assert len(explicit(ipv6=False).listen.forward) == 1


def test_everything_is_captured_but_for_rules_of_ones_own():
    assert not explicit().capture.skip_static
    assert explicit(Common(4318, "/s", "/k", own_rules=True)).capture.skip_static


def test_https_is_left_alone_by_wish():
    assert explicit(Common(4318, "/s", "/k", intercept=False)).tls.intercept == []


def test_answers_come_from_the_runs_own_backend():
    settings = explicit(Common(4318, "/s", "/k", mocked=daemon_settings("service:shop", ["^pay"])))
    assert (settings.inject.enabled, settings.inject.query, settings.inject.hosts) == (True, "service:shop", ["^pay"])
    assert str(settings.inject.url) == "http://127.0.0.1:4318/v1/inject"  # and not where the user's own file would look
    assert not explicit().inject.enabled


def test_in_a_namespace():
    settings = loaded(layout.transparent("shop", COMMON, Inbound(8080, 3000), [Peer(8081, "10.213.0.6")]))
    assert settings.listen.proxy is None
    assert settings.listen.outbound
    assert settings.listen.outbound.port == layout.OUTBOUND_PORT
    assert settings.netfilter.mode == "outbound-only"
    assert [(str(each.listen), str(each.upstream), each.direction) for each in settings.listen.forward] == [
        ("8080", "localhost:3000", "inbound"),
        ("127.0.0.1:8081", "10.213.0.6:8081", "outbound"),
        ("[::1]:8081", "10.213.0.6:8081", "outbound"),
    ]
    assert {settings.listen.outbound.port, settings.admin.listen.port} <= layout.reserved_ports()


def test_they_are_stronger_than_the_users_own(tmp_path):
    own = tmp_path / "own.yaml"
    own.write_text("exporters: [{type: stdout}]\nlisten: {inbound: 17006}\ncapture: {skip_static: true}\n")
    settings = layout.explicit("shop", COMMON, proxy_port=1, admin_port=2, inbound=None, ipv6=True)
    made = Source(own, {}, parse_assignments(layout.assignments(settings)[1::2])).load().settings
    assert made.exporters == []
    assert made.listen.inbound is None
    assert os.fspath(own)
