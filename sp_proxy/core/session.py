"""Session identity: the first of these that a request carries, else a new id (contract section 3).

The headers ``x-sp-session-id``, ``sp_session_id``, ``x-session-id``, ``x-softprobe-session-id``, in this order, then the
member ``x-sp-session-id`` of ``tracestate`` (``trace_context.read``).
"""

SESSION_HEADERS = (b"x-sp-session-id", b"sp_session_id", b"x-session-id", b"x-softprobe-session-id")


_RANDOM = 0xFFFFFFFF_FFFF_0FFF_3FFF_FFFFFFFFFFFF
_VERSION_AND_VARIANT = 0x00000000_0000_4000_8000_000000000000


def new_session_id(random_bits: int) -> bytes:
    """``sp-session-UUID4`` (RFC 9562 section 5.4); 122 of 128 random bits are used, and all the rest is ignored."""
    uuid = (random_bits & _RANDOM | _VERSION_AND_VARIANT).to_bytes(16, "big").hex()
    return f"sp-session-{uuid[:8]}-{uuid[8:12]}-{uuid[12:16]}-{uuid[16:20]}-{uuid[20:]}".encode()
