"""Tags of addons as attributes."""

from opentelemetry.proto.trace.v1.trace_pb2 import Span

from sp_proxy import regex
from sp_proxy.core import span_tags
from sp_proxy.core.redact.config import RedactionConfig, RuleConfig
from sp_proxy.core.redact.redactor import Redactor
from sp_proxy.core.spans import SpanEncoder
from tests.exporter.rig import make_exchange

CARD = "4111111111111111"


def attributes(
    *tags: tuple[str, str], name: str = "", settings: dict[str, str] | None = None
) -> tuple[str, dict[str, str]]:
    """Of a whole span: its name, and what begins with the prefix."""
    redactor = Redactor(
        RedactionConfig(
            rules=(RuleConfig(headers=("x-secret",), action="replace", replacement="[R]"),),
            detectors={"payment_card": "replace"},
        ),
        regex,
    )
    encoder = SpanEncoder(lambda *_: None, tags=settings, redaction=redactor)
    span = Span.FromString(encoder.encode_span(make_exchange(tags=tags, name=name)))
    keys = [each.key for each in span.attributes]
    assert len(keys) == len(set(keys))
    return span.name, {
        each.key.removeprefix(span_tags.PREFIX): each.value.string_value
        for each in span.attributes
        if each.key.startswith(span_tags.PREFIX)
    }


def test_they_stand_beside_those_of_the_settings():
    assert attributes(("tenant", "ü 7"), ("zone", "other"), settings={"zone": "eu"})[1] == {
        "zone": "eu",
        "tenant": "ü 7",
    }


def test_redaction_has_the_last_word():
    _, tags = attributes(
        ("card", f"no {CARD}"), ("X-Secret", "word"), ("authorization", "word"), (CARD, "x"), ("lone", "\udc80")
    )
    assert CARD not in str(tags)
    assert tags["X-Secret"] == "[R]"
    assert tags["lone"] == "?"
    assert set(tags) == {"card", "X-Secret", "lone"}


def test_a_span_may_have_another_name_which_is_redacted_too():
    assert attributes(name="GET /orders/{id}")[0] == "GET /orders/{id}"
    assert CARD not in attributes(name=f"GET /cards/{CARD}")[0]
    assert attributes()[0] == "/orders?n=1"
