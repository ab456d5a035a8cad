"""What is on when nobody says anything."""

from sp_proxy.core.redact.config import DETECTORS, RedactionConfig, RuleConfig


def test_a_config_of_nothing_does_nothing():
    assert RedactionConfig().rules == ()
    assert RedactionConfig().detectors == {}
    assert RuleConfig().action == "replace"


def test_the_detectors():
    assert set(DETECTORS) == {"payment_card", "bearer_token", "jwt", "aws_key", "email"}
