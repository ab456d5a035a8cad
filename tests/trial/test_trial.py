from sp_proxy.core.admission import AdmissionConfig, RateConfig
from sp_proxy.core.redact.config import RuleConfig as RedactionRule
from sp_proxy.core.rules import ExemptionConfig, PolicyConfig, RuleConfig
from sp_proxy.trial.captured import read
from sp_proxy.trial.trial import Result
from tests.trial.exchanges import line, redactor, trial

RULES = PolicyConfig(
    server_rules=(
        RuleConfig(paths=("^/orders",)),
        RuleConfig(paths=("/internal",), exclude=True),
        RuleConfig(host="^x$"),
    ),
    exemptions=(ExemptionConfig(path_patterns=("^/health",)),),
)


def counts(result: Result) -> dict[str, int]:
    return {reason: group.count for reason, group in result.lost.items()}


def test_without_rules_everything_stays():
    made = trial()
    for _ in range(3):
        made.add(read(line()))
    result = made.result()
    assert (result.looked_at, result.stay, result.differs) == (3, 3, False)
    assert result.unused == []


def test_what_would_be_lost_and_why():
    made = trial(RULES)
    for path in ("/orders/1", "/orders/2", "/orders/internal", "/health", "/health/x", "/else", "/orders/a.js"):
        made.add(read(line(path=path)))
    made.add(read(line(path="/orders/3", response={"headers": [["content-type", "text/html"]], "body": None})))
    made.add(read(line(path="/orders/4", request={"headers": [["rsc", "1"]], "body": None})))
    result = made.result()
    assert result.stay == 2
    assert counts(result) == {
        "excluded by server[1]": 1,
        "exempt by exemption[0]": 2,
        "no collection rule matches": 1,
        "a static resource (capture.skip_static)": 2,
        "a framework's prefetch (capture.skip_prefetch)": 1,
    }
    assert result.lost["exempt by exemption[0]"].example == "GET shop:8080/health"
    assert result.unused == ["server[2]"]
    assert result.differs


def test_what_cannot_be_told():
    made = trial(RULES)
    made.add(read(line(direction="unknown")))
    made.add(read(line(path="/orders?user=[REDACTED]")))
    result = made.result()
    assert {reason.split(",")[0] for reason in result.unknown} == {
        "its direction is not known",
        "its address was redacted",
    }
    assert (result.stay, result.differs) == (0, False)
    # Where no rule looks at addresses, it does not matter.
    made = trial()
    made.add(read(line(path="/orders?user=[REDACTED]")))
    assert made.result().stay == 1


def test_sampling_is_the_traces():
    made = trial(admission=AdmissionConfig(sampling_ratio=0.5, keep_errors=True))
    low, high = "0" * 18 + "1" * 14, "0" * 18 + "f" * 14
    made.add(read(line(trace_id=low)))
    made.add(read(line(trace_id=high)))
    made.add(read(line(trace_id=low, failed=True)))
    result = made.result()
    assert result.stay == 2
    assert counts(result) == {"its trace is not sampled (sampling.ratio)": 1}


def test_limits_are_asked_in_the_order_of_time():
    made = trial(RULES, AdmissionConfig(rule_limits={"server[0]": RateConfig(exchanges=1.0, exchange_burst=1.0)}))
    second = 1_000_000_000
    for number in (2, 1, 0):  # newest first, half a second apart
        made.add(read(line(path=f"/orders/{number}", start_unix_ns=number * second // 2 + 10 * second)))
    result = made.result()
    assert result.stay == 2
    # The first that was fed, and the last that ended: a bucket in debt has let the two before it through.
    assert result.lost["over the limits of server[0]"].example == "GET shop:8080/orders/2"


def test_redaction_of_what_stays():
    made = trial(RULES, redaction=redactor(rules=(RedactionRule(headers=("accept",)),)))
    made.add(read(line()))
    made.add(read(line(path="/else")))
    result = made.result()
    assert {place: group.count for place, group in result.redacted.items()} == {"request header accept": 1}


def test_results_share_nothing():
    first = trial(RULES)
    first.add(read(line(path="/else")))
    assert first.result().lost
    assert trial(RULES).result().lost == {}
