"""The section on redaction: what a person may write there, and what is said about what they may not."""

from pathlib import Path

import pytest

from sp_proxy.settings.errors import SettingsError
from sp_proxy.settings.load import load


def settings(tmp_path: Path, text: str):
    file = tmp_path / "sp.yaml"
    file.write_text(text)
    return load(file, {}, {}, sends=False).settings.redaction


def test_the_detectors_of_secrets_are_on_and_e_mail_is_not(tmp_path):
    assert settings(tmp_path, "{}").detectors.model_dump() == {
        "payment_card": "replace",
        "bearer_token": "replace",
        "jwt": "replace",
        "aws_key": "replace",
        "email": "off",
    }


def test_off_may_be_written_without_quotes(tmp_path):
    redaction = settings(tmp_path, "redaction: {detectors: {jwt: off, email: hash}, salt: 0123456789abcdef}")
    assert (redaction.detectors.jwt, redaction.detectors.email) == ("off", "hash")


def test_the_salt_is_not_shown(tmp_path):
    assert "0123456789abcdef" not in repr(settings(tmp_path, "redaction: {salt: 0123456789abcdef}"))


@pytest.mark.parametrize(
    "rule,said",
    [
        ("text: ['(a']", 'redaction.rules[0].text[0]: found "(a"; allowed: a regular expression in RE2\'s syntax'),
        ("text: ['(?=a)']", "redaction.rules[0].text[0]"),
        ("text: ['']", "redaction.rules[0].text[0]"),
        ("header_patterns: ['*']", "redaction.rules[0].header_patterns[0]"),
        ("json_paths: ['a..']", 'redaction.rules[0].json_paths[0]: found "a.."; allowed: a JSON path, for example'),
        ("query: [' ']", "redaction.rules[0].query[0]"),
        ("action: forget", 'redaction.rules[0].action: found "forget"; allowed: replace, hash or drop'),
        ("replacement: 'a\"b'", "redaction.rules[0].replacement"),
        ("header: [a]", "nearest known key: redaction.rules[0].headers"),
    ],
)
def test_a_mistake_is_told_with_its_place(tmp_path, rule, said):
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, f"redaction:\n  rules:\n  - {rule}\n")
    (line,) = caught.value.problems
    assert "sp.yaml:3: " in line
    assert said in line


@pytest.mark.parametrize(
    "text,place",
    [
        ("{rules: [{headers: [a], action: hash}]}", "redaction.salt"),
        ("{detectors: {email: hash}}", "redaction.salt"),
        ("{detectors: {email: hash}, salt: brief}", "redaction.salt"),
        ("{salt: brief}", "redaction.salt"),
    ],
)
def test_a_hash_needs_a_long_salt_which_is_not_told(tmp_path, text, place):
    with pytest.raises(SettingsError) as caught:
        settings(tmp_path, f"redaction: {text}")
    (line,) = caught.value.problems
    assert f"{place}: found " in line
    assert "brief" not in line
