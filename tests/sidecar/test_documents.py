"""What people write is read as Kubernetes reads it, or refused in one line."""

import pytest

from sp_proxy.sidecar.documents import ManifestError, compose, read


def test_all_documents_of_a_text():
    text = "---\na: 1\n---\n---\n- b\n...\n"
    assert read(text) == [{"a": 1}, None, ["b"]]
    assert len(compose(text)) == 3
    assert read("# nothing\n") == []


def test_an_alias_is_the_value():
    assert read("a: &a [1]\nb: *a\n") == [{"a": [1], "b": [1]}]


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: [\n", "line 2: not YAML"),
        ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is given twice"),
        ("a: {{ .Values.x }}\n", "line 1: not YAML"),
        ("a: !Ref b\n", "line 1: not YAML"),
        ("a: 2024-13-45\n", "not YAML"),
        ("a:\n\t- b\n", "line 2: not YAML"),
        ("\x00", "not YAML"),
        ("[" * 5000, "not YAML"),
        ("a: &a [*a]\n", "an alias to itself"),
        ("".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9) if n else 1}]\n" for n in range(9)), "more than"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, message):
    with pytest.raises(ManifestError) as error:
        read(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
