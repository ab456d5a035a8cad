from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.replay.placeholders import Placeholders

PLACEHOLDERS = Placeholders(["***"])
HASHED = "hash:abcdefghij234567"


def test_where_they_stand():
    for text in ("[REDACTED]", "a [REDACTED] b", "t=%5BREDACTED%5D", "***", HASHED, "x=hash%3Aabcdefghij234567&y"):
        assert PLACEHOLDERS.stand_in(text), text
    for text in ("", "REDACTED", "hash:short", "**", "hash:abcdefghij2345678"):
        assert not PLACEHOLDERS.stand_in(text), text


def test_any_value_fits_where_one_stands():
    fits = PLACEHOLDERS.fits
    assert fits("card [REDACTED] of [REDACTED].", "card 4111 of Jane.")
    assert fits("[REDACTED]", "")
    assert fits(HASHED, "anything")
    assert fits("same", "same")
    assert not fits("same", "other")
    assert not fits("card [REDACTED] of [REDACTED].", "card 4111 of Jane")
    assert not fits("ab[REDACTED]ba", "aba")  # the ends do not overlap
    assert not fits("a[REDACTED]b[REDACTED]c", "axxc")


@given(st.lists(st.text("ab", max_size=3), min_size=1, max_size=5), st.data())
def test_what_was_redacted_fits_itself(pieces, data):
    recorded = "[REDACTED]".join(pieces)
    values = [data.draw(st.text("abc", max_size=4)) for _ in pieces]
    text = "".join(piece + value for piece, value in zip(pieces, [*values[:-1], ""], strict=True))
    assert PLACEHOLDERS.fits(recorded, text)
