"""The sections about what passes through mitmproxy."""

import pytest
from pydantic import ValidationError

from sp_proxy.settings.interception import Mitm, Tls, WebSocket
from sp_proxy.settings.model import SettingsModel


def test_by_default_nothing_is_opened():
    settings = SettingsModel.model_validate({})
    assert (settings.data_path, settings.engine, settings.listen.proxy) == ("auto", "on_demand", None)
    assert settings.tls.intercept == []
    assert settings.websocket.capture == "handshake"


def test_limits_are_read_with_their_units():
    assert Mitm.model_validate({"max_memory": "1GiB", "max_age": "12h"}) == Mitm(max_memory=1 << 30, max_age=43200.0)
    assert Tls.model_validate({"remember_rejections": "0"}).remember_rejections == 0


@pytest.mark.parametrize(
    "section, values",
    [
        (Mitm, {"max_memory": "1MiB"}),
        (Tls, {"intercept": ["("]}),
        (Tls, {"ca_directory": ""}),
        (WebSocket, {"capture": "all"}),
        (WebSocket, {"max_messages": -1}),
    ],
)
def test_what_is_refused(section, values):
    with pytest.raises(ValidationError):
        section.model_validate(values)
