"""Session identity: the first of these that a request carries, else a new id (contract section 3).

The headers ``x-sp-session-id``, ``sp_session_id``, ``x-session-id``, ``x-softprobe-session-id``, in this order, then the
member ``x-sp-session-id`` of ``tracestate`` (``trace_context.read``).
"""

SESSION_HEADERS = (b"x-sp-session-id", b"sp_session_id", b"x-session-id", b"x-softprobe-session-id")


_VARIANT = bytes.maketrans(b"0123456789abcdef", b"89ab89ab89ab89ab")


def new_session_id(digits: bytes) -> bytes:
    """``sp-session-UUID4`` (RFC 9562 section 5.4), made of 32 random lower-case hex digits; more are ignored."""
    return b"sp-session-%b-%b-4%b-%c%b-%b" % (
        digits[:8],
        digits[8:12],
        digits[13:16],
        _VARIANT[digits[16]],
        digits[17:20],
        digits[20:32],
    )
