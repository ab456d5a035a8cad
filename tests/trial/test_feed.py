import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.trial.feed import Feed
from tests.trial.exchanges import line, trial

EXPORT = b"".join(json.dumps(line(path=f"/{number}\u2028")).encode() + b"\n" for number in range(3)) + b"no JSON\n{}\n"


@given(cuts=st.lists(st.integers(0, len(EXPORT)), max_size=6))
def test_lines_are_read_however_they_come(cuts):
    made = trial()
    feed = Feed(made)
    edges = [0, *sorted(cuts), len(EXPORT)]
    for start, end in pairwise(edges):
        feed(EXPORT[start:end])
    result = made.result()
    assert (result.looked_at, result.unreadable) == (3, 2)
