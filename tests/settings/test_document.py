"""Reading a file: YAML and JSON with their lines; whatever else it holds ends in lines for a person."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sp_proxy.settings.document import MAX_BYTES, parse, read
from sp_proxy.settings.errors import SettingsError


def problems(text: str, name: str = "f.yaml") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, name)
    return caught.value.problems


def value(text: str, name: str = "f.yaml"):
    (document,) = parse(text, name)
    return document.value


def test_every_key_and_item_has_its_line():
    (document,) = parse("a: 1\nb:\n  - c: 2\n  - d\n", "f")
    assert document.value == {"a": 1, "b": [{"c": 2}, "d"]}
    assert document.lines == {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 0, "c"): 3, ("b", 1): 4}


def test_documents():
    assert [document.value for document in parse("a: 1\n---\n# nothing\n---\nb: 2\n", "f")] == [
        {"a": 1},
        None,
        {"b": 2},
    ]
    assert parse("", "f") == []


def test_scalars_as_people_mean_them():
    assert value("[off, yes, 1, 1.5, x, ~, 2024-01-01, '1', 0x10]") == [
        False, True, 1, 1.5, "x", None, "2024-01-01", "1", 16,
    ]  # fmt: skip
    assert value("off: 1\n2: b\n") == {"off": 1, "2": "b"}


def test_merge_keys_and_aliases():
    text = "base: &b {x: 1, y: 2}\na:\n  <<: *b\n  y: 3\nc:\n  <<: [{x: 5}, *b]\n"
    assert value(text) == {"base": {"x": 1, "y": 2}, "a": {"x": 1, "y": 3}, "c": {"x": 5, "y": 2}}


@pytest.mark.parametrize(
    "text,line",
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: given twice (first in line 1)"),
        ("l:\n  x: 1\n  x: 2", "f.yaml:3: l.x: given twice (first in line 2)"),
        ("a: [1\nb: 2", "f.yaml:2: not YAML ("),
        ("a: @x", "f.yaml:1: not YAML (found character '@' that cannot start any token; a value which begins with"),
        ("a: *hunter2", "f.yaml:1: not YAML (found undefined alias)"),
        ("a: !hunter2 x", "f.yaml:1: a: this YAML tag is not allowed here"),
        ("a: !!python/object:os.system x", "f.yaml:1: a: this YAML tag is not allowed here"),
        ("a: !!int x", "f.yaml:1: a: the value does not fit its YAML type"),
        ("a: !!binary aGk=", "f.yaml:1: a: this YAML tag is not allowed here"),
        ("? [a]\n: 1", "f.yaml:1: a key must be text"),
        ("a: \x00", "f.yaml: not YAML (character 3 is not allowed in it)"),
        ("a: &x [*x]", "f.yaml:1: nested too deeply"),
        ("a: &x {<<: *x}", "f.yaml:1: nested too deeply"),
        ("[" * 5000, "f.yaml: nested too deeply"),
        ("<<: 5", "f.yaml:1: << needs a mapping"),
        ("a: " + "9" * 5000, "f.yaml:1: a: the value does not fit its YAML type"),
    ],
)
def test_mistakes(text, line):
    (problem,) = problems(text)
    assert problem.startswith(line)
    assert "hunter2" not in problem


def test_an_exponential_chain_of_aliases_ends():
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    assert "more than 100000 values" in problems(text)[0]


def test_json_with_tabs_and_escapes():
    text = '{\n\t"a": "\\ud83d\\ude00\\/",\n\t"b": [1e3, true, null],\n\t"<<": "x"}'
    (document,) = parse(text, "f.json")
    assert document.value == {"a": "😀/", "b": [1000.0, True, None], "<<": "x"}
    assert document.lines["b",] == 3


def test_json_mistakes_have_their_line():
    assert problems('{"a": 1,\n "b" 2}', "f.json") == ["f.json:2: not JSON (Expecting ':' delimiter, column 6)"]
    assert problems('{"a": 1,\n "a": 2}', "f.json") == ["f.json:2: a: given twice (first in line 1)"]


@given(st.recursive(st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8", min_codepoint=32, exclude_characters="\x7f"), max_size=20),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3),
                    max_leaves=10))  # fmt: skip
def test_json_is_read_as_json_reads_it(data):
    document = {"k": data}
    assert value(json.dumps(document), "f.json") == document


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.text("ab:-[]{}&*!|>'\"#%@`, \n\t?<=~0"))
def test_any_text_is_read_or_refused_in_lines(text):
    for name in ("f.yaml", "f.json"):
        problems: list[str] | None = None
        try:
            parse(text, name)
        except SettingsError as error:
            problems = error.problems
        assert problems is None or problems
        assert all(line.startswith(name) and line.isprintable() for line in problems or [])


def test_files_that_cannot_be_read(tmp_path: Path):
    def told(path: Path) -> str:
        with pytest.raises(SettingsError) as caught:
            read(path)
        (problem,) = caught.value.problems
        return problem

    latin = tmp_path / "latin"
    latin.write_bytes(b"a: 1\nb: \xe4\n")
    large = tmp_path / "large"
    large.write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "loop").symlink_to("loop")
    assert told(tmp_path / "nope") == f"{tmp_path}/nope: no such file"
    assert told(tmp_path) == f"{tmp_path}: a directory, not a file"
    assert told(latin) == f"{latin}:2: not UTF-8 text (byte 8)"
    assert told(large) == f"{large}: larger than 1 MiB, so not a configuration"
    assert "cannot be read (" in told(tmp_path / "loop")
    assert told(Path("/dev/zero")).endswith("so not a configuration")
    assert "not a file name" in told(Path("a\0b"))
    if os.geteuid() != 0:
        latin.chmod(0)
        assert told(latin) == f"{latin}: cannot be read (Permission denied)"


def test_a_byte_order_mark_is_fine(tmp_path: Path):
    path = tmp_path / "f"
    path.write_bytes(b"\xef\xbb\xbfa: 1")
    assert read(path) == "a: 1"
