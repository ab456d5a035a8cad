import pytest

from sp_proxy.core.redact.json_paths import parse
from sp_proxy.mock.rules import File, Likeness, MatchRules, Part, read_file
from sp_proxy.replay.problems import ReplayError


def test_what_holds_for_a_request(tmp_path):
    (tmp_path / "m.toml").write_text(
        'ignore_query = ["ts"]\n[[where]]\nmethod = "post"\npath = "/o/*"\nignore = ["$.id"]\nignore_query = ["n"]\n'
        '[[where]]\npath = "/any"\nignore_body = true\n'
    )
    rules = MatchRules(read_file(tmp_path / "m.toml"))
    assert rules.of("GET", "/o/1") == Likeness(frozenset({"ts"}))
    assert rules.of("POST", "/o/1") == Likeness(frozenset({"ts", "n"}), (parse("$.id"),))
    assert rules.of("PUT", "/any") == Likeness(frozenset({"ts"}), body=False)


def test_mistakes_are_one_line(tmp_path):
    with pytest.raises(ReplayError, match=r"^where\[0\].ignore: found 'a b'; allowed: a JSON path"):
        MatchRules(File(where=(Part(ignore=("a b",)),)))
    (tmp_path / "m.yaml").write_text("ignore_qeury: [a]")
    with pytest.raises(ReplayError, match="unknown field `ignore_qeury`"):
        read_file(tmp_path / "m.yaml")
