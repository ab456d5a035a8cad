"""The contract's redaction, which holds where no other is asked for."""

import pytest

from sp_proxy.core.redaction import NeverSent


@pytest.mark.parametrize(
    "name",
    ["authorization", "cookie", "set-cookie", "x-public-key", "x-auth-token", "bearer", "proxy-authorization"],
)
def test_never_sent(name):
    assert NeverSent().header(name, "secret") is None


@pytest.mark.parametrize("name", ["x-api-key", "accept", "authorization-x", "cookies", ""])
def test_every_other_field_is_sent_as_it_is(name):
    assert NeverSent().header(name, "v, w") == "v, w"


def test_everything_else_is_sent_as_it_is():
    redaction = NeverSent()
    assert redaction.is_clean(b"a: 4111111111111111\r\n")
    assert redaction.target(b"/a?token=1") == b"/a?token=1"
    assert redaction.authority(b"u:p@host") == b"u:p@host"
    assert redaction.session(b"s-1") == b"s-1"
    assert redaction.body(b"grue", b"text/plain", complete=False) == b"grue"
    assert redaction.body(b"\0\1", b"image/x", complete=True) == b"AAE="
    assert redaction.coded_body(b"\0\1") == b"AAE="
