import base64

import pytest

from sp_proxy.backend.guard import Guard, is_loopback_host, only_loopback, presented_token

LOCAL = Guard(loopback=True)
OPEN = Guard(loopback=False, token="secret")
HOST = "127.0.0.1:4318"


@pytest.mark.parametrize(
    "host, loopback",
    [
        ("localhost", True),
        ("LocalHost:4318", True),
        ("127.0.0.1:80", True),
        ("127.9.9.9", True),
        ("[::1]:4318", True),
        ("[::1]", True),
        ("[::ffff:127.0.0.1]:1", True),
        ("", False),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:4318", False),
        ("10.0.0.1", False),
        ("[::2]", False),
        ("[::1", False),
        ("[::1]x", False),
        ("localhost:", False),
        ("localhost:x", False),
        ("localhost:80:90", False),
        ("127.0.0.1@evil.example", False),
    ],
)
def test_hosts(host, loopback):
    assert is_loopback_host(host) is loopback


def test_addresses():
    assert only_loopback(["127.0.0.1", "::1"])
    assert not only_loopback(["127.0.0.1", "0.0.0.0"])
    assert not only_loopback(["::"])


def test_a_rebound_name_is_refused_even_for_the_page():
    refusal = LOCAL.refuse_page("GET", {"host": "evil.example:4318"}, navigation=True)
    assert refusal is not None
    assert refusal.status == 403
    assert "localhost" in refusal.message


@pytest.mark.parametrize(
    "headers, refused",
    [
        ({}, False),
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"origin": f"http://{HOST}"}, False),
        ({"origin": "http://127.0.0.1:3000"}, True),
        ({"origin": "null"}, True),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_cross_origin_requests(headers, refused, method):
    answer = LOCAL.refuse_page(method, {"host": HOST, **headers}, navigation=False)
    assert (answer is not None) is refused


def test_other_sites_may_link_to_the_page():
    headers = {"host": HOST, "sec-fetch-site": "cross-site"}
    assert LOCAL.refuse_page("GET", headers, navigation=True) is None
    assert LOCAL.refuse_page("POST", headers, navigation=True) is not None


def test_intake_is_for_programs_under_any_name_but_not_for_foreign_pages():
    assert LOCAL.refuse_intake("POST", {"host": "collector.svc:4318"}) is None
    assert LOCAL.refuse_intake("POST", {"host": "evil.example", "origin": "http://evil.example"}) is not None
    assert LOCAL.refuse_intake("POST", {"host": HOST, "sec-fetch-site": "cross-site"}) is not None
    assert LOCAL.refuse_intake("POST", {"host": HOST, "origin": f"http://{HOST}"}) is None


@pytest.mark.parametrize(
    "authorization, status",
    [
        ("Bearer secret", None),
        ("bearer  secret ", None),
        ("Basic " + base64.b64encode(b"any:secret").decode(), None),
        ("", 401),
        ("Bearer", 401),
        ("Bearer wrong", 401),
        ("Bearer sécret", 401),
        ("Basic secret", 401),
        ("Basic " + base64.b64encode(b"\xff").decode(), 401),
        ("Basic " + base64.b64encode(b"secret").decode(), 401),
        ("Digest secret", 401),
    ],
)
def test_the_token(authorization, status):
    answer = OPEN.refuse_page("GET", {"host": "any.name", "authorization": authorization}, navigation=True)
    assert (answer and answer.status) == status


def test_no_token_is_not_an_empty_token():
    assert not Guard(loopback=False).may_send("", "Bearer ")
    assert not Guard(loopback=False).may_send("", "")
    assert presented_token("Bearer ") == ""


@pytest.mark.parametrize(
    "guard, key, authorization, allowed",
    [
        (LOCAL, "", "", True),
        (LOCAL, "any", "", True),
        (OPEN, "any", "", False),
        (OPEN, "secret", "", False),
        (OPEN, "", "Bearer secret", True),
        (Guard(loopback=True, public_keys=("a", "b")), "b", "", True),
        (Guard(loopback=True, public_keys=("a", "b")), "c", "", False),
        (Guard(loopback=True, public_keys=("a", "b")), "", "", False),
        (Guard(loopback=False, token="secret", public_keys=("a",)), "a", "", True),
        (Guard(loopback=False, token="secret", public_keys=("a",)), "x", "Bearer secret", True),
        (Guard(loopback=False, token="secret", public_keys=("a",)), "x", "Bearer no", False),
    ],
)
def test_senders(guard, key, authorization, allowed):
    assert guard.may_send(key, authorization) is allowed
