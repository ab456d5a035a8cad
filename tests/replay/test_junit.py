from xml.etree.ElementTree import fromstring

from sp_proxy.replay.junit import junit
from sp_proxy.replay.run import Report
from tests.replay.reports import REPORT


def test_every_exchange_is_a_case():
    suites = fromstring(junit(REPORT))
    suite = suites[0]
    assert suite.attrib == {
        "name": "sp-proxy replay to http://target:1",
        "tests": "4",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
        "time": "0.750",
    }
    same, differs, unanswered, skipped = suite
    assert [each.tag for each in same] == ["system-out"]
    assert same.attrib["name"] == f"GET /same [{'b' * 16}]"
    assert differs[0].tag == "failure"
    assert differs[0].attrib["message"] == "status: expected 200, found 500 (and 4 more)"
    assert "<script>alert(1)</script>" in (differs[0].text or "")
    assert [(each.tag, each.attrib["message"]) for each in (unanswered[0], skipped[0])] == [
        ("error", "no answer within 30 seconds"),
        ("skipped", "POST may change something: sent with --unsafe only"),
    ]


def test_nothing_is_a_document_too():
    assert fromstring(junit(Report("http://a", "r", ()))).attrib["tests"] == "0"
