import pytest

from sp_proxy.replay.placeholders import Placeholders
from sp_proxy.replay.prepare import Changes, Preparer, Request, Skipped, changes
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.secrets import Secret
from tests.replay.exchanges import body, recorded


def preparer(to: str = "http://target:81", **wanted) -> Preparer:
    return Preparer(changes(to, **wanted), Placeholders(), run="r1", new_span_id=lambda: "1" * 16)


def request(made: Request | Skipped) -> Request:
    assert isinstance(made, Request), made
    return made


def test_a_request():
    headers = [
        ["accept", "*/*"],
        ["connection", "keep-alive, X-Hop"],
        ["x-hop", "1"],
        ["content-length", "9"],
        ["content-encoding", "gzip"],
        ["traceparent", "00-old"],
        ["x-sp-service-name", "orders"],
        ["x-mine", "2"],
    ]
    made = request(preparer(unsafe=True).prepare(recorded(method="POST", request={"headers": headers, **body("abc")})))
    assert (made.method, made.origin, made.target, made.body) == (
        "POST",
        "http://target:81",
        "/api/orders?id=7",
        b"abc",
    )
    assert [name for name, _ in made.fields] == ["host", "accept", "x-mine", "traceparent", "tracestate"]
    fields = dict(made.fields)
    assert fields["host"] == "target:81"
    assert fields["traceparent"].startswith("00-")
    assert fields["traceparent"].endswith(f"-{'1' * 16}-01")
    assert fields["tracestate"].startswith("x-sp-session-id=replay-r1-")


def test_one_new_trace_for_each_recorded_one():
    prepare = preparer().prepare
    made = [request(prepare(recorded(trace_id=each * 32))) for each in "aab"]
    traces = [dict(each.fields)["traceparent"].split("-")[1] for each in made]
    assert traces[0] == traces[1] != traces[2]
    assert traces[0] != "a" * 32


def test_headers_are_rewritten():
    wanted = preparer(
        "https://target/base/", keep_host=True, drop=("Accept",), set_fields=("X-New:  a b ", "x-mine: changed")
    )
    made = request(wanted.prepare(recorded(request={"headers": [["accept", "*/*"], ["x-mine", "[REDACTED]"]]})))
    fields = dict(made.fields)
    assert made.target == "/base/api/orders?id=7"
    assert (fields["host"], fields["x-new"], fields["x-mine"]) == ("shop.local:8080", "a b", "changed")
    assert "accept" not in fields


def test_targets():
    assert request(preparer().prepare(recorded(path="http://a/b?c"))).target == "/b?c"
    assert request(preparer().prepare(recorded(path="/käse"))).target == "/k%C3%A4se"
    assert request(preparer().prepare(recorded(path="/a?u=http://b/c"))).target == "/a?u=http://b/c"


def test_a_coding_that_was_not_undone_is_sent_with_its_field():
    made = preparer().prepare(
        recorded(request={"headers": [["content-encoding", "exi"]], **body("AA==", encoding="base64")})
    )
    assert dict(request(made).fields)["content-encoding"] == "exi"


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"method": "POST"}, "POST may change something: sent with --unsafe only"),
        ({"method": "DELETE"}, "DELETE may change something: sent with --unsafe only"),
        ({"path": "*"}, "its target cannot be sent"),
        ({"path": "/a b"}, "its target cannot be sent"),
        ({"status": 0}, "no answer was recorded"),
        ({"request": {"size": 3}}, "its body of 3 bytes was not captured"),
        ({"request": {"headers": [["x-a", "[REDACTED]"]]}}, "redacted: the field x-a"),
        ({"path": "/a?token=[REDACTED]"}, "redacted: the target"),
        ({"request": body("pin=[REDACTED]")}, "redacted: the body"),
        ({"request": {"headers": [["x-a", "b\r\nc: d"]]}}, "the field 'x-a' cannot be sent"),
        ({"request": {"headers": [["x a", "b"]]}}, "the field 'x a' cannot be sent"),
    ],
)
def test_skipped(change, reason):
    made = preparer().prepare(recorded(**change))
    assert isinstance(made, Skipped)
    assert made.reason.startswith(reason)


def test_a_method_that_is_none_is_never_sent():
    made = preparer(unsafe=True).prepare(recorded(method="GET /evil HTTP/1.1\r\nx:"))
    assert made == Skipped("its method cannot be sent")


def test_secrets_are_filled_in():
    secret = Secret("header", "authorization", "Bearer t")
    made = request(preparer(secrets=(secret,)).prepare(recorded()))
    assert dict(made.fields)["authorization"] == "Bearer t"


def test_values_of_this_run():
    made = preparer().prepare(
        recorded(path="/orders/o-1", request={"headers": [["x-a", "o-1"]], **body('{"id":"o-1"}')}),
        lambda text: text.replace("o-1", "o-2"),
    )
    assert (request(made).target, request(made).body) == ("/orders/o-2", b'{"id":"o-2"}')
    assert dict(request(made).fields)["x-a"] == "o-2"


@pytest.mark.parametrize(
    "wanted, problem",
    [
        ({"set_fields": ("novalue",)}, "--set-header novalue: allowed: NAME: VALUE"),
        ({"set_fields": ("a b: c",)}, "--set-header: found 'a b'; allowed: the name of a header field"),
        ({"set_fields": ("content-length: 5",)}, "--set-header content-length: belongs to the connection"),
        ({"set_fields": ("a: b\nc",)}, "--set-header a: allowed"),
        ({"drop": ("",)}, "--drop-header: found ''"),
    ],
)
def test_wrong_changes(wanted, problem):
    with pytest.raises(ReplayError, match="^" + problem):
        changes("http://a", **wanted)


def test_changes_are_read():
    assert changes("http://a/", set_fields=("Host: b",)) == Changes("http://a", set=(("host", "b"),))
