"""Labels are few and for good; what comes often gets one."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from sp_proxy.taps.labels import CANDIDATES, FIRST, LATER, OFTEN, OTHER, Labels


def labelled(values: list[str]) -> list[str]:
    labels = Labels()
    return [labels.label("ports", value) for value in values]


def test_the_first_have_one_at_once_and_keep_it():
    first = [str(number) for number in range(FIRST)]
    assert labelled(first * 2) == first * 2
    assert labelled([*first, "late", first[0]])[-2:] == [OTHER, first[0]]


def test_what_comes_often_gets_one_even_behind_a_scan():
    scan = [str(number) for number in range(10_000)]
    assert labelled(scan + ["5432"] * OFTEN)[-2:] == [OTHER, "5432"]


def test_it_must_come_more_often_than_the_least_of_those_that_have_one():
    first = [str(number) for number in range(FIRST)] * (OFTEN + 5)
    assert labelled(first + ["late"] * (OFTEN + 6))[-2:] == [OTHER, "late"]


def test_what_comes_often_among_much_that_does_not():
    values = [str(number) for number in range(FIRST)]
    for number in range(CANDIDATES * OFTEN * 2):
        values += [f"rare{number}", "5432"]
    assert labelled(values)[-1] == "5432"


def test_there_are_never_more():
    values = [str(number) for number in range(FIRST * 10) for _ in range(1 if number < FIRST else OFTEN)]
    assert len(set(labelled(values)) - {OTHER}) == FIRST + LATER


def test_families_are_apart():
    labels = Labels()
    for number in range(FIRST):
        labels.label("ports", str(number))
    assert labels.label("ports", "x") == OTHER
    assert labels.label("names", "x") == "x"


@given(st.lists(st.integers(0, 100).map(str), max_size=2000))
def test_each_value_is_counted_once_under_its_own_label_or_the_common_one(values: list[str]):
    labels = labelled(values)
    assert all(label in {value, OTHER} for value, label in zip(values, labels, strict=True))
    known: set[str] = set()
    for value, label in zip(values, labels, strict=True):
        assert label == value or value not in known, "a label is for good"
        if label == value:
            known.add(value)
    assert len(known) <= FIRST + LATER
    counted = Counter(values)
    assert all(counted[value] >= OFTEN for value in list(dict.fromkeys(values))[FIRST:] if value in known)
