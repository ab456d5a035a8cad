"""The redactor as the span encoder sees it."""

from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from sp_proxy import regex
from sp_proxy.core.redact.config import DETECTORS, RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.redaction import NEVER_SENT, Redaction, RedactionError

CARD = "4111111111111111"
ALL = RedactionConfig(detectors=dict.fromkeys(DETECTORS, "replace"), replacement="[R]", salt=b"0123456789abcdef")


def redactor(*rules: RuleConfig, **values) -> Redactor:
    rules = tuple(structs.replace(rule, replacement="[R]") for rule in rules)
    return Redactor(structs.replace(ALL, rules=rules, **values), regex)


def test_it_is_what_the_encoder_asks_for():
    redaction: Redaction = redactor()
    assert redaction.is_clean(b"a: b\r\n")


@pytest.mark.parametrize("name", sorted(NEVER_SENT))
def test_what_the_contract_never_sends(name):
    assert redactor().header(name, "x") is None
    assert Redactor(RedactionConfig(), regex).header(name, "x") is None


@pytest.mark.parametrize(
    "name,value,left",
    [
        ("x-api-key", "abc", "[R]"),
        ("x-my-secret-id", "abc", "[R]"),
        ("x-other", "abc", "abc"),
        ("x-card", f"no {CARD}!", "no [R]!"),
        ("x-auth", "Bearer abcdef123456", "Bearer [R]"),
        ("x-mail", "jane%40example.com", "[R]"),
        ("referer", "https://u:p@h/a?token=x&b=1", "https://[R]@h/a?token=[R]&b=1"),
        ("location", "/cb#token=x", "/cb#token=[R]"),
        ("x-original-url", "/a?token=x", "/a?token=[R]"),
        ("link", '<https://h/?token=x&y=1>; rel="next"', '<https://h/?token=[R]&y=1>; rel="next"'),
        ("accept", "application/xhtml+xml,*/*;q=0.8", "application/xhtml+xml,*/*;q=0.8"),
        ("x-text", "grüße", "grüße"),
    ],
)
def test_header_fields(name, value, left):
    rules = RuleConfig(headers=("X-API-*",), header_patterns=("secret",), query=("token",))
    assert redactor(rules).header(name, value) == left


def test_a_header_that_drops():
    assert redactor(RuleConfig(headers=("a",), action="drop")).header("a", "x") is None
    assert redactor(detectors={"jwt": "drop"}).header("a", "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.x") is None


def test_what_is_clean_needs_no_second_look():
    one = redactor(RuleConfig(headers=("x-key",), query=("token",)))
    assert not one.is_clean(b"a: b\r\n", f"c: {CARD}\r\n".encode())
    assert not one.is_clean(b"a: jane%40example.com\r\n")
    assert not one.is_clean(b"a: 4111+1111+1111+1111\r\n")
    block = b"a: b%20c\r\naccept: application/xhtml+xml\r\n"
    assert one.is_clean(block)
    for name, value in (("x-key", "v"), ("a", "b%20c"), ("referer", "/?token=x"), ("cookie", "a=b")):
        assert one.header(name, value, clean=True) == one.header(name, value)
    assert Redactor(RedactionConfig(), regex).is_clean(CARD.encode())


@given(st.text(st.characters(codec="utf-8")))
def test_a_clean_value_has_the_same_answer_either_way(value):
    one = redactor()
    if one.is_clean(b"a: " + value.encode() + b"\r\n"):
        assert one.header("a", value) == one.header("a", value, clean=True)


PLAIN = [
    redactor(),
    redactor(send_cookies=True),
    redactor(RuleConfig(headers=("x-key",), header_patterns=("secret",))),
    redactor(RuleConfig(query=("token",))),
    Redactor(RedactionConfig(), regex),
]


@given(
    st.sampled_from(PLAIN),
    st.sampled_from(["a", "x-key", "my-secret-id", "cookie", "set-cookie", "referer", "location", "authorization"]),
    st.text(st.characters(codec="utf-8", exclude_characters="\r\n")) | st.just("/?token=x"),
)
def test_a_clean_value_of_a_plain_field_is_sent_as_it_is(one, name, value):
    if one.is_plain(name) and "://" not in value and one.is_clean(f"{name}: {value}\r\n".encode()):
        assert one.header(name, value, clean=True) == value


def test_which_fields_are_plain():
    assert [one.is_plain("a") for one in PLAIN] == [True, True, True, False, True]
    assert not PLAIN[2].is_plain("x-key")
    assert not PLAIN[2].is_plain("my-secret-id")
    assert not any(one.is_plain(name) for one in PLAIN for name in NEVER_SENT)


