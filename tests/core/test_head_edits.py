"""What hooks want, joined with what is injected."""

import pytest

from sp_proxy.core.head_edits import HeadEdit, captured, joined
from sp_proxy.core.inject import HeaderConfig, Injector
from sp_proxy.core.rules import CAPTURED_WITHOUT_RULES, DISABLED, NO_RULE, Decision

LOWER = b"\r\nhost: a\r\naccept: x\r\nx-sp-num: 3\r\n"


def test_fields_go_and_come():
    plan = Injector(HeaderConfig("shop")).plan(LOWER, LOWER, 1 << 319)
    assert plan.remove == (b"x-sp-num",)
    made = joined(plan, HeadEdit(remove=(b"accept", b"absent"), lines=b"accept: y\r\n"), LOWER, host=True)
    assert made.remove == (b"x-sp-num", b"accept")
    assert made.lines == plan.lines + b"accept: y\r\n"
    assert made.extra == b"accept: y\r\n"
    assert made.traceparent == plan.traceparent


@pytest.mark.parametrize("host, lines", [(True, b"host: b\r\n"), (False, b"")])
def test_another_authority_is_a_field_only_where_it_was_one(host, lines):
    plan = Injector(HeaderConfig("shop")).fresh_plan(1 << 319)
    made = joined(plan, HeadEdit(authority=b"b"), LOWER, host=host)
    assert (made.remove, made.extra) == ((b"host",), lines)


@pytest.mark.parametrize(
    "decision, wanted, result",
    [
        (CAPTURED_WITHOUT_RULES, None, True),
        (CAPTURED_WITHOUT_RULES, False, False),
        (NO_RULE, None, False),
        (NO_RULE, True, True),
        (DISABLED, True, False),
        (Decision(capture=False, inject=True, reason="exempt"), True, False),
    ],
)
def test_capture_is_decided_by_both(decision, wanted, result):
    assert captured(decision, HeadEdit(capture=wanted)) is result
