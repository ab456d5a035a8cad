"""Header fields that never leave."""

import pytest

from sp_proxy.core.redaction import redact_header


@pytest.mark.parametrize(
    "name",
    ["authorization", "cookie", "set-cookie", "x-public-key", "x-auth-token", "bearer", "proxy-authorization"],
)
def test_never_sent(name):
    assert redact_header(name, "secret") is None


@pytest.mark.parametrize("name", ["x-api-key", "accept", "authorization-x", "cookies", ""])
def test_everything_else_is_sent_as_it_is(name):
    assert redact_header(name, "v, w") == "v, w"
