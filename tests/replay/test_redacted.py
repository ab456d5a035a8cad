import pytest

from sp_proxy import regex
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.replay.compare import Answer
from sp_proxy.replay.redacted import hide, redact

REDACTOR = Redactor(
    RedactionConfig(
        rules=(RuleConfig(json_paths=("$.pin",)), RuleConfig(json_paths=("$.gone",), action="drop")),
        detectors={"payment_card": "replace"},
    ),
    regex,
)


@pytest.mark.parametrize(
    "content_type, content, redacted",
    [
        ("application/json", b'{"pin":"1234"}', b'{"pin":"[REDACTED]"}'),
        ("text/plain; charset=latin-1", b"\xfc 4111111111111111", b"\xfc [REDACTED]"),
        ("image/png", b"\x00\x01", b"\x00\x01"),
    ],
)
def test_bodies_as_they_would_have_been_captured(content_type, content, redacted):
    fields = (("content-type", content_type), ("set-cookie", "a=b"), ("x-card", "4111111111111111"))
    answer = redact(Answer(200, fields, content), REDACTOR)
    assert answer == Answer(200, (("content-type", content_type), ("x-card", "[REDACTED]")), redacted)


def test_a_body_that_is_left_out_is_not_complete():
    fields = (("content-type", "application/json"),)
    assert redact(Answer(200, fields, b'{"gone":1}'), REDACTOR) == Answer(200, fields, b"", complete=False)


def test_a_coding_that_is_not_known():
    fields = (("content-type", "application/json"), ("content-encoding", "exi"))
    assert redact(Answer(200, fields, b"4111111111111111"), REDACTOR).body == b"[REDACTED]"


def test_nothing():
    assert redact(Answer(204, (), b""), REDACTOR) == Answer(204, (), b"")


def test_secrets_that_were_sent_are_not_said_again():
    secrets = ["Bearer abcdefgh1", 'a "b" &c', "xyz"]
    said = b'{"token":"abcdefgh1","quoted":"a \\"b\\" &c","url":"/?q=a%20%22b%22%20%26c","xyz":"Bearer abcdefgh1"}'
    answer = hide(Answer(200, (("location", "/?token=abcdefgh1"),), said), secrets)
    gone = "[REDACTED]"
    assert answer.fields == (("location", f"/?token={gone}"),)
    assert answer.body.decode() == f'{{"token":"{gone}","quoted":"{gone}","url":"/?q={gone}","xyz":"{gone}"}}'
    assert hide(answer, []) is answer
