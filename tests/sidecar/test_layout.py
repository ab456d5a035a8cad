"""New values as Kubernetes reads them back."""

import pytest
import yaml
from hypothesis import given

from sp_proxy.sidecar.documents import ManifestError, compose
from sp_proxy.sidecar.layout import block, inline, list_offset
from tests.sidecar.test_rewrite import VALUES


@pytest.mark.parametrize(
    "text, offset",
    [("a:\n- b\n", 0), ("a:\n  - b\n", 2), ("a:\n    - b\n", 4), ("a: [b]\n", 2), ("a: [b]\nb:\n- c\n", 0), ("", 2)],
)
def test_lists_are_set_in_as_the_text_does_it(text, offset):
    assert list_offset(compose(text)) == offset


def test_in_lines():
    value = {"a": [{"b": 1, "c": ["d"]}], "e": {}}
    assert block(value, 0) == ["a:", "- b: 1", "  c:", "  - d", "e: {}"]
    assert block(value, 2) == ["a:", "  - b: 1", "    c:", "      - d", "e: {}"]


@pytest.mark.parametrize(
    "text",
    ["y", "N", "off", "Yes", "16021", "1e3", "0x1F", "null", "~", "2024-01-01", "12:30:45", "", " a", "#", "a: b"],
)
def test_text_stays_text_for_a_reader_of_yaml_1_1(text):
    (line,) = block({"a": text}, 2)
    assert line[3] in "'\""
    assert yaml.safe_load(line) == {"a": text}


@given(VALUES)
def test_what_is_written_is_read_back(value):
    assert yaml.safe_load("\n".join(block([value], 2))) == [value]
    assert yaml.safe_load(f"a: {inline(value)}\n") == {"a": value}


def test_what_has_no_name_in_json_is_refused():
    with pytest.raises(ManifestError):
        inline(yaml.safe_load("2024-01-01"))
