import pytest

from sp_proxy.core.redact.json_paths import parse
from sp_proxy.replay.problems import ReplayError
from sp_proxy.replay.rules import HEADERS, Bounds, File, Part, RuleBook, Tolerance, read_file, with_options
from tests.replay.exchanges import recorded

TOML = """
headers = ["content-type", "ETag"]
ignore = ["$.id"]
carry = ["$.order_id"]
tolerance = [{path = "$.total", absolute = 0.01}]
[[where]]
method = "get"
path = "/api/*"
ignore = ["$..updated"]
unordered = ["$.items"]
ignore_headers = ["etag"]
[[where]]
path = "/health"
ignore_body = true
ignore_status = true
"""
YAML = """
headers: [content-type, ETag]
ignore: [$.id]
carry: [$.order_id]
tolerance: [{path: $.total, absolute: 0.01}]
where:
  - {method: get, path: /api/*, ignore: [$..updated], unordered: [$.items], ignore_headers: [etag]}
  - {path: /health, ignore_body: true, ignore_status: true}
"""


def test_toml_and_yaml_say_the_same(tmp_path):
    (tmp_path / "rules.toml").write_text(TOML)
    (tmp_path / "rules.yaml").write_text(YAML)
    assert read_file(tmp_path / "rules.toml") == read_file(tmp_path / "rules.yaml")


def test_what_holds_for_an_exchange(tmp_path):
    (tmp_path / "rules.toml").write_text(TOML)
    book = RuleBook(read_file(tmp_path / "rules.toml"))
    everywhere, here, health = (book.of(recorded(path=path)) for path in ("/other", "/api/orders", "/health"))
    assert everywhere.headers == ("content-type", "etag")
    assert everywhere.ignore == (parse("$.id"),)
    assert everywhere.tolerance == (Bounds(parse("$.total"), 0.01, 0.0),)
    assert here.headers == ("content-type",)
    assert here.ignore == (parse("$.id"), parse("$..updated"))
    assert here.unordered == (parse("$.items"),)
    assert book.of(recorded(path="/api/orders", method="POST")) == everywhere
    assert (health.body, health.status) == (False, False)
    assert book.carry == (parse("$.order_id"),)


def test_options_add(tmp_path):
    file = with_options(File(), ignore=("$.a",), headers=("x-a",), unordered=("$.b",), carry=("$.c",), tolerance=0.5)
    rules = RuleBook(file).of(recorded())
    assert rules.headers == (*HEADERS, "x-a")
    assert (rules.ignore, rules.unordered) == ((parse("$.a"),), (parse("$.b"),))
    assert rules.tolerance == (Bounds((), 0.0, 0.5),)


@pytest.mark.parametrize(
    "name, text, problem",
    [
        ("a.toml", "ignore = [", "a.toml: "),
        ("a.toml", "ignroe = []", "unknown field `ignroe`"),
        ("a.yaml", "ignore: 7", "Expected `array`, got `int`"),
        ("a.yaml", "where: [{paht: a}]", "unknown field `paht`"),
        ("a.yaml", "- a", "Expected `object`"),
        ("a.yaml", "a: &a [*a]", "unknown field"),
        ("a.yaml", "[" * 5000, "a.yaml: "),
        ("a.json", "{", "a.json: "),
    ],
)
def test_files_that_are_none(tmp_path, name, text, problem):
    (tmp_path / name).write_text(text)
    with pytest.raises(ReplayError) as caught:
        read_file(tmp_path / name)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file_and_an_empty_one(tmp_path):
    with pytest.raises(ReplayError, match="no such file"):
        read_file(tmp_path / "none.yaml")
    (tmp_path / "empty.yaml").write_text("")
    assert read_file(tmp_path / "empty.yaml") == File()


@pytest.mark.parametrize(
    "file, problem",
    [
        (File(ignore=("a b",)), "ignore: found 'a b'; allowed: a JSON path"),
        (File(carry=("",)), "carry: found ''"),
        (File(where=(Part(unordered=("$",)),)), r"where\[0\].unordered: found '\$'"),
        (File(tolerance=(Tolerance(absolute=-1.0),)), "tolerance: found -1.0; allowed: 0 or more"),
        (File(tolerance=(Tolerance(relative=float("nan")),)), "tolerance: found"),
    ],
)
def test_rules_that_are_none(file, problem):
    with pytest.raises(ReplayError, match="^" + problem):
        RuleBook(file)
