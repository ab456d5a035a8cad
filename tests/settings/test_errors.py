"""The exception carries its lines, and not too many of them."""

from sp_proxy.settings.errors import MAX_PROBLEMS, SettingsError


def test_problems():
    assert SettingsError(["a", "b"]).problems == ["a", "b"]
    assert str(SettingsError(["a", "b"])) == "a; b"


def test_a_flood_of_problems_is_cut_and_counted():
    problems = SettingsError([str(n) for n in range(MAX_PROBLEMS + 3)]).problems
    assert len(problems) == MAX_PROBLEMS + 1
    assert problems[-1] == "and 3 more problems"
