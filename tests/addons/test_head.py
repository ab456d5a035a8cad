"""A request's head in a hook's hands."""

import pytest

from sp_proxy.addons.head import MAX_ADDED, Head
from sp_proxy.core.exchange import Direction
from sp_proxy.core.head_edits import OWN, HeadEdit

FIELDS = b"\r\nHost: a.shop\r\nAccept: x\r\nX-One: 1\r\nx-one: 2\r\n"


def head() -> Head:
    return Head(Direction.OUTBOUND, b"GET", b"/orders?id=3", b"a.shop", FIELDS)


def test_it_tells_what_was_sent():
    one = head()
    assert (one.direction, one.method, one.path, one.host) == ("outbound", "GET", "/orders?id=3", "a.shop")
    assert one.headers["x-one"] == "1, 2"
    assert one.capture is None
    assert one.edit() is None


def test_it_takes_what_is_wanted():
    one = head()
    one.headers["accept"] = "y"
    one.headers.add("X-One", "3")
    one.headers["New"] = "ü"
    one.host = "b.shop:81"
    one.capture = False
    one.tag("tenant", 7)
    assert one.host == "b.shop:81"
    assert one.edit() == HeadEdit(
        remove=(b"accept", b"x-one", b"new"),
        lines="accept: y\r\nx-one: 1\r\nx-one: 2\r\nx-one: 3\r\nnew: ü\r\n".encode(),
        authority=b"b.shop:81",
        capture=False,
        tags=(("tenant", "7"),),
    )
    del one.headers["accept"]
    edit = one.edit()
    assert edit is not None
    assert b"accept" in edit.remove
    assert b"accept" not in edit.lines


@pytest.mark.parametrize("name", sorted(OWN))
def test_framing_and_our_own_fields_are_not_for_hooks(name):
    one = head()
    for change in (lambda: one.headers.__setitem__(name.upper(), "1"), lambda: one.headers.add(name, "1")):
        with pytest.raises(ValueError):
            change()
    with pytest.raises((ValueError, KeyError)):
        del one.headers[name]
    assert one.edit() is None


def test_it_refuses_what_would_break_the_head():
    one = head()
    for host in ("", "a b", "a\r\nb", "a/b", "x" * 256):
        with pytest.raises(ValueError):
            one.host = host
    with pytest.raises(ValueError):
        one.capture = "yes"  # type: ignore[assignment]
    with pytest.raises(ValueError):
        one.tag("a b", 1)
    one.headers["big"] = "x" * MAX_ADDED
    with pytest.raises(ValueError):
        one.edit()


def test_a_hook_that_failed_leaves_nothing():
    one = head()
    for first in (False, True):
        saved = one.saved()
        one.headers["accept"] = "z"
        one.tag("a", 1)
        one.host, one.capture = "b", True
        one.restore(saved)
        assert one.edit() == (HeadEdit((b"x-two",), b"x-two: 2\r\n") if first else None)
        one.headers["x-two"] = "2"
