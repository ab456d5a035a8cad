"""What detectors find, and what looks alike and is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sp_proxy import regex
from sp_proxy.core.redact.action import Action
from sp_proxy.core.redact.config import DETECTORS
from sp_proxy.core.redact.detectors import KINDS, SAMPLES, Detectors, has_check_digit, is_card_number

GONE = Action("replace", b"#")
ALL = Detectors(regex, dict.fromkeys(DETECTORS, GONE))
SCAN = regex.scanner(ALL.hints)

JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
SECRET_KEY = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"

FOUND = [
    (b"4111111111111111", b"#"),
    (b"pay 4111 1111 1111 1111 123 now", b"pay # 123 now"),
    (b"4111-1111-1111-1111,5500005555555559", b"#,#"),
    (b"x4111111111111111y", b"x#y"),
    (b"No.4111111111111111.", b"No.#."),
    (b".4111111111111111", b".#"),
    (b"378282246310005", b"#"),
    (b"3782 822463 10005", b"#"),
    (b"30569309025904", b"#"),
    (b"6011111111111117 3530111333300000", b"# #"),
    (b"2221000000000009", b"#"),
    (b"[" + JWT + b"]", b"[#]"),
    (b"eyAiYWxnIjoibm9uZSJ9.e30.", b"#"),
    (b"Bearer abcdef12345==, x", b"Bearer #, x"),
    (b"bearer  a.b-c_d~e+f/1234", b"bearer  #"),
    (b"id AKIAIOSFODNN7EXAMPLE.", b"id #."),
    (b"ASIAIOSFODNN7EXAMPLE", b"#"),
    (b"aws_secret_access_key = " + SECRET_KEY, b"aws_secret_access_key = #"),
    (b'"SecretAccessKey": "' + SECRET_KEY + b'"', b'"SecretAccessKey": "#"'),
    (b'"secretKey":"' + SECRET_KEY.replace(b"/", b"\\/") + b'"', b'"secretKey":"#"'),
    (b"?X-Amz-Signature=0123456789abcdef&x=1", b"?X-Amz-Signature=#&x=1"),
    (b"x-amz-security-token: FwoGZXIvYXdzEBY", b"x-amz-security-token: #"),
    (b"to jane+x@mail.example.com.", b"to #."),
    ("ü.ö@bücher.example;".encode(), b"#;"),
]

NOT_FOUND = [
    b"4111111111111112",  # the wrong check digit
    b"1745678901234567890",  # nanoseconds
    b"1745678901234",  # milliseconds
    b"9007199254740993",
    b"0.4111111111111111",  # decimals
    b"12.4111111111111111",
    b"41111111111111111111111",  # too long
    b"4006381333931",  # an EAN-13 article number
    b"29724020-3355-4349-88de-0123456789ab",
    b"507f4111111111111111911a",  # an object id
    b"00-4111111111111111aaaabbbbccccdddd-0000000000000001-01",
    b"eyJhbGciOiJIUzI1NiJ9",
    b"Bearer realm",
    b"a bear, a token",
    b"AKIAIOSFODNN7EXAMPL",
    b"akiaiosfodnn7example",
    b"secret key of the house",
    b"a @ b, @home, x@",
]


@pytest.mark.parametrize("text,left", FOUND)
def test_found(text, left):
    assert SCAN(text)
    assert ALL.redact(text) == (left, GONE)


@pytest.mark.parametrize("text", NOT_FOUND)
def test_not_found(text):
    assert ALL.redact(text) == (text, None)


@pytest.mark.parametrize("name", DETECTORS)
def test_each_finds_its_sample(name):
    text, action = Detectors(regex, {name: GONE}).redact(b"<" + SAMPLES[name] + b">")
    assert action is GONE
    assert text in {b"<#>", b"<Bearer #>"}


HINTED = {name: kind for name, kind in KINDS.items() if not kind.narrow}
FINDERS = {name: [regex.finder(pattern, latin_1=True) for pattern in kind.patterns] for name, kind in HINTED.items()}
SECRETS = st.one_of([st.from_regex(pattern.encode()) for kind in KINDS.values() for pattern in kind.patterns])


@given(
    st.text(st.sampled_from("0123456789 -.aefAKISeyJ_@bexrN:"), max_size=80).map(str.encode)
    | st.binary(max_size=80)
    | SECRETS
)
def test_what_is_found_was_hinted_at(text):
    """The scan decides whether anyone looks: it must never be silent about something that would be found."""
    hints = {list(DETECTORS)[index] for index in SCAN(text) or ()}
    for name, finders in FINDERS.items():
        assert name in hints or not any(find(text) for find in finders)


def test_only_cards_in_groups_that_no_card_has_are_not_hinted_at():
    """Looking for these would find every UUID."""
    assert KINDS.keys() - HINTED.keys() == {"payment_card"}


@pytest.mark.parametrize(
    "text,left",
    [
        (b"41111-11111-11111-1", b"#"),
        (b"card 41 11 11 11 11 11 11 11 of x@y", b"card # of #"),
        (b"secretAccessKey: abcdefghij=bcdefghijklmnopqrstuvwxyz01234", b"secretAccessKey: #"),
        (b"X-Amz-Security-Token=ab%2Fcdefghijklmno", b"X-Amz-Security-Token=#"),
        (b"x-amz-signature: ab/cdefgh+ijklmnop", b"x-amz-signature: #"),
    ],
)
def test_found_in_a_part_of_what_was_hinted_at(text, left):
    assert ALL.redact(text) == (left, GONE)


@given(st.integers(0, 10**18))
def test_the_check_digit(number):
    digits = str(number).encode()
    good = [digits + b"%d" % last for last in range(10) if has_check_digit(digits + b"%d" % last)]
    assert len(good) == 1


def test_issuers():
    assert is_card_number(b"4111111111111111")
    assert not is_card_number(b"4222222222222")  # 13 digits
    assert not is_card_number(b"1111111111111117")


@pytest.mark.parametrize(
    "text,left",
    [
        (b"card 4111 1111 1", b"card #"),
        (b"card 411111111111111", b"card #"),
        (b"token eyJhbGciOi", b"token #"),
        (b"token eyJhbGciOi.eyJz", b"token #"),
        (b"Bearer ab", b"Bearer #"),
        (b"AKIAIO", b"#"),
        (b"secret_access_key: wJalr", b"secret_access_key: #"),
        (b"X-Amz-Signature=012", b"X-Amz-Signature=#"),
        (b"jane@exam", b"#"),
        (b"id 1234", b"id 1234"),
        (b"4111 1111 1111 end", b"4111 1111 1111 end"),
    ],
)
def test_the_beginning_of_a_secret_at_the_end_of_what_was_cut(text, left):
    assert ALL.redact_tail(text)[0] == left


@given(st.sampled_from([b"4111111111111111", b"5500 0055 5555 5559", JWT]), st.integers(6, 60))
def test_wherever_a_text_is_cut_no_long_beginning_is_left(secret, length):
    cut = b"value: " + secret[:length]
    left = ALL.redact_tail(ALL.redact(cut)[0])[0]
    assert secret[:7] not in left


def test_an_action_that_drops_is_told_first():
    drop = Action("drop", b"#")
    detectors = Detectors(regex, {"payment_card": GONE, "email": drop})
    assert detectors.redact(b"4111111111111111 a@b.de") == (b"# #", drop)


def test_card_numbers_are_equal_however_they_are_written():
    hashing = Detectors(regex, {"payment_card": Action("hash", b"", b"0123456789abcdef")})
    assert hashing.redact(b"4111 1111 1111 1111")[0] == hashing.redact(b"4111111111111111")[0]


def test_none_at_all():
    assert not Detectors(regex, {})
    assert Detectors(regex, {}).redact(b"4111111111111111") == (b"4111111111111111", None)


def test_every_kind_is_described():
    assert set(KINDS) == set(SAMPLES) == set(DETECTORS)
