"""The model: the contract's defaults, and every setting described."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.keys import dotted, fields
from sp_proxy.settings.model import SettingsModel
from sp_proxy.settings.types import Address


def test_the_defaults_of_the_contract():
    settings = SettingsModel()
    assert settings.sp_backend_url == "https://o.softprobe.ai"
    assert settings.service_name == "default-service"
    assert settings.traffic_direction == "both"
    assert settings.collectionRules.http.server == []
    assert settings.exemptionRules[0].pathPatterns == [
        "/v1/traces", "/api/traces", "/v1/metrics", "/api/metrics", "/v1/logs", "/api/logs",
        "/otlp/v1/traces", "/otlp/v1/metrics", "/otlp/v1/logs",
    ]  # fmt: skip
    assert settings.listen.inbound == Address("", 16006)
    assert settings.listen.outbound == Address("", 16001)
    assert settings.admin.listen == Address("127.0.0.1", 16021)
    assert settings.backend.listen == Address("127.0.0.1", 4318)
    assert settings.compat_headers
    assert not settings.debug_headers


@pytest.mark.parametrize(
    "written,meant",
    [("server", "server"), ("inbound", "server"), ("client", "client"), ("outbound", "client"), ("both", "both"), ("", "both")],
)  # fmt: skip
def test_directions(written, meant):
    assert SettingsModel.model_validate({"traffic_direction": written}).traffic_direction == meant


@pytest.mark.parametrize("wrong", ["Server", "sideways", 1, ["server"]])
def test_what_is_no_direction(wrong):
    with pytest.raises(ValidationError, match=r"server \(or inbound\)"):
        SettingsModel.model_validate({"traffic_direction": wrong})


def test_a_level_in_capitals():
    assert SettingsModel.model_validate({"log": {"level": "INFO"}}).log.level == "info"


def test_the_public_key_is_not_in_any_representation():
    settings = SettingsModel.model_validate({"public_key": "hunter2"})
    assert "hunter2" not in f"{settings!r} {settings} {settings.model_dump(mode='json')}"


def test_a_body_limit_that_would_break_the_channel_is_refused():
    with pytest.raises(ValidationError, match="less than or equal"):
        SettingsModel.model_validate({"capture": {"max_body_size": "32MiB"}})


@pytest.mark.parametrize("path,field", [pytest.param(p, f, id=dotted(p)) for p, f in fields()])
def test_every_setting_is_described_in_a_sentence(path, field):
    assert field.description.endswith((".", "`"))
