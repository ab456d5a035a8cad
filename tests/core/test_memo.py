"""The bound of remembered answers."""

from sp_proxy.core.memo import Memo


def test_full_means_empty_again():
    memo = Memo[int, str](3, 10)
    for number in range(3):
        assert memo.keep(number, str(number), 1) == str(number)
    assert memo == {0: "0", 1: "1", 2: "2"}
    memo.keep(3, "3", 1)
    assert memo == {3: "3"}


def test_what_is_heavy_is_returned_and_not_kept():
    memo = Memo[int, str](3, 10)
    assert memo.keep(1, "heavy", 11) == "heavy"
    assert not memo
    assert memo.keep(1, "just right", 10) == "just right"
    assert memo == {1: "just right"}
