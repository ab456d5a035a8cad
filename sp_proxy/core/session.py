"""Session identity: the first of these that a request carries, else a new id (contract section 3).

The headers ``x-sp-session-id``, ``sp_session_id``, ``x-session-id``, ``x-softprobe-session-id``, in this order, then the
member ``x-sp-session-id`` of ``tracestate`` (``trace_context.read``).
"""

SESSION_HEADERS = (b"x-sp-session-id", b"sp_session_id", b"x-session-id", b"x-softprobe-session-id")


def new_session_id(random_bits: int) -> bytes:
    """``sp-session-UUID4`` (RFC 9562 section 5.4) made of 122 random bits; more are ignored."""
    return b"sp-session-%08x-%04x-4%03x-%04x-%012x" % (
        random_bits & 0xFFFFFFFF,
        random_bits >> 32 & 0xFFFF,
        random_bits >> 48 & 0xFFF,
        random_bits >> 60 & 0x3FFF | 0x8000,
        random_bits >> 74 & 0xFFFFFFFFFFFF,
    )
