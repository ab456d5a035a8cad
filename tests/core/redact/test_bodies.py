"""Bodies: what is redacted in place, what as a whole, and that nothing which was named is left."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy import regex
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.bodies import Bodies
from sp_proxy.core.redact.config import ActionKind, DetectorName, RuleConfig
from sp_proxy.core.redact.detectors import Detectors

JSON = b"application/json"
FORM = b"application/x-www-form-urlencoded"
TEXT = b"text/plain"
SALT = b"0123456789abcdef"
CARD = "4111111111111111"
GONE = Action("replace", b"[R]")


def bodies(*rules: RuleConfig, detectors: dict[DetectorName, ActionKind] | None = None) -> Bodies:
    kinds: dict[DetectorName, ActionKind] = {"payment_card": "replace"} if detectors is None else detectors
    return Bodies(
        regex,
        [(rule, Action.make(rule.action, "[R]", SALT)) for rule in rules],
        Detectors(regex, {name: Action.make(kind, "[R]", SALT) for name, kind in kinds.items()}),
        GONE,
    )


def redact(one: Bodies, body: bytes | str, content_type: bytes = JSON, *, is_text=True, complete=True) -> bytes | None:
    body = body.encode() if isinstance(body, str) else body
    return one.redact(body, content_type, is_text=is_text, complete=complete)


PASSWORD = RuleConfig(json_paths=("$..password", "cards[*].pan"), form=("password", "cards[*"))


@pytest.mark.parametrize(
    "body,left",
    [
        ('{"a":{"password":"x"},"n":1.10}', '{"a":{"password":"[R]"},"n":1.10}'),
        ('{"passw\\u006frd":"x"}', '{"password":"[R]"}'),
        ('{"password":{"a":["x"]}}', '{"password":"[R]"}'),
        ('{"cards":[{"pan":1},{"pan":null},{}]}', '{"cards":[{"pan":"[R]"},{"pan":"[R]"},{}]}'),
        ('{ "passwords" : "y" }', '{ "passwords" : "y" }'),
        (f'{{"c":{CARD}}}', '{"c":"[R]"}'),
        (f'{{"c":"{CARD}"}}', '{"c":"[R]"}'),
        (f'{{"c":-{CARD}, "d":[{CARD}]}}', '{"c":"-[R]","d":["[R]"]}'),
        (f'{{"{CARD}":1}}', '{"[R]":1}'),
        (f'{{"c":"\\u0034{CARD[1:]}"}}', '{"c":"[R]"}'),
        (f"{CARD}", '"[R]"'),
        (f'{{"c":{CARD}.0, "d":[{CARD}.00]}}', '{"c":"[R].0","d":["[R].00"]}'),
        ('{"a":1745678901234567890,"b":0.4111111111111111}', '{"a":1745678901234567890,"b":0.4111111111111111}'),
    ],
)
def test_json(body, left):
    assert redact(bodies(PASSWORD), body) == left.encode()


@pytest.mark.parametrize(
    "body,left",
    [
        (f'{{"c":"{CARD}","c":"x"}}', '{"c":"x"}'),
        (f'{{"c":{{"{CARD}":1}},"c":2}}', '{"c":2}'),
        (f'{{"\\u0063":"\\u0034{CARD[1:]}", "c" : 1}}', '{"c":1}'),
        ('{"a":{"password":"x"},"a":{}}', '{"a":{}}'),
        ('[{"a":{"password":"x"},"a":5}]', '[{"a":5}]'),
        ('{"a":{"password":"x"},"a":{"password":"y"}}', '{"a":{"password":"[R]"}}'),
    ],
)
def test_what_stands_under_a_key_that_comes_again_is_not_sent(body, left):
    assert redact(bodies(RuleConfig(json_paths=("$.a.password",))), body) == left.encode()


@given(st.data())
def test_no_document_with_keys_that_come_again_hides_anything(data):
    """Written by hand: no encoder does it. Strange keys and texts that look like keys are among it."""
    texts = st.sampled_from(['"x"', '"\\":"', '"a\\\\"', '"b:c"', f'"{CARD}"', CARD, "1.5", "null", '" \\"  : "'])
    values = st.recursive(
        texts,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
            st.lists(st.tuples(st.sampled_from(['"a"', '"b"', '"c\\\\"', '"\\":"', '"a" ']), inner), max_size=4).map(
                lambda pairs: "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"
            ),
        ),
        max_leaves=8,
    )
    body = data.draw(values)
    json.loads(body)
    left = redact(bodies(), body)
    assert left is not None
    assert CARD.encode() not in left
    json.loads(left)


def test_what_is_not_named_stays_byte_by_byte():
    body = '{ "a" : [1.50, 1e5],\n"b":"\\u003cü" }'
    assert redact(bodies(PASSWORD), body) == body.encode()


@pytest.mark.parametrize(
    "body,complete",
    [
        ('{"password":"x"', True),
        ('{"password":"x"}', False),
        ("{'password':'x'}", True),
        ('{"password":"x",}', True),
        ('{"password":"x"} {"password":"y"}', True),
        ("[" * 30_000 + '{"password":"x"}' + "]" * 30_000, True),
        ('{"password":"\udcff"}'.encode("utf-8", "surrogateescape"), True),
    ],
)
@pytest.mark.parametrize("content_type", [JSON, b"application/vnd.api+json", TEXT, b""])
def test_json_that_cannot_be_parsed_is_redacted_whole_where_a_rule_was_meant_for_it(body, complete, content_type):
    assert redact(bodies(PASSWORD), body, content_type, complete=complete) == b"[R]"


def test_and_is_left_alone_where_none_was():
    broken = '{"name":"x"'
    assert redact(bodies(PASSWORD), broken) == broken.encode()
    assert redact(bodies(RuleConfig(json_paths=("$[0]",))), broken) == b"[R]"


def test_detectors_look_into_broken_json():
    assert redact(bodies(), f'{{"c":"{CARD}", ') == b'{"c":"[R]", '
    assert redact(bodies(), f'{{"c":"\\u0034{CARD[1:]}", ') == b'{"c":"[R]", '


def test_a_secret_that_was_cut():
    assert redact(bodies(), '{"c":"41111111', complete=False) == b'{"c":"[R]'
    assert redact(bodies(), "card 41111111", TEXT, complete=False) == b"card [R]"
    assert redact(bodies(), "card 41111111", TEXT, complete=True) == b"card 41111111"


def test_lines_of_json():
    body = b'{"password":"x"}\n{"a":1.0}\n\n{"password":"y"}'
    lines = b'{"password":"[R]"}\n{"a":1.0}\n\n{"password":"[R]"}'
    assert redact(bodies(PASSWORD), body, b"application/x-ndjson", is_text=False) == lines


def test_the_first_rule_decides_and_drops_drop():
    first = RuleConfig(json_paths=("a",), action="hash")
    hashed = redact(bodies(first, RuleConfig(json_paths=("$..*",))), '{"a":"x","b":"y"}')
    assert hashed == b'{"a":"%b","b":"[R]"}' % Action("hash", b"", SALT).substitute(b"x")
    assert redact(bodies(RuleConfig(json_paths=("a",), action="drop")), '{"a":1}') is None
    assert redact(bodies(RuleConfig(json_paths=("a",), action="drop")), '{"b":1}') == b'{"b":1}'
    assert redact(bodies(RuleConfig(json_paths=("a",), action="drop")), '{"a":1') is None
    assert redact(bodies(detectors={"payment_card": "drop"}), f'{{"b":{CARD}}}') is None


def test_a_key_tells_a_secret():
    one = bodies(detectors={"aws_key": "replace"})
    secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    assert redact(one, json.dumps({"SecretAccessKey": secret})) == b'{"SecretAccessKey":"[R]"}'
    assert redact(one, json.dumps({"SecretAccessKey": secret}).replace("/", "\\/")) == b'{"SecretAccessKey":"[R]"}'


@pytest.mark.parametrize(
    "body,left",
    [
        (b"a=1&password=x&b=2", b"a=1&password=[R]&b=2"),
        (b"pass%77ord=x", b"pass%77ord=[R]"),
        (b"cards%5B0%5D=x", b"cards%5B0%5D=[R]"),
        (b"c=4111+1111+1111+1111&d=%2B", b"c=[R]&d=%2B"),
        (b"c=4111%201111%201111%201111", b"c=[R]"),
        (b"c=" + CARD.encode(), b"c=[R]"),
        (b"a=%41+b", b"a=%41+b"),
    ],
)
def test_forms(body, left):
    assert redact(bodies(PASSWORD), body, FORM) == left


def test_multipart_forms():
    body = b'--B\r\nContent-Disposition: form-data; name="password"\r\n\r\nx' + CARD.encode() + b"\r\n--B--"
    content_type = b"multipart/form-data; boundary=B"
    assert redact(bodies(PASSWORD), body, content_type, is_text=False) == body.replace(b"x" + CARD.encode(), b"[R]")
    assert redact(bodies(), body, content_type, is_text=False) == body.replace(CARD.encode(), b"[R]")
    assert redact(bodies(PASSWORD), b"nothing of the kind", content_type, is_text=False) == b"[R]"


def test_text():
    rules = RuleConfig(text=(r"ssn[: ]*(\d+)", "ü+"))
    assert redact(bodies(rules), "ssn: 123, üü", TEXT) == b"ssn: [R], [R]"
    assert redact(bodies(RuleConfig(text=("x",), action="drop")), "axb", TEXT) is None
    assert redact(bodies(rules), b"\x00\x01ssn 123", b"application/grpc", is_text=False) == b"\x00\x01ssn 123"
    assert redact(bodies(rules), b"ssn 123", b"", is_text=False) == b"ssn [R]"
    assert redact(bodies(RuleConfig(text=("a.*b|a",))), b"a" * 200_000, TEXT) == b"[R]"


def test_binary_bodies_are_redacted_whole():
    body = b"\x00\x00\x00\x00\x12\n\x10" + CARD.encode()
    assert redact(bodies(), body, b"application/grpc+proto", is_text=False) == b"[R]"
    assert redact(bodies(detectors={"payment_card": "drop"}), body, b"application/grpc", is_text=False) is None
    assert redact(bodies(), body[:7], b"application/grpc", is_text=False) == body[:7]
    assert redact(bodies(PASSWORD), b"\0" + b'{"password":1}', b"application/grpc+json", is_text=False) is not None


def test_text_without_a_content_type_is_redacted_in_place():
    assert redact(bodies(), f"card {CARD}", b"", is_text=False) == b"card [R]"
    assert redact(bodies(PASSWORD), '{"password":"x"}', b"", is_text=False) == b'{"password":"[R]"}'


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le"])
def test_text_that_hides_between_nuls_is_redacted_whole(codec):
    assert redact(bodies(PASSWORD), '{"password":"x"}'.encode(codec)) == b"[R]"
    assert redact(bodies(), f"card {CARD}".encode(codec), TEXT) == b"[R]"
    harmless = "hello".encode(codec)
    assert redact(bodies(), harmless, TEXT) == harmless


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("content_type", [b"", b"application/octet-stream"])
def test_also_where_nobody_calls_it_text(codec, content_type):
    one = bodies(PASSWORD, RuleConfig(text=("unlikely",)))
    assert redact(one, f"my card is {CARD}".encode(codec), content_type, is_text=False) == b"[R]"
    for harmless in ("hello".encode(codec), bytes(1000) + b"an image", b"\x08\x96\x01\0" * 50):
        assert redact(one, harmless, content_type, is_text=False) == harmless


def test_what_is_meant_for_a_body_that_nobody_can_read():
    assert bodies(detectors={}).action_unreadable is None
    assert bodies().action_unreadable is GONE
    for rule in (
        RuleConfig(json_paths=("a",), action="drop"),
        RuleConfig(form=("a",), action="drop"),
        RuleConfig(text=("a",), action="drop"),
    ):
        action = bodies(rule).action_unreadable
        assert action is not None
        assert action.drops


SECRET = "PLANTED-7f3a"
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


def plant(value, depth: int):
    """The value with a password in it, that many levels down where there are so many."""
    if depth and isinstance(value, list):
        return [*value, plant({}, depth - 1)]
    if isinstance(value, dict):
        return {**value, "password": SECRET, "deeper": plant([], depth - 1)} if depth else {**value, "password": SECRET}
    return {"password": [SECRET, value]}


@given(VALUES, st.integers(0, 4), st.booleans(), st.sampled_from(["replace", "hash", "drop"]), st.data())
def test_nothing_planted_survives_and_json_still_parses(value, depth, ascii_only, action, data):
    document = plant(value, depth)
    body = json.dumps(document, ensure_ascii=ascii_only).encode("utf-8", "replace")
    one = bodies(RuleConfig(json_paths=("$..password",), action=action))
    redacted = redact(one, body)
    if action == "drop":
        assert redacted is None
        return
    assert redacted is not None
    assert SECRET.encode() not in redacted
    assert "password" in json.dumps(json.loads(redacted))
    cut = redact(one, body[: data.draw(st.integers(1, len(body)))], complete=False)
    assert cut is not None
    assert SECRET.encode() not in cut


DIGITS = st.text(st.sampled_from("0123456789 -.aef\b\f\n\u00e9"), max_size=12)
LOOKALIKES = st.sampled_from(
    [
        f"1.0000001e{CARD}",
        "4.12772707097E378282246310005",
        "41111111111111110e-1",
        "4.1111111111111110e15",
        "41111111-1111-4111-8111-111111111111",
        f"{CARD}aabbccd",
        CARD,
    ]
)


def same_without_the_search(texts: list[str]) -> None:
    """That one search of a document says what looking at each of its texts would; ``texts`` are JSON."""
    body = "[" + ", ".join(['"4444 4444 4444 4441"', *texts]) + "]"  # a card's hint in any case
    slow = bodies()
    slow._detectors.refutes = lambda *_: False  # type: ignore[method-assign]
    assert redact(bodies(), body) == redact(slow, body)


@given(st.data())
def test_a_search_for_cards_in_a_document(data):
    def value(text: str) -> str:
        try:
            json.loads(text)
        except ValueError:
            return json.dumps(text, ensure_ascii=data.draw(st.booleans()))
        return text if data.draw(st.booleans()) else json.dumps(text)

    texts = data.draw(st.lists(st.lists(DIGITS | LOOKALIKES, min_size=1, max_size=3).map("".join), max_size=4))
    same_without_the_search([value(text) for text in texts])


@pytest.mark.parametrize(
    "text",
    [
        f"1.0000001e{CARD}",
        "4.12772707097E378282246310005",
        "41111111111111110e-1",
        rf'"\b{CARD}aabbccd"',
        rf'"\f{CARD}aabbccd"',
        rf'"\u00e9{CARD}"',
        f'"{CARD}"',
        CARD,
    ],
)
def test_a_search_for_cards_in_what_is_read_otherwise(text):
    same_without_the_search([text])


def test_more_lookalikes_than_one_search_takes_cost_no_record():
    body = "[" + ",".join(["41111111111111"] * 4368) + "]"
    assert redact(bodies(), body) == body.encode()
    assert CARD.encode() not in (redact(bodies(), body.replace("[", f'["{CARD}",')) or b"")


def test_a_card_lookalike_hides_no_secret_that_its_key_tells():
    one = bodies(detectors={"payment_card": "replace", "bearer_token": "replace", "aws_key": "replace"})
    lookalike = '"id": 41111111111112'
    assert redact(one, f'{{"bearer": "abcdefghijkl", {lookalike}}}') == b'{"bearer":"[R]","id":41111111111112}'
    key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
    made = redact(one, f'{{"secret_key"        :        "{key}", {lookalike}}}')
    assert made == b'{"secret_key":"[R]","id":41111111111112}'


@given(st.text(st.characters(codec="utf-8")), st.sampled_from([JSON, FORM, TEXT, b"", b"application/x-ndjson"]))
def test_any_text_has_an_answer_which_is_the_same_again(text, content_type):
    one = bodies(PASSWORD, RuleConfig(text=("[0-9]{3}",)))
    redacted = redact(one, text, content_type)
    assert redacted is not None
    redacted.decode()
    assert redact(one, redacted, content_type) == redacted


@given(st.binary(), st.booleans(), st.booleans())
def test_any_bytes_have_an_answer(body, is_text, complete):
    for content_type in (JSON, FORM, TEXT, b"multipart/form-data; boundary=-", b"application/grpc"):
        assert redact(bodies(PASSWORD), body, content_type, is_text=is_text, complete=complete) is not None
