"""Nothing secret is shown, and what is shown is one line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sp_proxy.settings.masking import flat, found, masked, masked_url
from sp_proxy.settings.model import SettingsModel


@pytest.mark.parametrize(
    "url,shown",
    [
        ("https://o.softprobe.ai", "https://o.softprobe.ai"),
        ("http://user:hunter2@h:1/x", "http://***@h:1/x"),
        ("http://user:hun/ter2@h", "http://***@h"),
        ("http://user:hunt@er2@h", "http://***@h"),
        ("user:hunter2@h", "***@h"),
        ("http://h/x?token=hunter2", "http://h/x?***"),
        ("http://h/#hunter2", "http://h/?***"),
    ],
)
def test_urls(url, shown):
    assert masked_url(url) == shown


@pytest.mark.parametrize(
    "value,path,shown",
    [
        ("hunter2", ("public_key",), "***"),
        (12345, ("public_key",), "***"),
        (["hunter2"], ("public_key",), "a list"),
        ({"hunter2": 1}, ("public_key",), "a mapping"),
        (SecretStr("hunter2"), ("strict",), "***"),
        ("http://u:hunter2@h x", ("sp_backend_url",), '"http://***@h x"'),
        ("u:hunter2@h:80", ("listen", "forward", 0, "upstream"), '"***@h:80"'),
        ("http://u:hunter2@h", ("service_name",), '"http://***@h"'),
        ("me@example", ("collectionRules", "http", "server", 0, "path"), '"me@example"'),
        (None, ("strict",), "nothing"),
        (True, ("strict",), "true"),
        (False, ("strict",), "false"),
        (1 << 9999, ("strict",), "a very large number"),
        (1.5, ("strict",), "1.5"),
    ],
)
def test_what_was_found(value, path, shown):
    assert found(value, path) == shown


@given(st.text() | st.integers() | st.floats() | st.none() | st.binary() | st.lists(st.text()))
def test_what_was_found_is_one_line(value):
    assert found(value, ("strict",)).isprintable()


def test_settings_without_their_secrets():
    settings = SettingsModel.model_validate(
        {
            "public_key": "hunter2",
            "sp_backend_url": "http://u:hunter2@h",
            "backend": {"token": "hunter2", "public_keys": ["hunter2"]},
            "listen": {"outbound": False},
        }
    )
    data = masked(settings)
    assert "hunter2" not in str(data)
    assert data["sp_backend_url"] == "http://***@h"
    assert data["listen"] == {"inbound": "16006", "outbound": "off", "forward": [], "proxy": "off"}
    assert masked(SettingsModel())["public_key"] == ""


def test_flat_settings_have_an_entry_for_each_tag():
    values = flat(SettingsModel(tags={"team": "a", "x.y": "b"}))
    assert values["tags.team"] == "a"
    assert values['tags."x.y"'] == "b"
    assert "tags" not in values
    assert values["listen.inbound"] == "16006"
    assert flat(SettingsModel())["tags"] == {}


def test_exporters_without_their_secrets():
    settings = SettingsModel.model_validate(
        {
            "exporters": [
                {"type": "otlp", "url": "http://u:hunter2@h", "headers": {"authorization": "Bearer hunter2"}},
                {"type": "stdout"},
            ],
            "upload": {"proxy": "http://u:hunter2@proxy:3128"},
        }
    )
    shown = masked(settings)
    assert "hunter2" not in repr(shown)
    assert shown["exporters"][0]["url"] == "http://***@h"
    assert shown["exporters"][1]["url"] is None
    assert shown["upload"]["proxy"] == "http://***@proxy:3128"
    assert found("Bearer hunter2", ("exporters", 0, "headers", "authorization")) == "***"
