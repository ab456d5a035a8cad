"""Session identity."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.session import SESSION_HEADERS, new_session_id


def test_the_headers_are_those_of_the_contract_in_its_order():
    assert SESSION_HEADERS == (b"x-sp-session-id", b"sp_session_id", b"x-session-id", b"x-softprobe-session-id")


@given(st.text("0123456789abcdef", min_size=32, max_size=80).map(str.encode))
def test_a_new_id_is_a_uuid_of_version_4(digits):
    session_id = new_session_id(digits)
    assert re.fullmatch(rb"sp-session-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", session_id)
    parsed = uuid.UUID(session_id.removeprefix(b"sp-session-").decode())
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


@given(st.integers(0, 31))
def test_every_digit_but_the_versions_is_used(place):
    made = {new_session_id(b"0" * place + b"%x" % digit + b"0" * (31 - place)) for digit in range(16)}
    assert len(made) == {12: 1, 16: 4}.get(place, 16)


def test_the_four_variants_are_equally_probable():
    made = [new_session_id(b"0" * 16 + b"%x" % digit + b"0" * 15)[30:31] for digit in range(16)]
    assert {variant: made.count(variant) for variant in set(made)} == {b"8": 4, b"9": 4, b"a": 4, b"b": 4}


def test_version_and_variant_are_overruled():
    assert new_session_id(b"f" * 32) == b"sp-session-ffffffff-ffff-4fff-bfff-ffffffffffff"
    assert new_session_id(b"0" * 32) == b"sp-session-00000000-0000-4000-8000-000000000000"
