"""The tree of known keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.settings import keys
from sp_proxy.settings.model import Listen


def test_what_may_stand_where():
    assert keys.resolve(("listen",)) == keys.Node("section", Listen)


@pytest.mark.parametrize(
    "path,kind",
    [
        (("listen", "inbound"), "value"),
        (("collectionRules", "http", "server"), "list"),
        (("collectionRules", "http", "server", 3), "section"),
        (("collectionRules", "http", "server", 3, "path"), "value"),
        (("tags",), "mapping"),
        (("tags", "anything"), "value"),
    ],
)
def test_kinds(path, kind):
    found = keys.resolve(path)
    assert found is not None
    assert found.kind == kind


@pytest.mark.parametrize("path", [("x",), ("listen", "x"), ("listen", 0), ("tags", 0), ("listen", "inbound", "x"), ("strict", "x", "y")])  # fmt: skip
def test_unknown_keys(path):
    assert keys.resolve(path) is None


def test_secrets():
    assert keys.is_secret(("public_key",))
    assert keys.is_secret(("public_key", "x", 0))
    assert keys.is_secret(("backend", "public_keys", 0))
    assert not keys.is_secret(("service_name",))


def test_names_for_people():
    assert keys.dotted(("collectionRules", "http", "server", 0, "path")) == "collectionRules.http.server[0].path"
    assert keys.dotted(("tags", "a.b")) == 'tags."a.b"'
    assert keys.variable(("listen", "inbound")) == "SP_PROXY_LISTEN__INBOUND"
    assert keys.variable(("collectionRules", "http")) == "SP_PROXY_COLLECTIONRULES__HTTP"


@given(st.text())
def test_a_quoted_text_is_one_printable_line_of_bounded_length(text):
    shown = keys.quoted(text)
    assert shown.isprintable()
    assert len(shown) <= 12 * (keys.MAX_SHOWN + 1)


@pytest.mark.parametrize(
    "wrong,right",
    [
        (("listen", "inbund"), "listen.inbound"),
        (("public-key",), "public_key"),
        (("publicKey",), "public_key"),
        (("collectionrules",), "collectionRules"),
        (("log_level",), "log.level"),
        (("inbound",), "listen.inbound"),
        (("collectionRules", "http", "server", 0, "pth"), "collectionRules.http.server[0].path"),
        (("collectionRules", "http", "servers"), "collectionRules.http.server"),
        (("listen", "forward", 2, "upstrem"), "listen.forward[2].upstream"),
        (("relay", "worker"), "relay.workers"),
        (("backend_url",), "sp_backend_url"),
    ],
)
def test_the_nearest_known_key(wrong, right):
    assert keys.nearest(wrong) == right


def test_the_nearest_variable():
    assert keys.nearest_variable("SP_PROXY_LISTEN_INBOUND") == "SP_PROXY_LISTEN__INBOUND"
    assert keys.nearest_variable("sp_proxy_publickey") == "SP_PROXY_PUBLIC_KEY"
