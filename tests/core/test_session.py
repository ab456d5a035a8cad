"""Session identity."""

import re
import uuid

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.core.session import SESSION_HEADERS, new_session_id


def test_the_headers_are_those_of_the_contract_in_its_order():
    assert SESSION_HEADERS == (b"x-sp-session-id", b"sp_session_id", b"x-session-id", b"x-softprobe-session-id")


@given(st.integers(0, (1 << 400) - 1))
def test_a_new_id_is_a_uuid_of_version_4(random_bits):
    session_id = new_session_id(random_bits)
    assert re.fullmatch(rb"sp-session-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", session_id)
    parsed = uuid.UUID(session_id.removeprefix(b"sp-session-").decode())
    assert (parsed.version, parsed.variant) == (4, uuid.RFC_4122)


@given(st.integers(0, 127))
def test_every_random_bit_but_six_is_used(bit):
    changed = new_session_id(1 << bit) != new_session_id(0)
    assert changed == (bit not in {62, 63, 76, 77, 78, 79})


def test_all_values_of_variant_and_version_bits_are_overruled():
    assert new_session_id((1 << 128) - 1) == b"sp-session-ffffffff-ffff-4fff-bfff-ffffffffffff"
    assert new_session_id(0) == b"sp-session-00000000-0000-4000-8000-000000000000"