def test_cookies_are_sent_by_setting_only_and_then_redacted():
    rules = RuleConfig(cookies=("session*",))
    assert redactor(rules).header("cookie", "a=1") is None
    sending = redactor(rules, send_cookies=True)
    assert sending.header("cookie", "a=1; SessionId=x; b=2") == "a=1; SessionId=[R]; b=2"
    assert sending.header("set-cookie", "session=x; Path=/") == "session=[R]; Path=/"
    assert sending.header("set-cookie", f"a={CARD}; Path=/") == "a=[R]; Path=/"
    assert sending.header("authorization", "x") is None


def test_targets():
    one = redactor(RuleConfig(query=("token",)))
    assert one.target(b"/a?token=x&b=1") == b"/a?token=[R]&b=1"
    assert one.target(b"/cards/4111111111111111/x") == b"/cards/[R]/x"
    assert one.target(b"/users/jane%40example.com?a=%20") == b"/users/[R]?a=%20"
    assert one.target(b"http://u:p@h/x") == b"http://[R]@h/x"
    assert one.target(b"/plain?a=b%20c+d") == b"/plain?a=b%20c+d"


def test_authorities():
    assert redactor().authority(b"h:80") == b"h:80"
    assert redactor().authority(b"u:p@h:80") == b"[R]@h:80"
    assert redactor(RuleConfig(headers=("host",))).authority(b"h:80") == b"[R]"
    assert redactor().authority(b"4111111111111111.example") == b"[R].example"


def test_sessions():
    assert redactor().session(b"sp-session-1") == b"sp-session-1"
    assert redactor().session(CARD.encode()) == b"[R]"
    named = redactor(RuleConfig(headers=("x-sp-session-id",)))
    assert named.session(b"s", clean=True) == b"[R]"
    assert redactor(RuleConfig(headers=("x-sp-*",), action="drop")).session(b"s") == b""


def test_equal_values_are_equal_wherever_they_stand():
    one = redactor(
        RuleConfig(headers=("x-key",), query=("key",), form=("key",), json_paths=("key",), action="hash"), salt=ALL.salt
    )
    hashed = one.header("x-key", "ü b")
    assert hashed is not None
    assert one.target("/?key=ü+b".encode()) == b"/?key=" + hashed.encode()
    assert one.target(b"/?key=%C3%BC%20b") == b"/?key=" + hashed.encode()
    assert one.body('{"key":"ü b"}'.encode(), b"application/json", complete=True) == f'{{"key":"{hashed}"}}'.encode()
    form = one.body(b"key=%C3%BC+b", b"application/x-www-form-urlencoded", complete=True)
    assert form == b"key=" + hashed.encode()


def test_bodies():
    one = redactor()
    assert one.body(b"grue", b"text/plain", complete=True) == b"grue"
    assert one.body(CARD.encode("utf-16"), b"text/plain; charset=utf-16", complete=True) == b"[R]"
    binary = one.body(b"\0\1" + CARD.encode(), b"application/grpc", complete=True)
    assert binary is not None
    assert b64decode(binary) == b"[R]"
    assert redactor(keep_binary=False).body(b"\0\1", b"application/grpc", complete=True) is None
    assert redactor(keep_binary=False).body(b"a", b"text/plain", complete=True) == b"a"


def test_bodies_that_nobody_can_read():
    made = redactor().coded_body(b"\0\1")
    assert made is not None
    assert b64decode(made) == b"[R]"
    assert Redactor(RedactionConfig(), regex).coded_body(b"\0\1") == b"AAE="
    assert redactor(RuleConfig(text=("a",), action="drop")).coded_body(b"\0\1") is None
    assert redactor(keep_binary=False).coded_body(b"\0\1") is None


class Failing:
    """An engine in which something goes wrong once a text is looked at."""

    searcher = staticmethod(regex.searcher)
    literal = staticmethod(regex.literal)
    finder = staticmethod(regex.finder)

    def scanner(self, patterns):
        scan = regex.scanner(patterns)

        def failing(text: bytes):
            if b"boom" in text:
                raise RuntimeError(f"cannot scan {text!r}")
            return scan(text)

        return failing


def test_a_failure_is_told_without_a_word_of_the_content():
    one = Redactor(ALL, Failing())
    calls = [
        lambda: one.header("a", "boom secret"),
        lambda: one.target(b"/boom"),
        lambda: one.authority(b"boom"),
        lambda: one.session(b"boom"),
        lambda: one.is_clean(b"boom"),
        lambda: one.body(b"boom", b"text/plain", complete=True),
        lambda: one.body(b"\0boom", b"", complete=True),
    ]
    for call in calls:
        with pytest.raises(RedactionError) as caught:
            call()
        assert str(caught.value) == ""
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__


def test_an_engine_that_finds_nothing_stops_the_start():
    class Blind(Failing):
        def scanner(self, patterns):
            return lambda text: None

    with pytest.raises(ValueError, match="payment_card"):
        Redactor(ALL, Blind())


def test_a_hash_without_a_salt_stops_the_start():
    with pytest.raises(ValueError, match="salt"):
        redactor(RuleConfig(headers=("a",), action="hash"), salt=b"")
