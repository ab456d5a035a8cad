"""A replay as JUnit XML, as CI systems read it (pure): a test case an exchange."""

import re
from xml.etree.ElementTree import Element, SubElement, tostring  # made here, not read: nothing foreign is parsed

from sp_proxy.replay.run import Outcome, Report

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot say, however it is written (section 2.2)."""


def junit(report: Report) -> bytes:
    """The document."""
    unanswered = sum(bool(each.no_answer) for each in report.outcomes)
    counts = {
        "tests": len(report.outcomes),
        "failures": report.different - unanswered,
        "errors": unanswered,
        "skipped": report.skipped,
    }
    numbers = {name: str(number) for name, number in counts.items()}
    numbers["time"] = f"{sum(each.took for each in report.outcomes):.3f}"
    suites = Element("testsuites", numbers)
    suite = SubElement(suites, "testsuite", {"name": _clean(f"sp-proxy replay to {report.to}"), **numbers})
    for outcome in report.outcomes:
        _case(suite, outcome)
    document: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return document


def _case(suite: Element, outcome: Outcome) -> None:
    recorded = outcome.recorded
    case = SubElement(
        suite,
        "testcase",
        {
            "classname": _clean(recorded.service or "unknown"),
            "name": _clean(f"{recorded.name[:500]} [{recorded.span_id}]"),
            "time": f"{outcome.took:.3f}",
        },
    )
    if outcome.skipped:
        SubElement(case, "skipped", {"message": _clean(outcome.skipped)})
    elif outcome.no_answer:
        SubElement(case, "error", {"message": _clean(outcome.no_answer), "type": "no answer"})
    elif outcome.comparison is not None:
        found = outcome.comparison.differences
        if found:
            more = f" (and {len(found) + outcome.comparison.more - 1} more)" if len(found) > 1 else ""
            failure = SubElement(case, "failure", {"message": _clean(f"{found[0]}{more}"), "type": "difference"})
            failure.text = _clean("\n".join(map(str, found)))
        if outcome.comparison.notes:
            SubElement(case, "system-out").text = _clean("\n".join(outcome.comparison.notes))


def _clean(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
