"""The report as lines and as JSON."""

import json

from sp_proxy.doctor.findings import Area, Finding, Verdict, document, lines, worst

AREA = Area("disk")
FOUND = [
    AREA.ok("all well"),
    AREA.skip("not seen", "be root"),
    AREA.warn("little", "free some"),
    AREA.fail("none", "mend"),
]


def test_lines_have_the_advice_below():
    assert lines(FOUND[0], 8) == ["ok    disk      all well"]
    assert lines(FOUND[3], 8) == ["FAIL  disk      none", "                → mend"]


def test_the_worst_decides():
    assert worst([]) is Verdict.OK
    assert [worst(FOUND[:count]) for count in (1, 2, 3, 4)] == [Verdict.OK, Verdict.SKIP, Verdict.WARN, Verdict.FAIL]


def test_json_has_all_of_it():
    made = json.loads(document(FOUND))
    assert made["verdict"] == "fail"
    assert [each["verdict"] for each in made["findings"]] == ["ok", "skip", "warn", "fail"]
    assert made["findings"][2] == {"area": "disk", "verdict": "warn", "text": "little", "advice": "free some"}
    assert isinstance(FOUND[0], Finding)
